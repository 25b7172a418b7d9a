"""sample: HMC of a model, by Pyro's own kernels or by ChEES, on one flat, traced potential."""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pyro
import torch
from pyro.infer import HMC, NUTS
from torch import Tensor
from tqdm.auto import tqdm

from bnn_pyro.inference.batches import as_pair, check_against, seeded
from bnn_pyro.inference.chees import TARGET_ACCEPT, ChEES
from bnn_pyro.inference.draws import Draws
from bnn_pyro.inference.potential import Potential
from bnn_pyro.inference.reparam import noncentered
from bnn_pyro.network import SparseNetwork

Kernel = Literal["nuts", "hmc", "chees"]

SITE = "vector"
"""The one site that Pyro's kernel sees."""


def sample(
    model: Callable[..., Any],
    data: Any,
    *,
    kernel: Kernel = "nuts",
    chains: int = 4,
    warmup: int = 1000,
    draws: int = 1000,
    thinning: int = 1,
    seed: int | None = None,
    progress: bool | None = None,
    target_accept: float | None = None,
    dense_mass: bool = False,
    max_tree_depth: int = 10,
    trajectory_length: float | None = None,
    start: Tensor | None = None,
    compiled: bool = False,
) -> Draws:
    r"""Samples the posterior of a model's latents by Hamiltonian Monte Carlo.

    Slabs are non-centred and gates relaxed, as logits (:func:`~bnn_pyro.inference.reparam.noncentered`). Step size and
    mass matrix adapt during warm-up. The model is left as it is, Pyro's parameter store stays as it was, and so does
    the global random state if there is a seed.

    ``"nuts"`` and ``"hmc"`` are Pyro's kernels, one chain after another; with a seed, a chain is the same however many
    there are. ``"chees"`` (:class:`~bnn_pyro.inference.chees.ChEES`) moves all chains as one batch, which costs little
    more than one of them: give it dozens, and fewer draws of each.

    Args:
        model: A :class:`~bnn_pyro.network.SparseNetwork`, or any Pyro model with continuous latents. A network's points
            (parameters without a slab) stay at their values, and it runs in evaluation mode.
        data: For a network (x, y), or anything with ``x`` and ``y``, or a ``TensorDataset``, all rows of it; for other
            models the tuple of its arguments. Sampling happens on the data's device and in its dtype.
        kernel: ``"nuts"``, ``"hmc"`` with trajectories of one length, or ``"chees"`` with trajectories of one length
            that adapts too.
        chains: Number of chains; two at least for ``"chees"``.
        warmup: Transitions a chain to adapt in, which are thrown away.
        draws: Draws a chain to keep.
        thinning: Transitions a draw.
        seed: Seed of this call; None goes on from the global random state.
        progress: Whether to show a progress bar; None shows it on a terminal.
        target_accept: Acceptance probability that the step size is adapted to; None for 0.8, and 0.651 for ``"chees"``.
        dense_mass: Whether the mass matrix is a full one; not for ``"chees"``.
        max_tree_depth: NUTS and ChEES make at most 2 to the power of it leapfrog steps a transition.
        trajectory_length: Step size times leapfrog steps of a transition of ``"hmc"``; None for :math:`2\pi`.
        start: Starting points in unconstrained coordinates, shape ``(chains, n)``, as the ``vectors`` of a result; None
            draws them uniformly from a cube.
        compiled: Whether to compile the potential, which takes half a minute and pays in longer runs.

    Returns:
        The draws.

    Raises:
        ValueError: If an option is out of range, the data do not fit the model, or the model has no such potential.

    Source: Hoffman, Gelman (2014), *The No-U-Turn sampler*; Betancourt (2017), *A conceptual introduction to
    Hamiltonian Monte Carlo*; Hoffman, Radul, Sountsov (2021), *An adaptive-MCMC scheme for setting trajectory lengths
    in Hamiltonian Monte Carlo*.
    """
    plan = _Plan(kernel, chains, warmup, draws, thinning, target_accept, dense_mass, max_tree_depth, trajectory_length)
    started = time.perf_counter()
    with _posterior(model, data) as (program, args):
        potential = Potential(noncentered(program), *args, compiled=compiled)
        _check_start(start, chains, potential)
        with tqdm(total=plan.total, unit="draw", disable=None if progress is None else not progress) as bar:
            run = _together if kernel == "chees" else _in_turn
            vectors, numbers = run(plan, potential, start, seed, bar)
        values = potential.unflatten(vectors)
    return Draws(values, vectors, **numbers, seconds=time.perf_counter() - started)


