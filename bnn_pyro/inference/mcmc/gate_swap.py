"""GateSwap: Gibbs draws of pairs of gates that are exactly 0 or 1, which close one and open the other at once."""

import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.gate_draw import in_proportion
from bnn_pyro.inference.mcmc.potential.exact_gate_potential import SpikePotential
from bnn_pyro.inference.mcmc.pseudo_prior import PseudoPrior


class GateSwap:
    r"""Exchanges an open gate for a closed one, where of two that say the same one is needed.

    One gate at a time, the chain would have to pass through both closed, or both open, which either of them makes
    improbable. An open gate a and a closed gate b are chosen at random, alike in both directions, as a swap leaves
    their numbers. With K tries of the weights of each, drawn from the pseudo-prior :math:`\psi` (the first of a are
    what it has), the pair and its weights are one of 2 K states in proportion to

    .. math::
        \frac{p(y, w_a^{(k)} \mid z_a = 1, z_b = 0, \cdot)}{\psi(w_a^{(k)})} \quad \text{or} \quad
        \frac{p(y, w_b^{(k)} \mid z_a = 0, z_b = 1, \cdot)}{\psi(w_b^{(k)})}, \qquad k = 1, \dots, K.

    This is a Gibbs draw in the space of the pair's state and all tries, whose marginal is the posterior, for any
    :math:`\psi`. Weights that both gates multiply are closed in either state.

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

    @torch.no_grad()
    def __call__(self, vectors: Tensor, pseudo_prior: PseudoPrior) -> Tensor:
        """Draw a pair of gates of each chain; chains whose gates are all open, or all closed, stay.

        Args:
            vectors: Where the chains are, shape ``(chains, n)``.
            pseudo_prior: The pseudo-prior.

        Returns:
            Where that leads, shape ``(chains, n)``.
        """
        layout, tries, each = self.potential.layout, self.tries, torch.arange(len(vectors), device=vectors.device)
        is_open = vectors[:, layout.gates] > 0
        can_swap = is_open.any(1) & ~is_open.all(1)
        opened, closed = (layout.gates[_one_of(among)] for among in (is_open, ~is_open))
        points = vectors.repeat(2 * tries, 1, 1)  # those as it is, then those swapped
        points[tries:, each, opened], points[tries:, each, closed] = -1.0, 1.0
        before, after = layout.is_open(points[0]), layout.is_open(points[-1])
        loc, scale = self.potential.slab_prior(vectors)  # which gates do not change
        drawn = pseudo_prior.sample((2 * tries, len(vectors)))
        drawn[0] = torch.addcmul(loc, scale, vectors[:, layout.slabs])
        tried = torch.cat([(before & ~after).expand(tries, -1, -1), (after & ~before).expand(tries, -1, -1)])
        slabs = torch.where(tried, (drawn - loc) / scale, points[..., layout.slabs])
        slabs[tries:] = slabs[tries:].masked_fill(~after, 0.0)
        points[..., layout.slabs] = slabs
        density = pseudo_prior.log_prob(drawn) + scale.log()  # in the sampler's coordinates
        weights = -self.potential(points.flatten(0, 1)).unflatten(0, (2 * tries, -1))
        weights = weights - density.masked_fill(~tried, 0.0).sum(-1)
        chosen = in_proportion(weights)
        return torch.where(can_swap.unsqueeze(1), points[chosen, each], vectors)


def _one_of(among: Tensor) -> Tensor:
    """Return the number of one of some gates for each chain, each alike; of any where there is none."""
    return torch.rand(among.shape, device=among.device).masked_fill(~among, -1.0).argmax(1)
