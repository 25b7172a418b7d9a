"""MCLMCWarmUp: step size, scale and length of microcanonical Langevin dynamics."""

import math

import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.curvature import curvature, factors
from bnn_pyro.inference.mcmc.kernel import BatchMove, State
from bnn_pyro.inference.mcmc.mclmc import MCLMC
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.pseudo_prior import Draw
from bnn_pyro.inference.mcmc.running_moments import Moments

TARGET_ERROR = 5e-4
"""Mean squared energy error of a step per coordinate."""
_ROUGH = 40.0  # times the target, at first
_ENDS = (0.1, 0.3, 0.7)  # of the warm-up: after them the scale is that of the draws since the last
_MEMORY, _WIDTH = 0.99, 9.0  # of the step size: steps that count, and how far from the target an error may be to count
_SHRINK = 0.8  # of the step size where all chains have bounced
_FIRST_STEP = 0.01  # times the root of n
_LEAST = 1e-10  # of the step size


class StepSizeByError:
    r"""The step size of which the energy error is a target, by the law :math:`E[\Delta E^2] \propto \epsilon^6`.

    With :math:`\xi = E[\Delta E^2] / (n \cdot \text{target})`, averaged over chains, the step size is
    :math:`\epsilon = (\overline{\xi / \epsilon^6})^{-1/6}`, the mean over about the last hundred steps, weighted by
    :math:`\exp(-\tfrac12 (\log \xi / 9)^2)`. Chains that turn back have no such error: in a step in which all do it
    becomes 0.8 of what it was, in one in which a part does that power of it, and the mean remembers.

    Args:
        entries: n.

    Source: Robnik, De Luca, Silverstein, Seljak (2023), *Microcanonical Hamiltonian Monte Carlo*.
    """

    def __init__(self, entries: int) -> None:
        self.entries, self.total, self.weights = entries, 0.0, 0.0

    def update(self, step_size: float, error: float, bounced: float, target: float) -> float:
        """Return the next step size.

        Args:
            step_size: The present one.
            error: Mean squared energy error of the chains that have not bounced; 0 where none is left.
            bounced: The part of the chains that have.
            target: What it is to be, for each coordinate.
        """
        if bounced < 1:
            ratio = error / (self.entries * target) + 1e-8
            weight = math.exp(-0.5 * (math.log(ratio) / _WIDTH) ** 2)
            self.total = _MEMORY * self.total + weight * ratio / step_size**6
            self.weights = _MEMORY * self.weights + weight
        self.total *= _SHRINK ** (-6 * bounced)
        if not self.weights:
            return max(step_size * _SHRINK, _LEAST)
        found: float = (self.total / self.weights) ** (-1 / 6)
        return max(found, _LEAST)


