"""ExactSpikes: the true spike-and-slab posterior, its gates drawn by Gibbs between HMC moves of all else."""

import math
from typing import Any

import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.chees import TARGET_ACCEPT, ChEES, Move
from bnn_pyro.inference.mcmc.potential.exact_gate_potential import SpikePotential
from bnn_pyro.inference.mcmc.pseudo_prior import Draw, PseudoPrior
from bnn_pyro.inference.mcmc.running_moments import Moments

_HELD = 1  # number of the stretch of the warm-up until whose end gates stay as they began, so that open slabs settle


class ExactSpikes(ChEES):
    r"""Draws from the true spike-and-slab posterior, whose gates are exactly 0 or 1.

    All chains are one batch. A transition is one of ChEES for the scales, the open slabs and all other latents, given
    the gates; then each gate in turn, in random order, is drawn given all else but the weights that it closes. With K
    tries :math:`w^{(k)}` of these, drawn from a pseudo-prior :math:`\psi` (of an open gate the first is what it has),
    it is open with the odds

    .. math::
        \frac{P(z_j = 1 \mid \cdot)}{P(z_j = 0 \mid \cdot)} = \frac{\lambda_j}{1 - \lambda_j} \,
        \frac1K \sum_{k=1}^K \frac{p(y \mid z_j = 1, w^{(k)}, \cdot)}{p(y \mid z_j = 0, \cdot)} \,
        \prod_{i \in C_j} \frac{N(w_i^{(k)}; m_i, r_i^2)}{\psi(w_i^{(k)})},

    and opens with one of the tries, in proportion to its term. :math:`C_j` are the weights that gate j multiplies and
    that no other closed gate does: a weight is closed where either of its ends is. One try is Gibbs on the gate given
    the slab; more make up for a pseudo-prior that does not fit. The likelihood does not see closed weights, so the
    chain's law is the posterior whatever :math:`\psi` is; with the prior in its place a group of eight weights hardly
    ever opens again.

    In the first quarter of the warm-up the gates stay as they began, all open and all closed in turn, so that the open
    slabs find their place and R-hat tells whether the chains have forgotten their start. In the rest :math:`\psi`
    follows the moments that the slabs have while they are open, in all chains; one that is not given does from the
    beginning.

    Source: Carlin, Chib (1995), *Bayesian model choice via Markov chain Monte Carlo methods*, and for several tries
    Andrieu, Doucet, Holenstein (2010), *Particle Markov chain Monte Carlo methods*; for the moves given the gates see
    :class:`ChEES`.

    Args:
        potential: The potential energy.
        chains: Number of chains, two at least.
        pseudo_prior: Returns a draw of the slabs, site -> value, such as a guide: the pseudo-prior begins with the
            median and the quartiles of such draws. None begins with those of the prior.
        tries: K, tries of the weights of a gate, one at least.
        start: Starting points, shape ``(chains, n)``; None draws them, slabs from the pseudo-prior.
        target_accept: Acceptance probability that the step size is adapted to.
        max_leapfrogs: Most leapfrog steps of a transition.

    Attributes:
        position: Where the chains are, shape ``(chains, n)``: gates are 1 or -1, closed slabs 0, the prior's mean.
        pseudo_prior: The pseudo-prior.

    Raises:
        ValueError: If there is one chain only, or no try, or the pseudo-prior's slabs are not those of the model.
    """

    def __init__(
        self,
        potential: SpikePotential,
        chains: int,
        *,
        pseudo_prior: Draw | None = None,
        tries: int = 8,
        start: Tensor | None = None,
        target_accept: float = TARGET_ACCEPT,
        max_leapfrogs: int = 1024,
    ) -> None:
        if tries < 1:
            raise ValueError(f"tries must be at least 1, got {tries}")
        self._spikes, self._layout, self.tries = potential, potential.layout, tries
        self._is_given = pseudo_prior is not None
        draw = pseudo_prior or potential.prior_draw
        self.pseudo_prior = PseudoPrior.of(draw, self._layout.shapes, potential.like)
        points = self._starts(chains) if start is None else start.to(potential.like)
        self._moving = self._layout.moving(points)
        super().__init__(potential, points, target_accept=target_accept, max_leapfrogs=max_leapfrogs)

    def _starts(self, chains: int) -> Tensor:
        points, slabs = self._spikes.starts(chains), self._layout.slabs
        loc, scale = self._spikes.slab_prior(points)
        drawn = (self.pseudo_prior.sample((chains,)) - loc) / scale
        points[:, slabs] = torch.where(self._layout.is_open(points), drawn, points[:, slabs])
        return points

    # ---- a transition ------------------------------------------------------------------------------------------------

    def transition(self) -> Move:
        """Makes a transition of all chains: of all else given the gates, then of the gates.

        Returns:
            What the first tells about step size and length.
        """
        move = super().transition()
        self._draw_gates()
        return move

    def _momentum(self) -> Tensor:
        return super()._momentum() * self._moving

    @torch.no_grad()
    def _draw_gates(self) -> None:
        """Draws each gate given all else."""
        vectors = self.position
        loc, scale = self._spikes.slab_prior(vectors)  # which gates do not change
        for number in torch.randperm(len(self._layout.gates)).tolist():
            vectors = self._draw_gate(number, vectors, loc, scale)
        self._moving = self._layout.moving(vectors)
        self.position = vectors
        self.energy, self.gradient = self.potential.value_and_gradient(vectors)

    def _draw_gate(self, number: int, vectors: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        """Draws a gate of all chains, and the weights to open it with; returns where that leads."""
        layout, chains = self._layout, len(vectors)
        gate, owned = layout.gates[number], layout.owned[number]
        slabs, loc, scale = layout.slabs[owned], loc[:, owned], scale[:, owned]
        points = vectors.repeat(self.tries + 1, 1, 1)
        points[:-1, :, gate], points[-1, :, gate] = 1.0, -1.0
        opened = layout.is_open(points[0], owned)  # if the gate opens
        drawn = self.pseudo_prior.sample((self.tries, chains), owned)
        drawn[0] = torch.where(vectors[:, gate : gate + 1] > 0, loc + scale * vectors[:, slabs], drawn[0])
        points[:-1, :, slabs] = torch.where(opened, (drawn - loc) / scale, torch.zeros_like(drawn))
        points[-1, :, slabs] = 0.0
        energy = self.potential(points.flatten(0, 1)).unflatten(0, (-1, chains))
        density = self.pseudo_prior.log_prob(drawn, owned) + scale.log()  # in the sampler's coordinates
        weights = -energy
        weights[:-1] -= torch.where(opened, density, torch.zeros_like(density)).sum(-1) + math.log(self.tries)
        gumbel = -torch.empty_like(weights).exponential_().log()
        chosen = (weights.nan_to_num(nan=-torch.inf) + gumbel).argmax(0)
        each = torch.arange(chains, device=chosen.device)
        return points[chosen, each]

    # ---- the warm-up -------------------------------------------------------------------------------------------------

    def _transition_of(self, stretch: int) -> Move:
        return super().transition() if stretch <= _HELD else self.transition()

    def _observe(self) -> None:
        loc, scale = self._spikes.slab_prior(self.position)
        slabs = torch.addcmul(loc, scale, self.position[:, self._layout.slabs])
        self._coordinates.add(self.position, self._moving)
        self._entries.add(slabs, self._moving[:, self._layout.slabs])

    def _learn(self, stretch: int) -> None:
        if stretch > _HELD or not self._is_given:
            self.pseudo_prior = self.pseudo_prior.followed(self._entries)

    def _forget(self) -> None:
        super()._forget()
        self._entries = Moments(self.pseudo_prior.loc)

    # ---- stopping and going on ---------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Returns all that the chains' future depends on, but the states of the generators."""
        parts = {"pseudo_prior": dict(vars(self.pseudo_prior)), "entries": dict(vars(self._entries))}
        return {**super().state_dict(), **parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to where another sampler of the same model was.

        Args:
            state: Its state, on the sampler's device.
        """
        super().load_state_dict(state)
        self.pseudo_prior = PseudoPrior(**state["pseudo_prior"])
        vars(self._entries).update(state["entries"])
        self._moving = self._layout.moving(self.position)
