"""Kernels that move chains along trajectories of one jittered length, and accept each or not."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.kernel import BatchMove, State
from bnn_pyro.inference.mcmc.potential.potential import Potential

_MAX_ERROR = 1000.0  # an energy error beyond it is a divergence, as in Pyro


@dataclass(frozen=True, eq=False)
class Trajectory(BatchMove):
    """A transition, and the trajectory that it proposed the end of.

    Attributes:
        start: Where the chains were, shape ``(chains, n)``.
        end: Where the trajectories led, whether that was accepted or not, shape ``(chains, n)``.
        momentum: The momentum there, in coordinates of unit mass, shape ``(chains, n)``.
        time: Step size times steps.
    """

    start: Tensor
    end: Tensor
    momentum: Tensor
    time: float


class Proposal(NamedTuple):
    """Where trajectories led: fields of :class:`Trajectory`, and the potential energy at the end and its gradient."""

    end: Tensor
    energy: Tensor
    gradient: Tensor
    momentum: Tensor
    energy_error: Tensor
    total_energy: Tensor


class TrajectoryKernel(ABC):
    """Metropolis transitions of many chains, whose trajectories all have the same number of steps.

    Args:
        potential: The potential energy.
        start: Starting points of finite energy, shape ``(chains, n)``.
        step_size: The step size, in units of ``scale``.
        length: The longest trajectory, likewise.
        max_steps: Most steps of a transition.

    Attributes:
        position: Where the chains are, shape ``(chains, n)``.
        energy: The potential energy there, shape ``(chains,)``.
        gradient: Its gradient, shape ``(chains, n)``.
        scale: Standard deviations that the coordinates are measured in, shape ``(n,)``; 1 at first.
        moving: Which coordinates move, bool, shape ``(chains, n)``; None for all.
    """

    gradients_per_step: ClassVar[int] = 1
    state_names: ClassVar[tuple[str, ...]] = (
        "position",
        "energy",
        "gradient",
        "scale",
        "step_size",
        "length",
        "_transitions",
    )

    def __init__(self, potential: Potential, start: Tensor, *, step_size: float, length: float, max_steps: int) -> None:
        self.potential, self.max_steps = potential, max_steps
        self.step_size, self.length = step_size, length
        self.moving: Tensor | None = None
        self.place(start.detach().clone())
        self.scale = torch.ones_like(self.position[0])
        self._transitions = 0

    def place(self, position: Tensor) -> None:
        """Put the chains somewhere else.

        Args:
            position: Shape ``(chains, n)``; it is kept, and must not be written to.
        """
        self.position = position
        self.energy, self.gradient = self.potential.value_and_gradient(position)

    def transition(self) -> Trajectory:
        """Make a transition of all chains."""
        self._transitions += 1
        steps = math.ceil(halton(self._transitions) * self.length / self.step_size)
        return self._move(min(max(steps, 1), self.max_steps))

    def trial(self) -> Trajectory:
        """Make one step of all chains and go back, to see how large the error of a step is."""
        before = self.position, self.energy, self.gradient
        move = self._move(1)
        self.position, self.energy, self.gradient = before
        return move

    def state_dict(self) -> State:
        """Return the state of the chains, and the parameters."""
        return {name: getattr(self, name) for name in self.state_names}

    def load_state_dict(self, state: State) -> None:
        """Resume from the state of another kernel of the same potential.

        Args:
            state: Its state, on the kernel's device.
        """
        for name in self.state_names:
            setattr(self, name, state[name])

    @abstractmethod
    def _propose(self, steps: int) -> Proposal:
        """Return where trajectories of some steps lead from where the chains are."""

    @torch.no_grad()
    def _move(self, steps: int) -> Trajectory:
        start, proposal = self.position, self._propose(steps)
        error = proposal.energy_error
        error = torch.where(error.isfinite() & proposal.energy.isfinite(), error, torch.full_like(error, torch.inf))
        acceptance = (-error).exp().clamp(max=1)
        accepted = torch.rand_like(acceptance) < acceptance
        self.energy = torch.where(accepted, proposal.energy, self.energy)
        self.position = torch.where(accepted.unsqueeze(-1), proposal.end, start)
        self.gradient = torch.where(accepted.unsqueeze(-1), proposal.gradient, self.gradient)
        return Trajectory(
            acceptance=acceptance,
            diverged=error > _MAX_ERROR,
            leapfrogs=torch.full_like(error, self.gradients_per_step * steps, dtype=torch.int64),
            total_energy=proposal.total_energy,
            energy_error=error,
            start=start,
            end=proposal.end,
            momentum=proposal.momentum,
            time=steps * self.step_size,
        )


def halton(number: int) -> float:
    """Return an entry of the Halton sequence of base 2, in (0, 1).

    Args:
        number: Which one, from 1.
    """
    return int(f"{number:b}"[::-1], 2) / (1 << number.bit_length())
