"""AutoCentered: mean field in the weights themselves, for the ablation."""

import torch
from torch import Tensor
from torch.distributions import Normal

from guides.gated import GatedNormal
from guides.handlers import Upstream
from guides.program import AutoProgram


class AutoCentered(AutoProgram):
    r"""Answers a slab by :math:`q(w) = N(\mu, \sigma^2)`, independent of its scale r.

    The divergence from the prior :math:`N(m, r^2)` then depends on the drawn scale,

    .. math:: KL = \gamma\,[\log(r/\sigma) - \tfrac12 + (\sigma^2 + (\mu - m)^2)/(2 r^2)],

    which is what makes the centred family slow and, for heavy-tailed scales, unstable: it stands here to be compared
    with :class:`~guides.AutoSpikeSlab`, whose options and errors it shares.

    Source: Betancourt, Girolami (2015), *Hamiltonian Monte Carlo for hierarchical models*; Jantre, Bhattacharya, Maiti
    (2023).
    """

    def _initial_slab(self, prior: Normal, value: Tensor) -> tuple[Tensor, Tensor]:
        size = (value - prior.mean).square().mean().sqrt()
        scale = torch.where(size > 0, size.expand_as(value), prior.stddev)
        return value.clone(), self._init_scale * scale

    def _slab(self, name: str, prior: Normal, weight: Tensor | None, upstream: Upstream) -> GatedNormal:
        loc, scale = self._parameters_of(name)
        return GatedNormal(loc, scale, prior.loc, prior.scale, loc.new_ones(()) if weight is None else weight)
