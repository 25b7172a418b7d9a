r"""Closed-form Kullback-Leibler divergences of the spike-and-slab family, registered with ``torch.distributions.kl``.

Registering is this module's one side effect. The sources are Jantre, Bhattacharya, Maiti (2021, 2023) for the terms of
the horseshoe and the group lasso; every form is checked against Monte Carlo in the tests.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions import RelaxedBernoulliStraightThrough
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.distributions import Gamma, InverseGamma, LogNormal, Normal, RelaxedBernoulli
from torch.distributions.kl import register_kl
from torch.nn.functional import logsigmoid

from guides.correlated import CorrelatedSlab
from guides.gated import GatedNormal, NonCenteredNormal

HALF_LOG_2PI_E = 0.5 * math.log(2 * math.pi * math.e)


def bernoulli_divergence(logits: Tensor, prior_logits: Tensor) -> Tensor:
    r"""Returns the divergence of two Bernoullis.

    .. math:: KL(Bern(\gamma) \| Bern(\lambda)) = \gamma\log(\gamma/\lambda) + (1-\gamma)\log((1-\gamma)/(1-\lambda))

    Computed from log-odds, so that nothing overflows near 0 and 1.

    Args:
        logits: Log-odds of :math:`\gamma`, any shape.
        prior_logits: Log-odds of :math:`\lambda`, broadcastable.

    Returns:
        The divergence in nats, of the broadcast shape.
    """
    opened = torch.sigmoid(logits) * (logsigmoid(logits) - logsigmoid(prior_logits))
    closed = torch.sigmoid(-logits) * (logsigmoid(-logits) - logsigmoid(-prior_logits))
    return opened + closed


def relaxed_divergence(logits: Tensor, prior_logits: Tensor) -> Tensor:
    r"""Returns the divergence of two relaxed Bernoullis of a common temperature, :math:`\delta\coth(\delta/2) - 2`.

    :math:`\delta` is the difference of their log-odds; the temperature cancels. It is larger than the divergence of the
    rounded gates.

    Args:
        logits: Log-odds of the first, any shape.
        prior_logits: Log-odds of the second, broadcastable.

    Returns:
        The divergence in nats, of the broadcast shape.
    """
    delta = (logits - prior_logits).abs()
    near = delta < 0.1
    safe = torch.where(near, torch.ones_like(delta), delta)
    far_value = safe - 2 - 2 * safe * torch.exp(-safe) / torch.expm1(-safe)
    square = delta.square()
    near_value = square / 6 * (1 - square / 60 * (1 - square / 42))
    return torch.where(near, near_value, far_value)


def normal_divergence(loc: Tensor, scale: Tensor, prior_loc: Tensor, prior_scale: Tensor) -> Tensor:
    r"""Returns :math:`KL(N(\mu,\sigma^2) \| N(m,s^2)) = \log(s/\sigma) - 1/2 + (\sigma^2 + (\mu-m)^2)/(2 s^2)`.

    Args:
        loc: :math:`\mu`, any shape.
        scale: :math:`\sigma`.
        prior_loc: :math:`m`.
        prior_scale: :math:`s`.

    Returns:
        The divergence in nats, of the broadcast shape.
    """
    ratio = scale / prior_scale
    distance = (loc - prior_loc) / prior_scale
    return 0.5 * (ratio.square() + distance.square() - 1) - ratio.log()


class _UnitDivergence(torch.autograd.Function):
    r""":math:`KL(N(\mu, \sigma^2) \| N(0, 1))` with its gradient written out: half of autograd's passes."""

    generate_vmap_rule = True

    @staticmethod
    def forward(loc: Tensor, scale: Tensor) -> Tensor:
        return torch.addcmul(loc.square(), scale, scale).mul_(0.5).sub_(scale.log()).sub_(0.5)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        loc, scale = ctx.saved_tensors
        return gradient * loc, gradient * (scale - scale.reciprocal())


