"""AutoSpikeSlab: the non-centred spike-and-slab variational family."""

import torch
from torch import Tensor
from torch.distributions import Normal

from guides.gated import NonCenteredNormal
from guides.handlers import Upstream
from guides.program import AutoProgram


class AutoSpikeSlab(AutoProgram):
    r"""Answers a slab by :math:`q(w) = N(m + r\mu, (r\sigma)^2)` where its prior is :math:`N(m, r^2)`.

    The prior's mean m and scale r are those that the program makes from the guide's own draws upstream, so :math:`\mu`
    and :math:`\sigma` live in units of r, and

    .. math:: KL = \gamma\,[\tfrac12(\sigma^2 + \mu^2 - 1) - \log\sigma]

    does not depend on r: the non-centred family. :math:`\gamma` is the product of the inclusion probabilities of all
    gates that multiply the slab; the slab's site names them by ``infer={"gates": {gate site: dimension of the slab}}``.
    Without the hint the weight is 1, a looser but valid bound.

    Options and errors are those of :class:`~guides.AutoProgram`. ``gates="relaxed"`` is SVI for the relaxed model, in
    which a weight is never exactly absent: gates are relaxed Bernoullis and every slab has weight 1.

    Source: Jantre, Bhattacharya, Maiti (2023), *A comprehensive study of spike and slab shrinkage priors for
    structurally sparse Bayesian neural networks*, with the weight extended to all gates of a slab.
    """

    def _initial_slab(self, prior: Normal, value: Tensor) -> tuple[Tensor, Tensor]:
        loc = (value - prior.mean) / prior.stddev
        size = loc.square().mean().sqrt()
        size = torch.where(size > 0, size, torch.ones_like(size))
        return loc, (self._init_scale * size).expand_as(loc).clone()

    def _slab(self, name: str, prior: Normal, weight: Tensor | None, upstream: Upstream) -> NonCenteredNormal:
        loc, scale = self._parameters_of(name)
        return NonCenteredNormal(loc, scale, prior.loc, prior.scale, loc.new_ones(()) if weight is None else weight)
