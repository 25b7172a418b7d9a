"""ChEESWarmUp: trajectories of jittered HMC as long as moves the chains farthest for their cost."""

import math

import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.jittered_hmc import JitteredHMC
from bnn_pyro.inference.mcmc.kernel import State
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.pseudo_prior import Draw
from bnn_pyro.inference.mcmc.running_moments import Moments
from bnn_pyro.inference.mcmc.settling import Settling
from bnn_pyro.inference.mcmc.step_size import StepSizeTuning
from bnn_pyro.inference.mcmc.trajectories import Trajectory, TrajectoryKernel
from bnn_pyro.inference.mcmc.windows import ends_window

TARGET_ACCEPT = 0.9
_FIRST_LENGTH, _FIRST_LEAPFROGS = math.pi / 2, 64  # a quarter of a unit Normal's period, within so many steps
_RATE, _DECAY = 0.025, 0.95  # of Adam on the logarithm of the length


class ChEESWarmUp:
    r"""Adapts step size, trajectory length T and mass matrix of jittered HMC, or of another kernel of trajectories.

    T climbs the slope of

    .. math::
        \frac1T\, E[C], \quad C = \tfrac14 \big(\|z' - E z'\|^2 - \|z - E z\|^2\big)^2, \qquad
        T\, \frac{dE[C]}{dT} - E[C] \approx \sum_c a_c \Big(\ell \varepsilon\,
            \big(\|z'_c - \bar z'\|^2 - \|z_c - \bar z\|^2\big)\, (z'_c - \bar z')^\top p'_c - C_c\Big)
            \Big/ \sum_c a_c,

    in coordinates z of unit variance; chains count by their acceptance probability :math:`a_c`, in the means
    :math:`\bar z` and :math:`\bar z'` too. T begins at :math:`\pi / 2`, or at 64 steps if that is less, and is at
    least one step. The step size is adapted by :class:`~bnn_pyro.inference.mcmc.step_size.StepSizeTuning`, and at the
    end of each window the mass matrix is set to what was drawn in it. There T becomes :math:`\sqrt n\, \pi / 2` if it
    is more (for MAMS its own first length times :math:`\sqrt n`): n coordinates of unit variance have no direction
    whose standard deviation is beyond that root. While chains come from far away T is in units that are too large, and
    to climb down would take more than the warm-up. Whether all that has come to rest is judged at the end
    (:class:`~bnn_pyro.inference.mcmc.settling.Settling`).

    The source maximises E[C] itself: on the posterior of a small network trajectories were then seven times as long,
    for a third of the effective draws a second. Its authors' code has the criterion for its cost too. It takes the
    harmonic mean of :math:`a_c` in the last transition alone, which among dozens of chains is that of the worst one.

    Source: Hoffman, Radul, Sountsov (2021), *An adaptive-MCMC scheme for setting trajectory lengths in Hamiltonian
    Monte Carlo*.

    Args:
        kernel: What it adapts, of two chains at least; dozens adapt well. Its step size and length are set at once.
        target_accept: Acceptance probability that the step size is adapted to.
        first_length: The length to begin with, unless it takes more than 64 steps.

    Raises:
        ValueError: If there is one chain only.
    """

    def __init__(
        self, kernel: TrajectoryKernel, *, target_accept: float = TARGET_ACCEPT, first_length: float = _FIRST_LENGTH
    ) -> None:
        if len(kernel.position) < 2:
            raise ValueError(f"chains must be at least 2 to adapt trajectories, got {len(kernel.position)}")
        self.kernel, self.target_accept = kernel, target_accept
        kernel.step_size = kernel.length = 1.0
        while kernel.trial().acceptance.mean() < 0.5 and kernel.step_size > 1e-10:
            kernel.step_size = kernel.length = kernel.step_size / 2
        kernel.length = min(first_length, _FIRST_LEAPFROGS * kernel.step_size)
        self._longest = first_length * math.sqrt(len(kernel.scale))  # that the length may be where a window begins
        self._settling = Settling(kernel.scale)
        self._begin_window()

    @property
    def shortfall(self) -> str:
        """What says at the end of the warm-up that it has not adapted; empty where nothing does."""
        return self._settling.shortfall

    def adapt(self, number: int, transitions: int) -> Trajectory:
        """Make a transition of the warm-up, and adapt the kernel to it.

        Args:
            number: Which one, from 1.
            transitions: How many the warm-up has.
        """
        move = self.kernel.transition()
        self.learn(move, number, transitions)
        return move

    def learn(self, move: Trajectory, number: int, transitions: int) -> None:
        """Adapt the kernel to a transition that it has made; the host waits for the device here, once.

        Args:
            move: How it went.
            number: Which one of the warm-up, from 1.
            transitions: How many the warm-up has.
        """
        kernel = self.kernel
        if number == 1:
            self._settling = Settling(kernel.scale)
            self._begin_window()
        slope = _slope(move, kernel.scale)
        accepted, slope_now = torch.stack([self._step_size.observe(move.acceptance, move.diverged), slope]).tolist()
        kernel.step_size = self._step_size.update(accepted)
        if math.isfinite(slope_now):
            kernel.length = self._length.climb(slope_now, kernel.step_size, kernel.max_steps)
        moving = torch.ones_like(kernel.position, dtype=torch.bool) if kernel.moving is None else kernel.moving
        self._moments.add(kernel.position, moving)
        self._settling.add(move)
        if ends_window(number, transitions):
            self._settling.end_window(self._moments)
            self._rescale(self._moments.scale(kernel.scale))
            self._begin_window()
        if number == transitions:
            self._settling.judge(self._moments, len(kernel.position))
            kernel.step_size = self._step_size.average
            kernel.length = max(self._length.average, kernel.step_size)

    def _begin_window(self) -> None:
        kernel = self.kernel
        self._step_size = StepSizeTuning(kernel.step_size, self.target_accept, kernel.energy)
        self._length, self._moments = LengthTuning(kernel.length), Moments(kernel.scale)

    def _rescale(self, scale: Tensor) -> None:
        """Change the mass matrix; step size and length stay the same in the model's own coordinates, on average.

        The length is bounded, and is at least one step.
        """
        kernel = self.kernel
        factor = float((kernel.scale / scale).log().mean().exp())
        kernel.scale = scale
        kernel.step_size *= factor
        kernel.length = max(min(kernel.length * factor, self._longest), kernel.step_size)

    def state_dict(self) -> State:
        """Return what the rest of the warm-up depends on besides the kernel's state."""
        return {
            "step_size": self._step_size.state_dict(),
            "length": dict(vars(self._length)),
            "moments": dict(vars(self._moments)),
            "settling": dict(vars(self._settling)),
        }

    def load_state_dict(self, state: State) -> None:
        """Resume from the state of another warm-up.

        Args:
            state: Its state, on the kernel's device.
        """
        self._step_size.load_state_dict(state["step_size"])
        vars(self._length).update(state["length"])
        vars(self._moments).update(state["moments"])
        vars(self._settling).update(state.get("settling", {}))  # which older files lack


