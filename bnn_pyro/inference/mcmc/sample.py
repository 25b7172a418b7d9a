"""sample: Markov chains of a model, by Pyro's own kernels or as one batch, on one flat, traced potential."""

import copy
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

import pyro
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from bnn_pyro.arguments import check_choice, check_seed, check_type, check_types
from bnn_pyro.devices import checked_device
from bnn_pyro.inference.checkpoint import Checkpoint
from bnn_pyro.inference.checks import Data, as_pair, check_against, warn_of_scales
from bnn_pyro.inference.generators import seeded
from bnn_pyro.inference.mcmc.checkpoint import RunFile
from bnn_pyro.inference.mcmc.loop import drive, drive_until
from bnn_pyro.inference.mcmc.plan import Kernel, SamplingPlan
from bnn_pyro.inference.mcmc.potential.exact_gate_potential import SpikePotential
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.runs import BatchRun, Run, begin
from bnn_pyro.inference.mcmc.starts import starting_points
from bnn_pyro.inference.mcmc.stopping import StoppingRule
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.diagnostics import LEAST_DRAWS, r_hat, r_hat_summary
from bnn_pyro.posterior.draws import Draws
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.posterior.sampled import SampledPosterior, some_rows
from bnn_pyro.posterior.threads import driving
from bnn_pyro.tracing.engine import ENGINES, EngineName

logger = logging.getLogger(__name__)

COMPILE_CALLS = 50_000  # gradients after which the seconds of compiling have come back
_LEAPFROGS = 16  # a guess at a transition's; one of mclmc has 2


@overload
def sample(
    model: SparseNetwork,
    data: Data,
    plan: SamplingPlan = ...,
    *,
    seed: int | None = ...,
    progress: bool | None = ...,
    start: Tensor | Literal["ensemble"] | None = ...,
    until: StoppingRule | None = ...,
    pseudo_prior: GuidePosterior | Callable[..., object] | None = ...,
    engine: EngineName = ...,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = ...,
    device: str | torch.device | None = ...,
) -> SampledPosterior: ...


@overload
def sample(
    model: Callable[..., object],
    data: Data,
    plan: SamplingPlan = ...,
    *,
    seed: int | None = ...,
    progress: bool | None = ...,
    start: Tensor | Literal["ensemble"] | None = ...,
    until: StoppingRule | None = ...,
    pseudo_prior: GuidePosterior | Callable[..., object] | None = ...,
    engine: EngineName = ...,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = ...,
    device: str | torch.device | None = ...,
) -> Draws: ...


