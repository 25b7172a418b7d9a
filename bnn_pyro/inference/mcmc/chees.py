"""ChEES-HMC: many chains as one batch, whose trajectories are as long as moves the chains farthest for their cost."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.ops.dual_averaging import DualAveraging
from torch import Tensor
from torch.utils._pytree import tree_map_only

from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.running_moments import Moments

TARGET_ACCEPT = 0.9
WINDOWS = (0.1, 0.25, 0.5, 0.8)  # parts of the warm-up after which the mass matrix is that of the draws since the last
_FIRST_LENGTH, _FIRST_LEAPFROGS = math.pi / 2, 64  # a quarter of a unit Normal's period, within so many steps
_RATE, _DECAY = 0.025, 0.95  # of Adam on the logarithm of the length
_RECENT = 0.9  # weight of what a chain's acceptance was so far against that of a transition
_MAX_ERROR = 1000.0  # an energy error beyond it is a divergence, as in Pyro
_STATE = ("position", "energy", "gradient", "scale", "step_size", "length", "_transitions")


@dataclass(frozen=True, eq=False)
class Move:
    """A transition of all chains: where it led, and what it tells about step size and length.

    Attributes:
        acceptance: Acceptance probability of each chain, shape ``(chains,)``.
        diverged: Whether the energy error was beyond all bounds, shape ``(chains,)``.
        slope: The slope, in the logarithm of the length, of the criterion for its cost; a scalar.
        leapfrogs: Leapfrog steps.
        total_energy: Potential and kinetic energy of each chain at its start, shape ``(chains,)``.
    """

    acceptance: Tensor
    diverged: Tensor
    slope: Tensor
    leapfrogs: int
    total_energy: Tensor


class ChEES:
    r"""HMC of many chains at once, with one step size, one trajectory length and one diagonal mass matrix for all.

    A transition makes :math:`\ell = \lceil h T / \varepsilon \rceil` leapfrog steps, h being the next of the Halton
    sequence in (0, 1), so that no period of the target can trap it. While it adapts, T climbs the slope of

    .. math::
        \frac1T\, E[C], \quad C = \tfrac14 \big(\|z' - E z'\|^2 - \|z - E z\|^2\big)^2, \qquad
        T\, \frac{dE[C]}{dT} - E[C] \approx \sum_c a_c \Big(\ell \varepsilon\,
            \big(\|z'_c - \bar z'\|^2 - \|z_c - \bar z\|^2\big)\, (z'_c - \bar z')^\top p'_c - C_c\Big)
            \Big/ \sum_c a_c,

    in coordinates z of unit variance; chains count by their acceptance probability :math:`a_c`, in the means
    :math:`\bar z` and :math:`\bar z'` too. T begins at :math:`\pi / 2`, or at 64 steps if that is less, and is at
    least one step. The step size is adapted so that the harmonic mean over chains of what each has accepted lately is
    ``target_accept``: a chain that is stuck shortens the steps until it gets out.

    The source maximises E[C] itself: on the posterior of a small network trajectories were then seven times as long,
    for a third of the effective draws a second. Its authors' code has the criterion for its cost too. It takes the
    harmonic mean of :math:`a_c` in the last transition alone, which among dozens of chains is that of the worst one.

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
        self.length = min(_FIRST_LENGTH, _FIRST_LEAPFROGS * self.step_size)
        self._forget()

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
        for number in range(1, transitions + 1):
            self.adapt(number, transitions)
            after()

    def adapt(self, number: int, transitions: int) -> Move:
        """Makes a transition of the warm-up, and adapts to it.

        Args:
            number: Which one, from 1.
            transitions: How many the warm-up has.

        Returns:
            What it tells about step size and length.
        """
        ends = [round(part * transitions) for part in WINDOWS]
        stretch = sum(end < number for end in ends)
        if number == 1:
            self._forget()
        move = self._transition_of(stretch)
        self._tuning.follow(move)
        self._observe()
        if number in ends:
            self._rescale(self._coordinates.scale(self.scale))
            self._learn(stretch)
            self._forget()
        if number == transitions:
            self._tuning.settle()
        return move

    def _transition_of(self, stretch: int) -> Move:
        """Makes a transition of a stretch of the warm-up, counted from 0."""
        return self.transition()

    def _observe(self) -> None:
        """Takes account of where the chains are."""
        self._coordinates.add(self.position, torch.ones_like(self.position, dtype=torch.bool))

    def _learn(self, stretch: int) -> None:
        """Takes from a stretch what else there is to learn than the mass matrix."""

    def _forget(self) -> None:
        """Begins a stretch of the warm-up."""
        self._tuning, self._coordinates = Tuning(self), Moments(self.scale)

    def state_dict(self) -> dict[str, Any]:
        """Returns all that the chains' future depends on, but the states of the generators."""
        tuning = {name: value for name, value in vars(self._tuning).items() if name not in ("sampler", "steps")}
        state = {name: getattr(self, name) for name in _STATE}
        state |= {"tuning": tuning, "steps": dict(vars(self._tuning.steps)), "moments": dict(vars(self._coordinates))}
        copied: dict[str, Any] = tree_map_only(Tensor, Tensor.clone, state)
        return copied

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to where another sampler of the same potential was.

        Args:
            state: Its state, on the sampler's device.
        """
        state = tree_map_only(Tensor, Tensor.clone, state)
        for name in _STATE:
            setattr(self, name, state[name])
        vars(self._tuning).update(state["tuning"])
        vars(self._tuning.steps).update(state["steps"])
        vars(self._coordinates).update(state["moments"])

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
        momentum = self._momentum()
        position, energy, gradient, end = self._integrate(momentum, leapfrogs)
        before = self.energy + momentum.square().sum(-1) / 2
        error = energy - self.energy + (end.square() - momentum.square()).sum(-1) / 2
        error = torch.where(torch.isfinite(error), error, torch.full_like(error, torch.inf))
        acceptance = (-error).exp().clamp(max=1)
        time = leapfrogs * self.step_size
        slope = _criterion_slope(self.position / self.scale, position / self.scale, end, acceptance, time)
        accepted = torch.rand_like(acceptance) < acceptance
        self.energy = torch.where(accepted, energy, self.energy)
        self.position = torch.where(accepted.unsqueeze(-1), position, self.position)
        self.gradient = torch.where(accepted.unsqueeze(-1), gradient, self.gradient)
        return Move(acceptance, error > _MAX_ERROR, slope, leapfrogs, before)

    def _momentum(self) -> Tensor:
        return torch.randn_like(self.position)

    def _integrate(self, momentum: Tensor, leapfrogs: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns position, energy, gradient and momentum after leapfrog steps."""
        stride = (self.step_size * self.scale).unsqueeze(-1)
        block = self.potential.block(len(self.position))
        starts = zip(*(part.split(block) for part in (self.position, momentum, self.gradient)), strict=True)
        ends = zip(*(self._trajectory(stride, leapfrogs, *start) for start in starts), strict=True)
        position, end, energy, gradient = (torch.cat(parts) for parts in ends)
        return position, energy, gradient, end

    def _trajectory(self, stride: Tensor, leapfrogs: int, *start: Tensor) -> list[Tensor]:
        """Returns position, momentum, energy and gradient of some chains, which lie side by side on the way."""
        position, momentum, gradient = (part.t().contiguous() for part in start)
        found = self.potential.leapfrog(position, momentum, gradient, stride, leapfrogs)
        return [part.t().contiguous() for part in found]


def _criterion_slope(start: Tensor, end: Tensor, momentum: Tensor, acceptance: Tensor, time: float) -> Tensor:
    """Returns the slope of the criterion for its cost; chains that diverged do not count."""
    counts = (acceptance > 0).unsqueeze(-1)
    end, momentum = (torch.where(counts, part, torch.zeros_like(part)) for part in (end, momentum))
    total = acceptance.sum().clamp(min=torch.finfo(acceptance.dtype).tiny)
    start, end = (part - (acceptance.unsqueeze(-1) * part).sum(0) / total for part in (start, end))
    gain = end.square().sum(-1) - start.square().sum(-1)
    return (acceptance * (time * gain * (end * momentum).sum(-1) - gain.square() / 4)).sum() / total


def _halton(number: int) -> float:
    """Returns an entry of the Halton sequence of base 2, in (0, 1)."""
    return int(f"{number:b}"[::-1], 2) / (1 << number.bit_length())


class Tuning:
    """Moves step size and length of a sampler after each transition, and their averages."""

    def __init__(self, sampler: ChEES) -> None:
        self.sampler = sampler
        self.acceptance = torch.full_like(sampler.energy, sampler.target_accept)  # of each chain, lately
        self.steps = DualAveraging(prox_center=math.log(sampler.step_size))
        self.log_length = self.average = math.log(sampler.length)
        self.square, self.count = 0.0, 0

    def follow(self, move: Move) -> None:
        """Takes account of a transition; the host waits for the device here, once a transition."""
        self.acceptance = torch.lerp(move.acceptance, self.acceptance, _RECENT)
        accept, slope = torch.stack([1 / self.acceptance.reciprocal().mean(), move.slope]).tolist()
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