@dataclass(frozen=True)
class _Plan:
    """What ``sample`` was told to do."""

    kernel: str
    chains: int
    warmup: int
    draws: int
    thinning: int
    target_accept: float | None
    dense_mass: bool
    max_tree_depth: int
    trajectory_length: float | None

    def __post_init__(self) -> None:
        for name in ("chains", "warmup", "draws", "thinning", "max_tree_depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.kernel not in get_args(Kernel):
            raise ValueError(f"kernel must be one of {', '.join(get_args(Kernel))}, got {self.kernel!r}")
        if self.target_accept is not None and not 0 < self.target_accept < 1:
            raise ValueError(f"target_accept must lie in (0, 1), got {self.target_accept}")
        length = self.trajectory_length
        if length is not None and not (self.kernel == "hmc" and length > 0):
            raise ValueError(f"trajectory_length must be positive, and is of kernel='hmc', got {length}")
        if self.kernel == "chees" and (self.dense_mass or self.chains < 2):
            raise ValueError(
                "kernel='chees' needs at least 2 chains and has no dense_mass, "
                f"got chains={self.chains}, dense_mass={self.dense_mass}"
            )

    @property
    def total(self) -> int:
        """Transitions that the progress bar counts: those of a batch once."""
        return (1 if self.kernel == "chees" else self.chains) * (self.warmup + self.draws * self.thinning)

    def pyro_kernel(self, energy: Callable[..., Tensor]) -> HMC:
        """Returns Pyro's kernel on a potential."""
        target = 0.8 if self.target_accept is None else self.target_accept
        options: dict[str, Any] = {"target_accept_prob": target, "full_mass": self.dense_mass}
        if self.kernel == "nuts":
            return NUTS(potential_fn=energy, max_tree_depth=self.max_tree_depth, **options)
        return HMC(potential_fn=energy, trajectory_length=self.trajectory_length, **options)


# ---- all chains as one batch -----------------------------------------------------------------------------------------


def _together(
    plan: _Plan, potential: Potential, start: Tensor | None, seed: int | None, bar: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    """Runs ChEES; returns the draws, shape ``(chains, draws, n)``, and how the chains went."""
    target = TARGET_ACCEPT if plan.target_accept is None else plan.target_accept
    with seeded(seed, potential.like.device):
        points = potential.starts(plan.chains) if start is None else start.to(potential.like)
        sampler = ChEES(potential, points, target_accept=target, max_leapfrogs=2**plan.max_tree_depth)
        sampler.warm_up(plan.warmup, bar.update)
        moves, vectors, energy = [], [], []
        for number in range(1, plan.draws * plan.thinning + 1):
            moves.append(sampler.transition())
            bar.update()
            if number % plan.thinning == 0:
                vectors.append(sampler.position)
                energy.append(sampler.energy)
    numbers = {
        "energy": torch.stack(energy, 1),
        "divergences": torch.stack([move.diverged for move in moves]).sum(0),
        "acceptance": torch.stack([move.acceptance for move in moves]).mean(0),
        "step_size": potential.like.new_full((plan.chains,), sampler.step_size),
        "leapfrogs": torch.full((plan.chains,), sum(m.leapfrogs for m in moves), device=potential.like.device),
        "inverse_mass": sampler.scale.square().repeat(plan.chains, 1),
    }
    return torch.stack(vectors, 1), numbers


# ---- Pyro's kernels, one chain after another -------------------------------------------------------------------------


def _in_turn(
    plan: _Plan, potential: Potential, start: Tensor | None, seed: int | None, bar: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    """Runs the chains; returns the draws, shape ``(chains, draws, n)``, and how the chains went."""
    with seeded(seed, potential.like.device):
        seeds = [int(number) for number in torch.randint(2**62, (plan.chains,))]
    points = [None] * plan.chains if start is None else list(start.to(potential.like).clone())
    found = [_chain(plan, potential, point, number, bar) for point, number in zip(points, seeds, strict=True)]
    numbers = {name: torch.stack([chain[1][name] for chain in found]) for name in found[0][1]}
    vectors = torch.stack([vectors for vectors, _ in found])
    return vectors, {**numbers, "energy": torch.stack([potential(draw) for draw in vectors.unbind(1)], 1)}


def _chain(
    plan: _Plan, potential: Potential, start: Tensor | None, seed: int, bar: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    with seeded(seed, potential.like.device), pyro.validation_enabled(False):
        point = potential.starts(1)[0] if start is None else start.detach()
        energy = _Energy(potential)
        kernel = plan.pyro_kernel(energy)
        kernel.initial_params = {SITE: point}
        kernel.setup(plan.warmup)
        step = _stepper(kernel, bar)
        for _ in range(plan.warmup):
            step()
        energy.calls = 0
        vectors = [[step() for _ in range(plan.thinning)][-1] for _ in range(plan.draws)]
        return torch.stack(vectors), _numbers(kernel, energy.calls, point)


class _Energy:
    """The potential as Pyro's kernels call it, counting the calls: one a leapfrog step."""

    def __init__(self, potential: Potential) -> None:
        self.potential, self.calls = potential, 0

    def __call__(self, values: dict[str, Tensor]) -> Tensor:
        self.calls += 1
        found: Tensor = _WithGradient.apply(values[SITE], self.potential)
        return found


class _WithGradient(torch.autograd.Function):
    """A potential whose gradient comes with its value, for those who ask for it by autograd."""

    @staticmethod
    def forward(ctx: Any, vector: Tensor, potential: Potential) -> Tensor:
        value, gradient = potential.value_and_gradient(vector.detach())
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    def backward(ctx: Any, *slope: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return slope[0] * gradient, None


def _stepper(kernel: HMC, bar: Any) -> Callable[[], Tensor]:
    """Returns the function that makes a transition and returns where it leads."""
    state = kernel.initial_params

    def step() -> Tensor:
        nonlocal state
        state = kernel.sample(state)
        bar.update()
        if not bar.disable:
            bar.set_postfix(kernel.logging(), refresh=False)
        found: Tensor = state[SITE]
        return found.detach().clone()

    return step


def _numbers(kernel: HMC, leapfrogs: int, like: Tensor) -> dict[str, Tensor]:
    """Returns how a chain went."""
    (inverse_mass,) = kernel.inverse_mass_matrix.values()
    numbers = {
        "divergences": torch.tensor(len(kernel.diagnostics()["divergences"])),
        "acceptance": torch.tensor(float(kernel.logging()["acc. prob"])),
        "step_size": torch.tensor(float(kernel.step_size)),
        "leapfrogs": torch.tensor(leapfrogs),
    }
    return {**{name: number.to(like.device) for name, number in numbers.items()}, "inverse_mass": inverse_mass}


# ---- what is sampled -------------------------------------------------------------------------------------------------


@contextmanager
def _posterior(model: Callable[..., Any], data: Any) -> Iterator[tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Gives the model and its arguments; a network as a copy that fits its data, in evaluation mode."""
    if not isinstance(model, SparseNetwork):
        yield model, data if isinstance(data, tuple) else (data,)
        return
    x, y = as_pair("data", data)
    network = copy.deepcopy(model).to(x)
    if network.num_data != len(x):
        raise ValueError(f"num_data must be the number of rows of data ({len(x)}), got {network.num_data}")
    check_against("data", network, x, y)
    with pyro.get_param_store().scope(), network.evaluating():
        yield network, (x, y)


def _check_start(start: Tensor | None, chains: int, potential: Potential) -> None:
    if start is not None and start.shape != (chains, potential.size):
        raise ValueError(f"start must have shape ({chains}, {potential.size}), got {tuple(start.shape)}")