def sample(
    model: Callable[..., object],
    data: Data,
    plan: SamplingPlan = SamplingPlan(),  # noqa: B008  (frozen)
    *,
    seed: int | None = None,
    progress: bool | None = None,
    start: Tensor | Literal["ensemble"] | None = None,
    until: StoppingRule | None = None,
    pseudo_prior: GuidePosterior | Callable[..., object] | None = None,
    engine: EngineName = "auto",
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    device: str | torch.device | None = None,
) -> SampledPosterior | Draws:
    r"""Sample the posterior of a model's latents by Hamiltonian Monte Carlo, or by microcanonical dynamics.

    Normals that depend on other latents are non-centred, and gates relaxed, as logits
    (:func:`~bnn_pyro.inference.mcmc.potential.noncentered.noncentered`). Step size and mass matrix adapt during
    warm-up. The model is left as it is, Pyro's parameter store stays as it was, and so does the global random state if
    there is a seed. Chains that have not mixed, divergences, and a network's inputs or targets that are far from unit
    scale are logged as warnings.

    Relaxed gates are another model than the true spike and slab. With ``gates="exact"`` they are exactly 0 or 1, drawn
    by Gibbs between the moves of ``"chees"`` (:class:`~bnn_pyro.inference.mcmc.exact_gates.ExactGates`): the true
    posterior, for small networks. Closed slabs are then 0 in the draws.

    With a checkpoint, a run that was stopped is resumed where it was last saved when it is called again with the same
    arguments, and gives the draws that it would have given. Ctrl-C lets the transition end and saves it.

    Args:
        model: A :class:`~bnn_pyro.network.SparseNetwork`, or any Pyro model with continuous latents. A network's points
            (parameters without a slab) stay at their values, and it runs in evaluation mode.
        data: For a network (x, y), or anything with ``x`` and ``y``, or a ``TensorDataset``, all rows of it; for other
            models the tuple of its arguments. Sampling happens on the data's device and in its dtype.
        plan: The kernel, the number and length of the chains, and what kind of gates they sample.
        seed: Seed of this call; None continues from the global random state.
        progress: Whether to show a progress bar; None shows it on a terminal.
        pseudo_prior: For exact gates a fitted posterior of the model, or a guide called with the model's arguments:
            what closed slabs are drawn from at first, so that gates find good weights to open with. None begins with
            the prior.
        start: Starting points in unconstrained coordinates, shape ``(chains, n)``, as the ``vectors`` of a result or of
            :func:`~bnn_pyro.inference.mcmc.starts.starting_points`; ``"ensemble"`` trains one dense net per chain to
            start at, for a network; None draws them uniformly from a cube.
        until: For the kernels that move all chains as one batch, a rule by which they go on until they have mixed; None
            makes the plan's transitions.
        engine: How the potential is computed: ``"compiled"``, which takes half a minute, ``"traced"``, ``"eager"``, or
            ``"auto"``, which compiles for long runs.
        checkpoint: A file to save the run's state in, after every 100 transitions or as often as a
            :class:`~bnn_pyro.inference.checkpoint.Checkpoint` says; None saves it nowhere.
        device: Where to compute, such as ``"cuda"``, to which data and copies are moved; None for the data's device.

    Returns:
        For a network its posterior, with the ``draws``; for other models the draws.

    Raises:
        ValueError: If an option is out of range, the data do not fit the model, the model has no such potential, or
            the checkpoint is of another run.

    Source: Hoffman, Gelman (2014), *The No-U-Turn sampler*; Betancourt (2017), *A conceptual introduction to
    Hamiltonian Monte Carlo*; Hoffman, Radul, Sountsov (2021), *An adaptive-MCMC scheme for setting trajectory lengths
    in Hamiltonian Monte Carlo*; Carlin, Chib (1995), *Bayesian model choice via Markov chain Monte Carlo methods*.
    """
    check_types({"plan": (plan, SamplingPlan)} | ({} if until is None else {"until": (until, StoppingRule)}))
    check_seed(seed, progress)
    if not callable(model):
        raise TypeError(f"model must be a SparseNetwork or a function, got {type(model).__name__}")
    data = _moved(model, data, device)
    draw_slabs = _pseudo_prior(plan.gates, pseudo_prior)
    if until is not None and not plan.is_batch:
        raise ValueError(f"until is for kernels that move all chains as one batch, got it with {plan.kernel!r}")
    if until is not None:
        check_draws(plan)
    if isinstance(start, str) and not (start == "ensemble" and isinstance(model, SparseNetwork)):
        raise ValueError(f"start must be points, None, or 'ensemble' for a network, got {start!r}")
    saving = Checkpoint.of(checkpoint)
    own_seed = int(torch.randint(2**62, (), device="cpu")) if seed is None else seed
    if isinstance(start, str) and saving is not None and Path(saving.path).exists():
        points: Tensor | None = None  # the run is resumed where it was
    elif isinstance(start, str):
        given: dict[str, Any] = {"chains": plan.chains, "sites": plan.noncentered, "seed": own_seed}
        points = starting_points(model, data, start, progress=progress, **given)
    else:
        points = start
    with driving("sample"), _posterior(model, data) as (program, args):
        potential = potential_of(program, args, engine, plan)
        _check_start(points, plan.chains, potential)
        file = None
        if saving is not None:
            options: dict[str, Any] = {"start": start, "seed": seed, "until": until, "pseudo_prior": pseudo_prior}
            file = RunFile(saving, plan, potential, args, model=program, **options)
        with seeded(own_seed, potential.like.device):
            run = begin(plan, potential, points, None if draw_slabs is None else partial(draw_slabs, *args))

            def answer(seconds: float = 0.0) -> SampledPosterior | Draws:
                found = _draws(run, potential, plan.kernel, seconds)
                return SampledPosterior(program, found) if isinstance(program, SparseNetwork) else found

            if until is None or not isinstance(run, BatchRun):
                found = answer(drive(run, file, progress=progress))
            else:
                seconds, ratio = drive_until(run, until, lambda: _r_hat(answer(), args), file, progress=progress)
                found = answer(seconds)
                _report(until, run, ratio)
    if isinstance(run, BatchRun) and run.shortfall:
        logger.warning(
            "the warm-up has not adapted after %d transitions: %s; give a longer warmup, or another parameterisation",
            run.warmup_transitions,
            run.shortfall,
        )
    for problem in _problems(found, args, convergence=until is None):
        logger.warning(problem)
    return found


