"""One chain of Pyro's HMC or NUTS on a flat potential, which can stop after any transition and go on elsewhere."""

from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro.infer import HMC
from torch import Tensor
from torch.autograd.function import BackwardCFunction, FunctionCtx
from torch.utils._pytree import tree_map_only

from bnn_pyro.inference.mcmc.kernel import Move, State
from bnn_pyro.inference.mcmc.nuts_tree import FlatTrees
from bnn_pyro.inference.mcmc.potential.potential import Potential

SITE = "vector"
"""The one site that Pyro's kernel sees."""


class PyroChain:
    r"""A chain that Pyro's own kernel moves, its step size and mass matrix adapting in the first transitions.

    Randomness is that of the global generators; a chain that is to go on as if it had never stopped needs their states
    besides its own.

    Args:
        potential: The potential energy.
        start: Where it starts, shape ``(n,)``.
        kernel: ``"nuts"`` or ``"hmc"``.
        warmup: Transitions to adapt in.
        target_accept: Acceptance probability that the step size is adapted to.
        dense_mass: Whether the mass matrix is a full one.
        max_tree_depth: NUTS makes less than 2 to the power of it leapfrog steps a transition.
        trajectory_length: Step size times leapfrog steps of a transition of HMC; None for :math:`2\pi`.
    """

    def __init__(
        self,
        potential: Potential,
        start: Tensor,
        *,
        kernel: str,
        warmup: int,
        target_accept: float,
        dense_mass: bool = False,
        max_tree_depth: int = 10,
        trajectory_length: float | None = None,
    ) -> None:
        self._energy, self._warmup = _Energy(potential), warmup
        options: dict[str, object] = {"target_accept_prob": target_accept, "full_mass": dense_mass}
        make: Callable[..., Any] = _NUTS if kernel == "nuts" else _HMC
        options |= {"max_tree_depth": max_tree_depth} if kernel == "nuts" else {"trajectory_length": trajectory_length}
        self.kernel = make(potential_fn=self._energy, **options)
        self.kernel.initial_params = {SITE: start.detach().clone()}
        with pyro.validation_enabled(False):
            self.kernel.setup(warmup)

    @property
    def position(self) -> Tensor:
        """Where the chain is, shape ``(n,)``."""
        found: Tensor = self.kernel._z_last[SITE]
        return found.detach().clone()

    @property
    def energy(self) -> Tensor:
        """The potential energy there, shape ``()``."""
        found: Tensor = self.kernel._potential_energy_last
        return found.detach()

    @property
    def step_size(self) -> float:
        """The step size, adapted so far."""
        return float(self.kernel.step_size)

    @property
    def inverse_mass(self) -> Tensor:
        """The variances that the mass matrix assumes, shape ``(n,)``, or covariances, ``(n, n)``."""
        (found,) = self.kernel.inverse_mass_matrix.values()
        inverse: Tensor = found
        return inverse

    def advance(self) -> Move:
        """Makes a transition.

        Returns:
            How it went.
        """
        kernel, energy = self.kernel, self.energy
        calls, divergences, mean = self._energy.calls, len(kernel._divergences), kernel._mean_accept_prob
        with pyro.validation_enabled(False):
            kernel.sample(kernel._z_last)
        number = kernel._t - (self._warmup if kernel._t > self._warmup else 0)
        return Move(
            acceptance=energy.new_tensor(mean + number * (kernel._mean_accept_prob - mean)),  # it keeps the mean alone
            diverged=torch.tensor(len(kernel._divergences) > divergences, device=energy.device),
            leapfrogs=torch.tensor(self._energy.calls - calls, device=energy.device),
            total_energy=energy + kernel._kinetic_energy(kernel.momentum),
        )

    def state_dict(self) -> State:
        """Returns all that the chain's future depends on, but the states of the generators."""
        kernel, adapter = self.kernel, self.kernel._adapter
        (welford,) = adapter.mass_matrix_adapter._adapt_scheme.values()
        state = {
            "position": kernel._z_last[SITE],
            "energy": kernel._potential_energy_last,
            "gradient": kernel._z_grads_last[SITE],
            "counts": [kernel._t, kernel._accept_cnt, kernel._mean_accept_prob, list(kernel._divergences)],
            "step_size": adapter.step_size,
            "averaging": dict(vars(adapter._step_size_adapt_scheme)),
            "window": adapter._current_window,
            "inverse_mass": self.inverse_mass,
            "welford": dict(vars(welford)),
        }
        copied: State = tree_map_only(Tensor, lambda tensor: tensor.detach().clone(), state)
        return copied

    def load_state_dict(self, state: State) -> None:
        """Goes to where another chain with the same options was.

        Args:
            state: Its state.
        """
        kernel, adapter = self.kernel, self.kernel._adapter
        masses = adapter.mass_matrix_adapter
        state = tree_map_only(Tensor, lambda tensor: tensor.to(self.position.device, copy=True), state)
        kernel._cache({SITE: state["position"]}, state["energy"], {SITE: state["gradient"]})
        kernel._t, kernel._accept_cnt, kernel._mean_accept_prob, kernel._divergences = state["counts"]
        adapter.step_size, adapter._current_window = state["step_size"], state["window"]
        vars(adapter._step_size_adapt_scheme).update(state["averaging"])
        (sites,) = masses.inverse_mass_matrix
        masses.inverse_mass_matrix = {sites: state["inverse_mass"]}
        vars(masses._adapt_scheme[sites]).update(state["welford"])


class _HMC(HMC):
    """Pyro's HMC, which keeps the momentum that a transition starts with."""

    def _sample_r(self, name: str) -> tuple[dict[str, Tensor], dict[tuple[str, ...], Tensor]]:
        scaled, self.momentum = super()._sample_r(name)  # type: ignore[no-untyped-call]
        return scaled, self.momentum


class _NUTS(_HMC, FlatTrees):
    """Pyro's NUTS likewise."""


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
    def forward(ctx: FunctionCtx, vector: Tensor, potential: Potential) -> Tensor:
        value, gradient = potential.value_and_gradient(vector.detach())
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    def backward(ctx: BackwardCFunction, *slope: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return slope[0] * gradient, None