class LengthTuning:
    """Climbs a slope by the length of trajectories, and averages it.

    Args:
        length: The length to begin with.
    """

    def __init__(self, length: float) -> None:
        self._log_length = self._log_average = math.log(length)
        self._square, self._count = 0.0, 0

    def climb(self, slope: float, step_size: float, max_leapfrogs: int) -> float:
        """Make a step of Adam without momentum in the logarithm, within one to the most leapfrog steps.

        Args:
            slope: The slope in the logarithm of the length.
            step_size: The step size.
            max_leapfrogs: The most leapfrog steps.

        Returns:
            The next length.
        """
        self._count += 1
        self._square = _DECAY * self._square + (1 - _DECAY) * slope**2
        size = math.sqrt(self._square / (1 - _DECAY**self._count))
        low = math.log(step_size)
        moved = self._log_length + (_RATE * slope / size if size else 0.0)
        self._log_length = min(max(moved, low), low + math.log(max_leapfrogs))
        self._log_average += self._count**-0.5 * (self._log_length - self._log_average)
        return math.exp(self._log_length)

    @property
    def average(self) -> float:
        """The length to end with."""
        return math.exp(self._log_average)


def _slope(move: Trajectory, scale: Tensor) -> Tensor:
    return criterion_slope(move.start / scale, move.end / scale, move.momentum, move.acceptance, move.time)


@torch.no_grad()
def criterion_slope(start: Tensor, end: Tensor, momentum: Tensor, acceptance: Tensor, time: float) -> Tensor:
    """Return the slope of the criterion for its cost in the logarithm of the length; diverged chains do not count.

    Args:
        start: Where the trajectories began, in coordinates of unit variance, shape ``(chains, n)``.
        end: Where they ended, likewise.
        momentum: The momentum there, likewise.
        acceptance: The acceptance probability of each chain, shape ``(chains,)``.
        time: Step size times leapfrog steps.
    """
    counts = (acceptance > 0).unsqueeze(-1)
    end, momentum = (torch.where(counts, part, torch.zeros_like(part)) for part in (end, momentum))
    total = acceptance.sum().clamp(min=torch.finfo(acceptance.dtype).tiny)
    start, end = (part - (acceptance.unsqueeze(-1) * part).sum(0) / total for part in (start, end))
    gain = end.square().sum(-1) - start.square().sum(-1)
    return (acceptance * (time * gain * (end * momentum).sum(-1) - gain.square() / 4)).sum() / total


def chees_batch(
    plan: SamplingPlan, potential: Potential, start: Tensor | None, pseudo_prior: Draw | None
) -> tuple[JitteredHMC, ChEESWarmUp]:
    """Return the kernel and the warm-up of a plan for ``kernel="chees"``.

    Args:
        plan: The plan.
        potential: The potential energy.
        start: Starting points, shape ``(chains, n)``; None draws them.
        pseudo_prior: None: it is for exact gates.
    """
    points = potential.starts(plan.chains) if start is None else start.to(potential.like)
    kernel = JitteredHMC(potential, points, max_leapfrogs=2**plan.max_tree_depth)
    target = TARGET_ACCEPT if plan.target_accept is None else plan.target_accept
    return kernel, ChEESWarmUp(kernel, target_accept=target)