def check_draws(plan: SamplingPlan) -> None:
    """Refuse a plan that keeps too few draws for R-hat.

    Args:
        plan: The plan.

    Raises:
        ValueError: If there are fewer than 4 draws per chain.
    """
    if plan.draws < LEAST_DRAWS:
        raise ValueError(f"plan.draws must be at least {LEAST_DRAWS} for chains to be judged, got {plan.draws}")


def _problems(found: SampledPosterior | Draws, args: tuple[Any, ...], convergence: bool) -> list[str]:
    """Return what is wrong with chains, by the predictions on some training rows where there are any."""
    if isinstance(found, Draws):
        return found.problems(convergence=convergence)
    return found.problems(some_rows(args[0]), convergence=convergence)


def _r_hat(found: SampledPosterior | Draws, args: tuple[Any, ...]) -> Tensor:
    """Return R-hat of the predictions on some training rows, and of the entries of all sites where there are none."""
    if isinstance(found, Draws):
        return torch.cat([r_hat(value).reshape(-1) for value in found.values.values()])
    return found.prediction_r_hat(some_rows(args[0]))


def _report(rule: StoppingRule, run: BatchRun, r_hat: Tensor) -> None:
    """Say why the run has ended; a warning where its chains have not mixed."""
    median, tail = r_hat_summary(r_hat)
    made = f"{run.done} transitions, {run.warmup_transitions} of them of warm-up, in {run.rounds} rounds"
    found = f"R-hat is {median:.3f} in the median and {tail:.3f} at 95 %"
    if rule.is_met(r_hat):
        logger.info("the chains have mixed: %s, after %s", found, made)
        return
    made_all = run.rounds >= rule.rounds and run.done >= run.total
    limit = f"{rule.rounds} rounds are over" if made_all else f"{rule.seconds:g} seconds are over"
    logger.warning(
        "the chains have not mixed: %s, not below %g and %g, after %s: the %s",
        found,
        rule.median,
        rule.tail,
        made,
        limit,
    )


def potential_of(
    program: Callable[..., object], args: tuple[object, ...], engine: EngineName, plan: SamplingPlan
) -> Potential:
    """Return the potential that a plan samples, computed as asked for; where it cannot be compiled it runs traced.

    Args:
        program: The model.
        args: Its arguments.
        engine: As for :func:`sample`; ``"auto"`` compiles for long runs.
        plan: The plan.

    Raises:
        ValueError: If ``engine`` is unknown, or is not for the plan's gates.
    """

    def made(compiled: bool) -> Potential:
        if plan.gates == "exact":
            return SpikePotential(program, *args, compiled=compiled)
        return Potential(noncentered(program, plan.noncentered), *args, compiled=compiled, traced=engine != "eager")

    check_choice("engine", engine, ENGINES)
    if engine == "eager" and plan.gates == "exact":
        raise ValueError("engine='eager' is for relaxed gates, got it with gates='exact': take 'traced'")
    if not (engine == "compiled" or (engine == "auto" and _is_long(plan))):
        return made(False)
    potential = made(True)
    places = potential.like.new_zeros(plan.chains, potential.size)
    try:
        potential.value_and_gradient(places if plan.is_batch else places[0])
    except Exception as error:  # no compiler, or an operation that it does not know
        logger.warning("the potential runs traced, as it cannot be compiled: %s", error)
        return made(False)
    return potential


