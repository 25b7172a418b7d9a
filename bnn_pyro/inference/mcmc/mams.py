"""MAMS: Metropolis-adjusted microcanonical dynamics of many chains as one batch."""

import math

import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.chees import ChEESWarmUp
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.microcanonical import mclachlan, normalised
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.pseudo_prior import Draw
from bnn_pyro.inference.mcmc.trajectories import Proposal, TrajectoryKernel

TARGET_ACCEPT = 0.9


class MAMS(TrajectoryKernel):
    r"""Microcanonical trajectories of many chains, each accepted or not: exact, as HMC is.

    A transition draws a velocity :math:`u` of unit length for each chain, makes :math:`\lceil h T / \epsilon \rceil` of
    McLachlan's steps, h being the next number of the Halton sequence in (0, 1), and accepts where they lead with
    probability :math:`\min(1, \exp(-\sum \Delta E))`.

    Args:
        potential: The potential energy, of two coordinates at least.
        start: Starting points of finite energy, shape ``(chains, n)``.
        step_size: :math:`\epsilon`, in units of ``scale``.
        length: T, likewise.
        max_steps: Most steps of a transition.

    Attributes:
        position: Where the chains are, shape ``(chains, n)``.
        energy: The potential energy there, shape ``(chains,)``.
        gradient: Its gradient, shape ``(chains, n)``.
        scale: Standard deviations that the coordinates are measured in, shape ``(n,)``; 1 at first.

    Raises:
        ValueError: If ``start`` is not of shape ``(chains, n)``, or there is one coordinate only.

    Source: Robnik, Cohn-Gordon, Seljak (2025), *Metropolis adjusted microcanonical Hamiltonian Monte Carlo*.
    """

    gradients_per_step = 2

    def __init__(
        self, potential: Potential, start: Tensor, *, step_size: float = 1.0, length: float = 1.0, max_steps: int = 1024
    ) -> None:
        if start.dim() != 2 or start.shape[1] < 2:
            raise ValueError(f"start must have shape (chains, n) with n of 2 or more, got {tuple(start.shape)}")
        super().__init__(potential, start, step_size=step_size, length=length, max_steps=max_steps)

    def _propose(self, steps: int) -> Proposal:
        velocity = normalised(torch.randn_like(self.position).t())
        end, energy, gradient, last, error = self._integrate(velocity, steps)
        unknown = torch.full_like(error, torch.nan)  # of the kinetic energy only its changes are known
        return Proposal(end, energy, gradient, last, error, unknown)

    def _integrate(self, velocity: Tensor, steps: int) -> list[Tensor]:
        """Return position, energy, gradient, velocity and energy error after some steps."""
        block = self.potential.block(len(self.position))
        starts = zip(
            *(part.split(block, -1) for part in (self.position.t(), velocity, self.energy, self.gradient.t())),
            strict=True,
        )
        ends = zip(*(self._trajectory(steps, *start) for start in starts), strict=True)
        return [torch.cat(parts) for parts in ends]

    def _trajectory(self, steps: int, q: Tensor, u: Tensor, value: Tensor, slope: Tensor) -> list[Tensor]:
        """Return where the trajectories of some chains lead, which lie side by side on the way."""
        size, scale = self.scale.new_full((), self.step_size), self.scale.unsqueeze(-1)
        total = torch.zeros_like(value)
        for _ in range(steps):  # compiled programs take dense inputs, and may return others
            q, u, slope = q.contiguous(), u.contiguous(), slope.contiguous()
            q, u, value, slope, error = self.potential.along("mclachlan", mclachlan, q, u, value, slope, scale, size)
            total = total + error
        return [q.t(), value, slope.t(), u.t(), total]


def mams_batch(
    plan: SamplingPlan, potential: Potential, start: Tensor | None, pseudo_prior: Draw | None
) -> tuple[MAMS, ChEESWarmUp]:
    """Return the kernel and the warm-up of a plan for ``kernel="mams"``.

    Args:
        plan: The plan.
        potential: The potential energy.
        start: Starting points, shape ``(chains, n)``; None draws them.
        pseudo_prior: None: it is for exact gates.
    """
    points = potential.starts(plan.chains) if start is None else start.to(potential.like)
    kernel = MAMS(potential, points, max_steps=2**plan.max_tree_depth)
    target = TARGET_ACCEPT if plan.target_accept is None else plan.target_accept
    return kernel, ChEESWarmUp(kernel, target_accept=target, first_length=math.pi / 2 * math.sqrt(potential.size))
