"""JitteredHMC: HMC of many chains as one batch, with trajectories of one length, which is jittered."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.kernel import BatchMove, State
from bnn_pyro.inference.mcmc.potential.potential import Potential

_MAX_ERROR = 1000.0  # an energy error beyond it is a divergence, as in Pyro
_STATE = ("position", "energy", "gradient", "scale", "step_size", "length", "moving", "_transitions")


@dataclass(frozen=True, eq=False)
class Trajectory(BatchMove):
    """A transition of jittered HMC, and the trajectory that it proposed the end of.

    Attributes:
        start: Where the chains were, shape ``(chains, n)``.
        end: Where the trajectories led, whether that was accepted or not, shape ``(chains, n)``.
        momentum: The momentum there, in coordinates of unit mass, shape ``(chains, n)``.
        time: Step size times leapfrog steps.
    """

    start: Tensor
    end: Tensor
    momentum: Tensor
    time: float


class JitteredHMC:
    r"""HMC of many chains at once, with one step size, one trajectory length and one diagonal mass matrix for all.

    A transition makes :math:`\ell = \lceil h T / \varepsilon \rceil` leapfrog steps of size :math:`\varepsilon`, h
    being the next number of the Halton sequence in (0, 1), so that no period of the target can trap it.

    Args:
        potential: The potential energy.
        start: Starting points of finite energy, shape ``(chains, n)``.
        step_size: :math:`\varepsilon`, in units of ``scale``.
        length: T, likewise.
        max_leapfrogs: Most leapfrog steps of a transition.
        moving: Which coordinates are given momentum, bool, shape ``(chains, n)``; None for all. Those without one stay
            as long as the gradient is 0 there.

    Attributes:
        position: Where the chains are, shape ``(chains, n)``.
        energy: The potential energy there, shape ``(chains,)``.
        gradient: Its gradient, shape ``(chains, n)``.
        scale: Standard deviations that the mass matrix assumes, shape ``(n,)``; 1 at first.

    Raises:
        ValueError: If ``start`` is not of shape ``(chains, n)``.

    Source: Hoffman, Radul, Sountsov (2021), *An adaptive-MCMC scheme for setting trajectory lengths in Hamiltonian
    Monte Carlo*.
    """

    def __init__(
        self,
        potential: Potential,
        start: Tensor,
        *,
        step_size: float = 1.0,
        length: float = 1.0,
        max_leapfrogs: int = 1024,
        moving: Tensor | None = None,
    ) -> None:
        if start.dim() != 2:
            raise ValueError(f"start must have shape (chains, n), got {tuple(start.shape)}")
        self.potential, self.max_leapfrogs = potential, max_leapfrogs
        self.step_size, self.length, self.moving = step_size, length, moving
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
        return self._move(min(max(steps, 1), self.max_leapfrogs))

    def trial(self) -> Trajectory:
        """Make one leapfrog step of all chains and go back, to see how large the error of a step is."""
        before = self.position, self.energy, self.gradient
        move = self._move(1)
        self.position, self.energy, self.gradient = before
        return move

    def state_dict(self) -> State:
        """Return the state of the chains, and the parameters."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: State) -> None:
        """Resume from the state of another kernel of the same potential.

        Args:
            state: Its state, on the kernel's device.
        """
        for name in _STATE:
            setattr(self, name, state[name])

    @torch.no_grad()
    def _move(self, leapfrogs: int) -> Trajectory:
        start, momentum = self.position, self._momentum()
        end, energy, gradient, last = self._integrate(momentum, leapfrogs)
        before = self.energy + momentum.square().sum(-1) / 2
        error = energy - self.energy + (last.square() - momentum.square()).sum(-1) / 2
        error = torch.where(torch.isfinite(error), error, torch.full_like(error, torch.inf))
        acceptance = (-error).exp().clamp(max=1)
        accepted = torch.rand_like(acceptance) < acceptance
        self.energy = torch.where(accepted, energy, self.energy)
        self.position = torch.where(accepted.unsqueeze(-1), end, start)
        self.gradient = torch.where(accepted.unsqueeze(-1), gradient, self.gradient)
        return Trajectory(
            acceptance=acceptance,
            diverged=error > _MAX_ERROR,
            leapfrogs=torch.full_like(error, leapfrogs, dtype=torch.int64),
            total_energy=before,
            energy_error=error,
            start=start,
            end=end,
            momentum=last,
            time=leapfrogs * self.step_size,
        )

    def _momentum(self) -> Tensor:
        momentum = torch.randn_like(self.position)
        return momentum if self.moving is None else momentum * self.moving

    def _integrate(self, momentum: Tensor, leapfrogs: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return position, energy, gradient and momentum after leapfrog steps."""
        stride = (self.step_size * self.scale).unsqueeze(-1)
        block = self.potential.block(len(self.position))
        starts = zip(*(part.split(block) for part in (self.position, momentum, self.gradient)), strict=True)
        ends = zip(*(self._trajectory(stride, leapfrogs, *start) for start in starts), strict=True)
        position, end, energy, gradient = (torch.cat(parts) for parts in ends)
        return position, energy, gradient, end

    def _trajectory(self, stride: Tensor, leapfrogs: int, *start: Tensor) -> list[Tensor]:
        """Return position, momentum, energy and gradient of some chains, which lie side by side on the way."""
        position, momentum, gradient = (part.t().contiguous() for part in start)
        found = self.potential.leapfrog(position, momentum, gradient, stride, leapfrogs)
        return [part.t().contiguous() for part in found]


def halton(number: int) -> float:
    """Return an entry of the Halton sequence of base 2, in (0, 1).

    Args:
        number: Which one, from 1.
    """
    return int(f"{number:b}"[::-1], 2) / (1 << number.bit_length())
