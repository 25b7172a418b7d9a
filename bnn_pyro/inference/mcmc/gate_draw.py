"""GateDraw: Gibbs draws of gates that are exactly 0 or 1, each with the weights to open it with."""

import math

import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.potential.exact_gate_potential import SpikePotential
from bnn_pyro.inference.mcmc.pseudo_prior import PseudoPrior


class GateDraw:
    r"""Draws each gate in turn, in random order, given all else but the weights that it closes.

    With K tries :math:`w^{(k)}` of these, drawn from a pseudo-prior :math:`\psi` (of an open gate the first is what it
    has), a gate is open with the odds

    .. math::
        \frac{P(z_j = 1 \mid \cdot)}{P(z_j = 0 \mid \cdot)} = \frac{\lambda_j}{1 - \lambda_j} \,
        \frac1K \sum_{k=1}^K \frac{p(y \mid z_j = 1, w^{(k)}, \cdot)}{p(y \mid z_j = 0, \cdot)} \,
        \prod_{i \in C_j} \frac{N(w_i^{(k)}; m_i, r_i^2)}{\psi(w_i^{(k)})},

    and opens with one of the tries, in proportion to its term. :math:`C_j` are the weights that gate j multiplies and
    that no other closed gate does: a weight is closed where either of its ends is. One try is Gibbs on the gate given
    the slab; more make up for a pseudo-prior that does not fit. The likelihood does not see closed weights, so the
    chain's law is the posterior whatever :math:`\psi` is; with the prior in its place a group of eight weights hardly
    ever opens again.

    Args:
        potential: The potential energy.
        tries: K, one at least.

    Raises:
        ValueError: If there is no try.

    Source: Carlin, Chib (1995), *Bayesian model choice via Markov chain Monte Carlo methods*, and for several tries
    Andrieu, Doucet, Holenstein (2010), *Particle Markov chain Monte Carlo methods*.
    """

    def __init__(self, potential: SpikePotential, tries: int) -> None:
        if tries < 1:
            raise ValueError(f"tries must be at least 1, got {tries}")
        self.potential, self.tries = potential, tries
        self._gates: list[int] = potential.layout.gates.tolist()  # read once, as to index by a tensor is to wait for it

    @torch.no_grad()
    def __call__(self, vectors: Tensor, pseudo_prior: PseudoPrior) -> Tensor:
        """Draw all gates of all chains.

        Args:
            vectors: Where the chains are, shape ``(chains, n)``.
            pseudo_prior: The pseudo-prior.

        Returns:
            Where that leads, shape ``(chains, n)``.
        """
        loc, scale = self.potential.slab_prior(vectors)  # which gates do not change
        for number in torch.randperm(len(self._gates), device="cpu").tolist():
            vectors = self._one(number, vectors, loc, scale, pseudo_prior)
        return vectors

    def _one(self, number: int, vectors: Tensor, loc: Tensor, scale: Tensor, pseudo_prior: PseudoPrior) -> Tensor:
        """Draw a gate of all chains, and the weights to open it with."""
        layout, chains = self.potential.layout, len(vectors)
        gate, owned = self._gates[number], layout.owned[number]
        slabs, loc, scale = layout.slabs[owned], loc[:, owned], scale[:, owned]
        points = vectors.repeat(self.tries + 1, 1, 1)
        points[:-1, :, gate], points[-1, :, gate] = 1.0, -1.0
        opened = layout.is_open(points[0], owned)  # if the gate opens
        drawn = pseudo_prior.sample((self.tries, chains), owned)
        drawn[0] = torch.where(vectors[:, gate : gate + 1] > 0, loc + scale * vectors[:, slabs], drawn[0])
        points[:-1, :, slabs] = torch.where(opened, (drawn - loc) / scale, torch.zeros_like(drawn))
        points[-1, :, slabs] = 0.0
        energy = self.potential(points.flatten(0, 1)).unflatten(0, (-1, chains))
        density = pseudo_prior.log_prob(drawn, owned) + scale.log()  # in the sampler's coordinates
        weights = -energy
        weights[:-1] -= torch.where(opened, density, torch.zeros_like(density)).sum(-1) + math.log(self.tries)
        chosen = in_proportion(weights)
        each = torch.arange(chains, device=chosen.device)
        return points[chosen, each]


def in_proportion(log_weights: Tensor) -> Tensor:
    """Draw one of several states of each chain, in proportion to its weight; those of weight NaN are not drawn.

    Args:
        log_weights: Logarithms of the weights, shape ``(states, chains)``.

    Returns:
        Number of the state, shape ``(chains,)``.
    """
    gumbel = -torch.empty_like(log_weights).exponential_().log()
    return (log_weights.nan_to_num(nan=-torch.inf) + gumbel).argmax(0)