def unit_divergence(loc: Tensor, scale: Tensor) -> Tensor:
    r"""Returns :math:`KL(N(\mu, \sigma^2) \| N(0, 1)) = \tfrac12(\sigma^2 + \mu^2 - 1) - \log\sigma`.

    Args:
        loc: :math:`\mu`, any shape.
        scale: :math:`\sigma`, of the same shape.

    Returns:
        The divergence in nats, of that shape.
    """
    divergence: Tensor = _UnitDivergence.apply(loc, scale)
    return divergence


def rounded_gate_divergence(p: RelaxedBernoulliStraightThrough, q: RelaxedBernoulli) -> Tensor:
    """KL of the *rounded* gates: hard gates answer for the true spike-and-slab model, whose gates are Bernoulli."""
    return bernoulli_divergence(p.logits, q.logits)


def relaxed_gate_divergence(p: RelaxedBernoulli, q: RelaxedBernoulli) -> Tensor:
    """KL of two relaxed gates; there is a closed form for equal temperatures only."""
    temperature: Tensor = torch.as_tensor(q.temperature)
    is_same = p.temperature is q.temperature  # asked first, as to compare the values is to wait for them
    if not is_same and not torch.equal(torch.as_tensor(p.temperature).to(temperature), temperature):
        raise NotImplementedError("the KL of relaxed Bernoullis has a closed form for equal temperatures only")
    return relaxed_divergence(p.logits, q.logits)


def gated_normal_divergence(p: GatedNormal, q: Normal) -> Tensor:
    """KL of a slab, weighted by the inclusion probability of its gates."""
    return p.weight * normal_divergence(p.loc, p.scale, q.loc, q.scale)


def non_centered_divergence(p: NonCenteredNormal, q: Normal) -> Tensor:
    """The same where q is the very prior that p is given in units of: fewer passes over the weights, no slope in r."""
    if q.loc is not p.prior_loc or q.scale is not p.prior_scale:
        return gated_normal_divergence(p, q)
    return p.weight * unit_divergence(p.unit_loc, p.unit_scale)


def correlated_divergence(p: CorrelatedSlab, q: Normal) -> Tensor:
    """The share of each entry, which its guide has computed from the gates of all; q is the prior that it was given."""
    return p.divergence


def log_normal_gamma_divergence(p: LogNormal, q: Gamma) -> Tensor:
    r""":math:`-a\log b + \log\Gamma(a) - a\mu + b e^{\mu+\sigma^2/2} - \log\sigma - H` for Gamma(shape a, rate b)."""
    a, b = q.concentration, q.rate
    mean = (p.loc + 0.5 * p.scale.square()).exp()
    return torch.lgamma(a) - a * (b.log() + p.loc) + b * mean - p.scale.log() - HALF_LOG_2PI_E


def log_normal_inverse_gamma_divergence(p: LogNormal, q: InverseGamma) -> Tensor:
    r""":math:`-a\log b + \log\Gamma(a) + a\mu + b e^{\sigma^2/2-\mu} - \log\sigma - H` for InvGamma(a, scale b)."""
    a, b = q.concentration, q.rate
    mean_inverse = (0.5 * p.scale.square() - p.loc).exp()
    return torch.lgamma(a) - a * (b.log() - p.loc) + b * mean_inverse - p.scale.log() - HALF_LOG_2PI_E


_CLOSED_FORMS: dict[tuple[type, type], Callable[..., Tensor]] = {
    (RelaxedBernoulliStraightThrough, RelaxedBernoulli): rounded_gate_divergence,
    (RelaxedBernoulli, RelaxedBernoulli): relaxed_gate_divergence,
    (GatedNormal, Normal): gated_normal_divergence,
    (NonCenteredNormal, Normal): non_centered_divergence,
    (CorrelatedSlab, Normal): correlated_divergence,
    (LogNormal, Gamma): log_normal_gamma_divergence,
    (LogNormal, InverseGamma): log_normal_inverse_gamma_divergence,
}

for (first, second), closed_form in _CLOSED_FORMS.items():
    register_kl(first, second)(closed_form)