def _is_long(plan: SamplingPlan) -> bool:
    """Whether compiling pays; a batch costs less than its chains."""
    chains = 1 + plan.chains / 8 if plan.is_batch else plan.chains
    leapfrogs = 2 if plan.kernel == "mclmc" else _LEAPFROGS
    return chains * plan.transitions * leapfrogs > COMPILE_CALLS


def _draws(run: Run, potential: Potential, kernel: Kernel, seconds: float) -> Draws:
    kept = run.result()
    return Draws(
        values=potential.unflatten(kept["vectors"]),
        vectors=kept["vectors"],
        energy=kept["energy"],
        total_energy=kept["total_energy"],
        acceptance=kept["acceptance"],
        diverged=kept["diverged"],
        leapfrogs=kept["leapfrogs"],
        step_size=kept["step_size"],
        inverse_mass=kept["inverse_mass"],
        kernel=kernel,
        thinning=run.track.thinning,
        seconds=seconds,
    )


# ---- what is sampled -------------------------------------------------------------------------------------------------


def _moved(model: Callable[..., object], data: Data, device: str | torch.device | None) -> Data:
    """Return the data on a device; as they are where none is named."""
    if device is None:
        return data
    if isinstance(model, SparseNetwork):
        return as_pair("data", data, device=device)
    place = checked_device(device)
    return tree_map_only(Tensor, lambda tensor: tensor.to(place), data)


@contextmanager
def _posterior(model: Callable[..., object], data: Data) -> Iterator[tuple[Callable[..., object], tuple[object, ...]]]:
    """Gives the model and its arguments; a network as a copy that fits its data, in evaluation mode."""
    if not isinstance(model, SparseNetwork):
        yield model, data if isinstance(data, tuple) else (data,)
        return
    x, y = as_pair("data", data, model.layout, likelihood=model.likelihood)
    network = copy.deepcopy(model).to(x)
    if network.num_data != len(x):
        raise ValueError(f"num_data must be the number of rows of data ({len(x)}), got {network.num_data}")
    check_against("data", network, x, y)
    warn_of_scales(x, y, network.likelihood, network.layout)
    with pyro.get_param_store().scope(), network.evaluating():
        yield network, (x, y)


def _pseudo_prior(gates: str, given: object) -> Callable[..., dict[str, Tensor]] | None:
    """Return the function that draws the slabs of a pseudo-prior, given the model's arguments."""
    if given is None:
        return None
    if gates != "exact":
        raise ValueError(f"pseudo_prior is for gates='exact', got it with gates={gates!r}")
    guide = (lambda *args: given.guide()) if isinstance(given, GuidePosterior) else given
    if not callable(guide):
        raise ValueError(f"pseudo_prior must be a posterior of fit, or a guide, got {type(given).__name__}")

    def draw(*args: object) -> dict[str, Tensor]:
        with pyro.get_param_store().scope():
            drawn: dict[str, Tensor] = guide(*args)
            return drawn

    return draw


def _check_start(start: Tensor | None, chains: int, potential: Potential) -> None:
    if start is None:
        return
    check_type("start", start, Tensor)
    if start.shape != (chains, potential.size):
        raise ValueError(f"start must have shape ({chains}, {potential.size}), got {tuple(start.shape)}")
    if not start.is_floating_point() or not start.isfinite().all():
        raise ValueError(f"start must be finite real numbers, got {start.dtype} with NaN or infinite values")
