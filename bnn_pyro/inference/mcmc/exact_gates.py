"""ExactGates: the true spike-and-slab posterior, its gates drawn by Gibbs between HMC moves of all else."""

import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.gate_draw import GateDraw
from bnn_pyro.inference.mcmc.gate_swap import GateSwap
from bnn_pyro.inference.mcmc.jittered_hmc import JitteredHMC
from bnn_pyro.inference.mcmc.kernel import State
from bnn_pyro.inference.mcmc.potential.exact_gate_potential import SpikePotential
from bnn_pyro.inference.mcmc.pseudo_prior import Draw, PseudoPrior
from bnn_pyro.inference.mcmc.trajectories import Trajectory

_GATES_PER_SWAP = 4  # a swap costs as much as the draws of two gates


class ExactGates:
    """Draws from the true spike-and-slab posterior, whose gates are exactly 0 or 1.

    All chains are one batch. A transition is one of :class:`~bnn_pyro.inference.mcmc.jittered_hmc.JitteredHMC` for the
    scales, the open slabs and all other latents, given the gates; then
    :class:`~bnn_pyro.inference.mcmc.gate_draw.GateDraw` draws the gates given all else, one by one, and
    :class:`~bnn_pyro.inference.mcmc.gate_swap.GateSwap` pairs of them, as many as a quarter of the gates.

    Args:
        potential: The potential energy.
        chains: Number of chains.
        pseudo_prior: Returns a draw of the slabs, site -> value, such as a guide: the pseudo-prior begins with the
            median and the quartiles of such draws. None begins with those of the prior.
        tries: Tries of the weights of a gate, one at least.
        start: Starting points, shape ``(chains, n)``; None draws them, slabs from the pseudo-prior, and gates in turn
            all open and all closed, so that R-hat tells whether the chains have forgotten their start.
        max_leapfrogs: Most leapfrog steps of a transition.

    Attributes:
        hmc: What moves the chains given the gates.
        pseudo_prior: What the weights of closed gates are drawn from.

    Raises:
        ValueError: If there is no try, or the pseudo-prior's slabs are not those of the model.
    """

    def __init__(
        self,
        potential: SpikePotential,
        chains: int,
        *,
        pseudo_prior: Draw | None = None,
        tries: int = 8,
        start: Tensor | None = None,
        max_leapfrogs: int = 1024,
    ) -> None:
        self.potential, layout = potential, potential.layout
        self._draw_gates, self._swap_gates = GateDraw(potential, tries), GateSwap(potential, tries)
        self._swaps = 0 if len(layout.gates) < 2 else max(1, len(layout.gates) // _GATES_PER_SWAP)
        self.pseudo_prior = PseudoPrior.of(pseudo_prior or potential.prior_draw, layout.shapes, potential.like)
        points = self._starts(chains) if start is None else start.to(potential.like)
        self.hmc = JitteredHMC(potential, points, max_leapfrogs=max_leapfrogs, moving=layout.moving(points))

    def _starts(self, chains: int) -> Tensor:
        points, layout = self.potential.starts(chains), self.potential.layout
        loc, scale = self.potential.slab_prior(points)
        drawn = (self.pseudo_prior.sample((chains,)) - loc) / scale
        points[:, layout.slabs] = torch.where(layout.is_open(points), drawn, points[:, layout.slabs])
        return points

    @property
    def position(self) -> Tensor:
        """Where the chains are, shape ``(chains, n)``: gates are 1 or -1, closed slabs 0, the prior's mean."""
        return self.hmc.position

    @property
    def energy(self) -> Tensor:
        """The potential energy there, shape ``(chains,)``."""
        return self.hmc.energy

    @property
    def step_size(self) -> float:
        """The step size of the moves given the gates."""
        return self.hmc.step_size

    @property
    def scale(self) -> Tensor:
        """Standard deviations that their mass matrix assumes, shape ``(n,)``."""
        return self.hmc.scale

    def transition(self) -> Trajectory:
        """Make a transition of all chains: of all else given the gates, then of the gates.

        Returns:
            How the first went.
        """
        move = self.hmc.transition()
        position = self._draw_gates(self.position, self.pseudo_prior)
        for _ in range(self._swaps):
            position = self._swap_gates(position, self.pseudo_prior)
        self.hmc.moving = self.potential.layout.moving(position)
        self.hmc.place(position)
        return move

    def slabs(self) -> tuple[Tensor, Tensor]:
        """Return the values that open slabs have, and which are open, both of shape ``(chains, entries)``."""
        layout = self.potential.layout
        loc, scale = self.potential.slab_prior(self.position)
        return torch.addcmul(loc, scale, self.position[:, layout.slabs]), layout.is_open(self.position)

    def state_dict(self) -> State:
        """Return the state of the chains, and the parameters."""
        return {"hmc": self.hmc.state_dict(), "pseudo_prior": dict(vars(self.pseudo_prior))}

    def load_state_dict(self, state: State) -> None:
        """Resume from the state of another kernel of the same potential.

        Args:
            state: Its state, on the kernel's device.
        """
        self.hmc.load_state_dict(state["hmc"])
        self.pseudo_prior = PseudoPrior(**state["pseudo_prior"])
