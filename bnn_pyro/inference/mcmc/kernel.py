"""The interface of kernels that move a batch of chains, and of the warm-ups that adapt them."""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

State = dict[str, Any]
"""Tensors, which nobody changes in place, and plain values: to be saved, and read with ``weights_only=True``."""


@dataclass(frozen=True, eq=False)
class Move:
    """How a transition of one chain, or of a batch of them, went; each of shape ``()`` or ``(chains,)``.

    Attributes:
        acceptance: Acceptance probability; NUTS averages it over its tree.
        diverged: Whether the energy error was beyond all bounds.
        leapfrogs: Leapfrog steps, of one gradient each; of kernels without them gradients.
        total_energy: Potential and kinetic energy at the start of the trajectory, along which it is conserved; NaN of
            kernels that do not know it.
    """

    acceptance: Tensor
    diverged: Tensor
    leapfrogs: Tensor
    total_energy: Tensor


@dataclass(frozen=True, eq=False)
class BatchMove(Move):
    """A transition of a batch; a kernel whose warm-up needs to know more returns a subclass.

    Attributes:
        energy_error: Total energy at the end of the trajectory less that at its start, shape ``(chains,)``; infinite
            where it is not a number.
    """

    energy_error: Tensor


class BatchKernel(Protocol):
    """Moves all chains of a batch at once, by parameters that are set from outside: it adapts none of them.

    It draws from the global generators, whose states do not belong to its own.
    """

    @property
    def position(self) -> Tensor:
        """Where the chains are, shape ``(chains, n)``."""

    @property
    def energy(self) -> Tensor:
        """The potential energy there, shape ``(chains,)``."""

    @property
    def step_size(self) -> float:
        """The step size, in units of ``scale``."""

    @property
    def scale(self) -> Tensor:
        """Standard deviations that the mass matrix assumes, shape ``(n,)``."""

    def transition(self) -> BatchMove:
        """Make a transition of all chains."""

    def state_dict(self) -> State:
        """Return the position, the parameters, and all else that the next transitions depend on."""

    def load_state_dict(self, state: State) -> None:
        """Resume from the state of another kernel of the same potential.

        Args:
            state: Its state, on the kernel's device.
        """


class WarmUp(Protocol):
    """Sets the parameters of the kernel that it was made with, while the kernel moves its chains."""

    @property
    def shortfall(self) -> str:
        """What says at the end of the warm-up that it has not adapted; empty where nothing does."""

    def adapt(self, number: int, transitions: int) -> BatchMove:
        """Make a transition of the warm-up, and adapt the kernel to it.

        Args:
            number: Which one, from 1.
            transitions: How many the warm-up has.
        """

    def state_dict(self) -> State:
        """Return what the rest of the warm-up depends on besides the kernel's state."""

    def load_state_dict(self, state: State) -> None:
        """Resume from the state of another warm-up of the same kind.

        Args:
            state: Its state, on the kernel's device.
        """
