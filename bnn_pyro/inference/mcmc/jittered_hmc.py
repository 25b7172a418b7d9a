"""JitteredHMC: HMC of many chains as one batch, with trajectories of one length, which is jittered."""

import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.trajectories import Proposal, TrajectoryKernel


class JitteredHMC(TrajectoryKernel):
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

    state_names = (*TrajectoryKernel.state_names, "moving")

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
        super().__init__(potential, start, step_size=step_size, length=length, max_steps=max_leapfrogs)
        self.moving = moving

    def _propose(self, steps: int) -> Proposal:
        momentum = self._momentum()
        end, energy, gradient, last = self._integrate(momentum, steps)
        before = self.energy + momentum.square().sum(-1) / 2
        error = energy - self.energy + (last.square() - momentum.square()).sum(-1) / 2
        return Proposal(end, energy, gradient, last, error, before)

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