class MCLMCWarmUp:
    r"""Adapts the step size of MCLMC to an energy error, its scale to the draws, and its length to the dimension.

    The error may be larger at first, :math:`40` times the target, and falls to it in the first 7 tenths, so that chains
    come fast to where the posterior has its mass. The scale is set after 1, 3 and 7 tenths of the warm-up to the
    standard deviations of the draws since the last time, over all chains and steps. The length is :math:`\sqrt n`, in
    coordinates of unit variance.

    Where scales are to be full each chain has a matrix of its own, from the
    :func:`~bnn_pyro.inference.mcmc.curvature.curvature` where it is at these times, averaged with the one before: the
    posterior of a network is far longer than it is wide, in directions that differ from mode to mode.

    Args:
        kernel: What it adapts; its step size and length are set at once.
        target_error: Mean squared energy error of a step per coordinate, :math:`E[\Delta E^2] / n`.
        is_full: Whether each chain gets a full scale of its own.
    """

    def __init__(self, kernel: MCLMC, *, target_error: float = TARGET_ERROR, is_full: bool = False) -> None:
        self.kernel, self.target_error, self.is_full = kernel, target_error, is_full
        self._spread, self._curvature, self._windows = torch.ones_like(kernel.scale), kernel.scale.new_zeros(()), 0
        root = math.sqrt(len(kernel.scale))
        kernel.step_size, kernel.length = _FIRST_STEP * root, root
        self._begin_window()

    @property
    def shortfall(self) -> str:
        """Nothing: this warm-up is not judged."""
        return ""

    def adapt(self, number: int, transitions: int) -> BatchMove:
        """Make a transition of the warm-up, and adapt the kernel to it; the host waits for the device here, once.

        Args:
            number: Which one, from 1.
            transitions: How many the warm-up has.
        """
        kernel, move = self.kernel, self.kernel.transition()
        fine = ~move.diverged
        squares = torch.where(fine, move.energy_error, torch.zeros_like(move.energy_error)).square().sum()
        total, count = torch.stack([squares, fine.sum().to(squares)]).tolist()
        target = self._target(number / transitions)
        bounced = 1 - count / len(fine)
        kernel.step_size = self._step_size.update(kernel.step_size, total / max(count, 1), bounced, target)
        self._moments.add(kernel.position, torch.ones_like(kernel.position, dtype=torch.bool))
        ended = sum(number >= round(end * transitions) for end in _ENDS)
        if ended > self._windows:  # by one, or by more where the warm-up was shortened
            self._windows = ended
            self._spread = self._moments.scale(self._spread)
            self._rescale(self._full_scale() if self.is_full else self._spread)
            self._begin_window()
        return move

    def _target(self, part: float) -> float:
        """Return the energy error to aim at after a part of the warm-up."""
        factor: float = _ROUGH ** max(0.0, 1 - part / _ENDS[-1])
        return self.target_error * factor

    def _begin_window(self) -> None:
        self._step_size, self._moments = StepSizeByError(len(self._spread)), Moments(self._spread)

    def _full_scale(self) -> Tensor:
        """Return scales by the curvature where the chains are and where they were the last time."""
        unscaled = curvature(self.kernel.potential, self.kernel.position, self._spread)
        unscaled = unscaled / self._spread.double().outer(self._spread.double())
        self._curvature = (self._curvature + unscaled) / 2 if self._curvature.dim() else unscaled
        return factors(self._curvature * self._spread.double().outer(self._spread.double()), self._spread)

    def _rescale(self, scale: Tensor) -> None:
        """Change the scale; the step size stays the same in the model's own coordinates, on average."""
        kernel = self.kernel
        kernel.step_size *= math.exp(_log_size(kernel.scale) - _log_size(scale))
        kernel.scale = scale

    def state_dict(self) -> State:
        """Return what the rest of the warm-up depends on besides the kernel's state."""
        own = {"spread": self._spread, "curvature": self._curvature, "windows": self._windows}
        return {"step_size": dict(vars(self._step_size)), "moments": dict(vars(self._moments)), **own}

    def load_state_dict(self, state: State) -> None:
        """Resume from the state of another warm-up.

        Args:
            state: Its state, on the kernel's device.
        """
        vars(self._step_size).update(state["step_size"])
        vars(self._moments).update(state["moments"])
        self._spread, self._curvature, self._windows = state["spread"], state["curvature"], state["windows"]


def _log_size(scale: Tensor) -> float:
    """Return the mean logarithm of a scale over coordinates and chains."""
    if scale.dim() == 1:
        return float(scale.log().mean())
    return float(torch.linalg.slogdet(scale.movedim(-1, 0).double()).logabsdet.mean()) / len(scale)


def mclmc_batch(
    plan: SamplingPlan, potential: Potential, start: Tensor | None, pseudo_prior: Draw | None
) -> tuple[MCLMC, MCLMCWarmUp]:
    """Return the kernel and the warm-up of a plan for ``kernel="mclmc"``.

    Args:
        plan: The plan.
        potential: The potential energy.
        start: Starting points, shape ``(chains, n)``; None draws them.
        pseudo_prior: None: it is for exact gates.
    """
    points = potential.starts(plan.chains) if start is None else start.to(potential.like)
    kernel = MCLMC(potential, points, step_size=1.0, length=1.0)
    error = TARGET_ERROR if plan.target_error is None else plan.target_error
    return kernel, MCLMCWarmUp(kernel, target_error=error, is_full=plan.dense_mass)
