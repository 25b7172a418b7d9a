"""ChEES-HMC: many chains as one batch, whose trajectories are as long as moves the chains farthest."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.ops.dual_averaging import DualAveraging
from torch import Tensor

from bnn_pyro.inference.potential import Potential

TARGET_ACCEPT = 0.651  # where HMC of a fixed length is most efficient (Beskos et al. 2013)
_WINDOWS = (0.1, 0.25, 0.5, 0.8)  # parts of the warm-up after which the mass matrix is that of the draws since the last
_RATE, _DECAY = 0.025, 0.95  # of Adam on the logarithm of the length
_MAX_ERROR = 1000.0  # an energy error beyond it is a divergence, as in Pyro


@dataclass(frozen=True, eq=False)
class Move:
    """A transition of all chains: where it led, and what it tells about step size and length.

    Attributes:
        acceptance: Acceptance probability of each chain, shape ``(chains,)``.
        diverged: Whether the energy error was beyond all bounds, shape ``(chains,)``.
        slope: The criterion's slope in the logarithm of the length, a scalar.
        leapfrogs: Leapfrog steps.
    """

    acceptance: Tensor
    diverged: Tensor
    slope: Tensor
    leapfrogs: int


class ChEES:
    r"""HMC of many chains at once, with one step size, one trajectory length and one diagonal mass matrix for all.

    A transition makes :math:`\lceil h T / \varepsilon \rceil` leapfrog steps, h being the next of the Halton sequence
    in (0, 1), so that no period of the target can trap it. While it adapts, T climbs the slope of

    .. math::
        \tfrac14\, E\big[(\|z' - E z'\|^2 - \|z - E z\|^2)^2\big], \qquad
        \frac{d}{d \log T} \approx h T \sum_c a_c\, (\|z'_c - \bar z'\|^2 - \|z_c - \bar z\|^2)\,
            (z'_c - \bar z')^\top p'_c \Big/ \sum_c a_c,

    in coordinates z of unit variance; chains count by their acceptance probability :math:`a_c`, in the mean of the
    ends :math:`\bar z'` too. The step size is adapted so that the harmonic mean of :math:`a_c` is ``target_accept``; T
    is at least one step.

    Source: Hoffman, Radul, Sountsov (2021), *An adaptive-MCMC scheme for setting trajectory lengths in Hamiltonian
    Monte Carlo*.

    Args:
        potential: The potential energy.
        start: Starting points of finite energy, shape ``(chains, n)``, two chains at least; dozens adapt well.
        target_accept: Acceptance probability that the step size is adapted to.
        max_leapfrogs: Most leapfrog steps of a transition.

    Attributes:
        position: Where the chains are, shape ``(chains, n)``.
        scale: Standard deviations that the mass matrix assumes, shape ``(n,)``.
        step_size: In units of them.
        length: T, in units of them.

    Raises:
        ValueError: If there is one chain only.
    """

    def __init__(
        self, potential: Potential, start: Tensor, *, target_accept: float = TARGET_ACCEPT, max_leapfrogs: int = 1024
    ) -> None:
        if start.dim() != 2 or len(start) < 2:
            raise ValueError(f"chains must be at least 2 for kernel='chees', got start points {tuple(start.shape)}")
        self.potential, self.target_accept, self.max_leapfrogs = potential, target_accept, max_leapfrogs
        self.position = start.detach().clone()
        self.energy, self.gradient = potential.value_and_gradient(self.position)
        self.scale = torch.ones_like(self.position[0])
        self._transitions = 0
        self.step_size = self.length = 1.0
        while self._try().acceptance.mean() < 0.5 and self.step_size > 1e-10:
            self.step_size = self.length = self.step_size / 2

    def _try(self) -> Move:
        """Makes one leapfrog step and goes back."""
        before = self.position, self.energy, self.gradient
        move = self._move(1.0)
        self.position, self.energy, self.gradient = before
        return move

    def warm_up(self, transitions: int, after: Callable[[], Any] = lambda: None) -> None:
        """Adapts step size, length and mass matrix.

        Args:
            transitions: How many to make.
            after: Called after each.
        """
        ends = {round(part * transitions) for part in _WINDOWS}
        tuning, moments = _Tuning(self), _Moments(self.position)
        for number in range(1, transitions + 1):
            tuning.follow(self.transition())
            moments.add(self.position)
            if number in ends and moments.count >= 10:
                self._rescale(moments.scale())
                tuning, moments = _Tuning(self), _Moments(self.position)
            after()
        tuning.settle()

    def _rescale(self, scale: Tensor) -> None:
        """Changes the mass matrix; step size and length stay the same in the model's own coordinates, on average."""
        factor = float((self.scale / scale).log().mean().exp())
        self.scale = scale
        self.step_size *= factor
        self.length *= factor

    def transition(self) -> Move:
        """Makes a transition of all chains.

        Returns:
            What it tells about step size and length.
        """
        self._transitions += 1
        return self._move(_halton(self._transitions))

    @torch.no_grad()
    def _move(self, jitter: float) -> Move:
        leapfrogs = min(max(math.ceil(jitter * self.length / self.step_size), 1), self.max_leapfrogs)
        momentum = torch.randn_like(self.position)
        position, energy, gradient, end = self._integrate(momentum, leapfrogs)
        error = energy - self.energy + (end.square() - momentum.square()).sum(-1) / 2
        error = torch.where(torch.isfinite(error), error, torch.full_like(error, torch.inf))
        acceptance = (-error).exp().clamp(max=1)
        slope = _criterion_slope(self.position / self.scale, position / self.scale, end, acceptance)
        accepted = torch.rand_like(acceptance) < acceptance
        self.energy = torch.where(accepted, energy, self.energy)
        self.position = torch.where(accepted.unsqueeze(-1), position, self.position)
        self.gradient = torch.where(accepted.unsqueeze(-1), gradient, self.gradient)
        return Move(acceptance, error > _MAX_ERROR, jitter * self.length * slope, leapfrogs)

    def _integrate(self, momentum: Tensor, leapfrogs: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns position, energy, gradient and momentum after leapfrog steps."""
        stride = self.step_size * self.scale
        position, gradient, energy = self.position, self.gradient, self.energy
        momentum = momentum - stride * gradient / 2
        for number in range(leapfrogs):
            position = position + stride * momentum
            energy, gradient = self.potential.value_and_gradient(position)
            momentum = momentum - stride * gradient * (0.5 if number == leapfrogs - 1 else 1.0)
        return position, energy, gradient, momentum


def _criterion_slope(start: Tensor, end: Tensor, momentum: Tensor, acceptance: Tensor) -> Tensor:
    """Returns the criterion's slope in the length; chains that diverged do not count."""
    counts = (acceptance > 0).unsqueeze(-1)
    end, momentum = (torch.where(counts, part, torch.zeros_like(part)) for part in (end, momentum))
    total = acceptance.sum().clamp(min=torch.finfo(acceptance.dtype).tiny)
    end = end - (acceptance.unsqueeze(-1) * end).sum(0) / total
    start = start - start.mean(0)
    gain = end.square().sum(-1) - start.square().sum(-1)
    return (acceptance * gain * (end * momentum).sum(-1)).sum() / total


def _halton(number: int) -> float:
    """Returns an entry of the Halton sequence of base 2, in (0, 1)."""
    return int(f"{number:b}"[::-1], 2) / (1 << number.bit_length())


class _Tuning:
    """Moves step size and length of a sampler after each transition, and their averages."""

    def __init__(self, sampler: ChEES) -> None:
        self.sampler = sampler
        self.steps = DualAveraging(prox_center=math.log(sampler.step_size))
        self.log_length = self.average = math.log(sampler.length)
        self.square, self.count = 0.0, 0

    def follow(self, move: Move) -> None:
        """Takes account of a transition; the host waits for the device here, once a transition."""
        harmonic = 1 / move.acceptance.clamp(min=1e-10).reciprocal().mean()
        accept, slope = torch.stack([harmonic, move.slope]).tolist()
        self.steps.step(self.sampler.target_accept - accept)
        log_step, _ = self.steps.get_state()
        self.sampler.step_size = math.exp(log_step)
        if math.isfinite(slope):
            self._climb(slope)

    def _climb(self, slope: float) -> None:
        """Makes a step of Adam without momentum, within one to the most leapfrog steps."""
        self.count += 1
        self.square = _DECAY * self.square + (1 - _DECAY) * slope**2
        size = math.sqrt(self.square / (1 - _DECAY**self.count))
        low = math.log(self.sampler.step_size)
        moved = self.log_length + (_RATE * slope / size if size else 0.0)
        self.log_length = min(max(moved, low), low + math.log(self.sampler.max_leapfrogs))
        self.average += self.count**-0.5 * (self.log_length - self.average)
        self.sampler.length = math.exp(self.log_length)

    def settle(self) -> None:
        """Sets the averages."""
        _, log_step = self.steps.get_state()
        self.sampler.step_size = math.exp(log_step)
        self.sampler.length = max(math.exp(self.average), self.sampler.step_size)


class _Moments:
    """Mean and variance of all chains' positions over a stretch of the warm-up."""

    def __init__(self, like: Tensor) -> None:
        self.count = 0
        self.mean, self.squares = torch.zeros_like(like[0]), torch.zeros_like(like[0])

    def add(self, position: Tensor) -> None:
        """Takes the chains' positions, shape ``(chains, n)``."""
        chains, mean = len(position), position.mean(0)
        total = self.count + chains
        self.squares += (position - mean).square().sum(0)
        self.squares += (mean - self.mean).square() * (self.count * chains / total)
        self.mean += (mean - self.mean) * (chains / total)
        self.count = total

    def scale(self) -> Tensor:
        """Returns standard deviations, drawn a little to small ones as Stan does."""
        variance = self.squares / (self.count - 1)
        return ((self.count * variance + 5e-3) / (self.count + 5)).sqrt()
