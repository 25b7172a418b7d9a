"""The distributions of the spike-and-slab variational family: the hard gate and the gated slab."""

from collections.abc import Sequence
from typing import get_args

import torch
from pyro.distributions import RelaxedBernoulliStraightThrough
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Size, Tensor
from torch.distributions import Distribution, Normal, constraints
from torch.distributions.utils import lazy_property
from torch.nn.functional import logsigmoid

from guides.checks import check_choice
from guides.protocols import GateGradient


class HardGate(RelaxedBernoulliStraightThrough):
    r"""A Bernoulli gate that is drawn hard and differentiated soft.

    With :math:`\ell = \log u - \log(1-u)` and logits :math:`\theta`, the draw is :math:`z = 1[\theta + \ell > 0]`,
    which is Bernoulli(:math:`\gamma = \sigma(\theta)`). In the backward pass its slope is one of two.

    *ReinMax*: :math:`dz/d\theta = \tfrac12 (1 - \gamma)` where the gate was open, :math:`\tfrac12 \gamma` where it was
    closed. For a function f of the gate the mean of the estimate is then

    .. math:: \gamma (1 - \gamma)\, \tfrac12 [f'(0) + f'(1)] \approx \gamma (1 - \gamma) [f(1) - f(0)]
        = \frac{d}{d\theta} E[f(z)],

    the trapezoid rule: exact where f is quadratic in each gate, as the log-likelihood of a linear model with Gaussian
    noise, whatever the number of weights behind the gate.

    *Straight through*: the draw stands for :math:`\sigma((\theta + \ell)/T)`. Its bias grows with the curvature of f,
    and so with the number of weights behind the gate, and closes needed gates at T = 1/2; it falls with T, while the
    variance rises.

    Everything is computed in logit space, so no probability is ever clamped.

    ``log_prob`` is the Bernoulli's, :math:`z \log\sigma(\theta) + (1-z) \log\sigma(-\theta)`, linear in ``z`` so that
    the gradient passes.

    Args:
        temperature: Positive temperature of the straight-through gradient, a scalar tensor.
        logits: Log-odds of an open gate, shape ``(*batch,)``.
        gradient: The slope of a draw, ``"reinmax"`` or ``"straight-through"``. With ``"disarm"`` a draw has none: the
            distribution says that it is not reparameterised, and the estimator has to give the gradient.
        validate_args: As in every distribution.

    Source: Liu, Dong, Liu, Yu, Gao (2023), *Bridging Discrete and Backpropagation: Straight-Through and Beyond*;
    Bengio, Leonard, Courville (2013), *Estimating or Propagating Gradients Through Stochastic Neurons*.
    """

    support = constraints.boolean

    def __init__(
        self,
        temperature: Tensor,
        logits: Tensor,
        *,
        gradient: GateGradient = "reinmax",
        validate_args: bool | None = None,
    ) -> None:
        check_choice("gradient", gradient, get_args(GateGradient))
        self.gradient = gradient
        super().__init__(temperature, logits=logits, validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        return self.gradient != "disarm"

    @property
    def mean(self) -> Tensor:
        return torch.sigmoid(self.logits)

    @property
    def variance(self) -> Tensor:
        return torch.sigmoid(self.logits) * torch.sigmoid(-self.logits)

    @property
    def median(self) -> Tensor:
        """The more probable of 0 and 1 (0 where they tie), shape ``(*batch,)``."""
        logits: Tensor = self.logits
        return (logits > 0).to(logits.dtype)

    def expand(self, batch_shape: Sequence[int], _instance: Distribution | None = None) -> "HardGate":
        new = self._get_checked_instance(HardGate, _instance)
        new.gradient = self.gradient
        expanded: HardGate = super().expand(Size(batch_shape), _instance=new)
        return expanded

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        logits: Tensor = self.logits.expand(self._extended_shape(Size(sample_shape)))
        uniform = torch.rand_like(logits).clamp(min=torch.finfo(logits.dtype).tiny)
        noisy = logits + uniform.log() - (-uniform).log1p()
        hard = (noisy > 0).to(logits.dtype)
        if self.gradient == "disarm":
            return hard
        if self.gradient == "straight-through":
            soft = torch.sigmoid(noisy / self.temperature)
            return hard + (soft - soft.detach())
        slope = torch.sigmoid(torch.where(noisy > 0, -logits, logits)).detach() / 2
        return hard + slope * (logits - logits.detach())

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        logits: Tensor = self.logits
        return value * logsigmoid(logits) + (1 - value) * logsigmoid(-logits)

    def antithetic(self, value: Tensor) -> Tensor:
        r"""Draws the antithetic partner of a draw.

        If ``value`` was made from the uniform :math:`u`, the partner is what :math:`1 - u` would have made. Given
        ``value`` it is open with probability :math:`\max(0, 2\gamma - 1)/\gamma` where the gate was open and
        :math:`\min(1, \gamma/(1-\gamma))` where it was closed.

        Args:
            value: A draw of this distribution, shape ``(*batch,)``.

        Returns:
            The partner, of the same shape.
        """
        with torch.no_grad():
            after_open = -torch.expm1(-self.logits.clamp(min=0))
            after_closed = self.logits.clamp(max=0).exp()
            chance = torch.where(value > 0.5, after_open, after_closed)
            return (torch.rand_like(chance) < chance).to(chance.dtype)


class GatedNormal(TorchDistribution):
    r"""A Normal whose divergence from its prior counts only as far as its gates are open.

    It draws :math:`q = N(\mu, \sigma^2)` and has :math:`\log q_\gamma(w) = \log p(w) + \gamma (\log q(w) - \log p(w))`,
    so that :math:`E_q[\log q_\gamma - \log p] = \gamma\,KL(q \| p)`. This is the bound of the spike-and-slab family in
    which a closed weight keeps its prior: :math:`q(w \mid z=0) = p(w)`. ``log_prob`` is therefore a term of a bound and
    not the density of a draw.

    Args:
        loc: Mean of q, shape ``(*batch,)``.
        scale: Standard deviation of q, shape ``(*batch,)``.
        prior_loc: Mean of p.
        prior_scale: Standard deviation of p.
        weight: Inclusion probability :math:`\gamma` in [0, 1]: the product over all gates that multiply the weight.
        validate_args: As in every distribution.

    Source: Jantre, Bhattacharya, Maiti (2021), *Layer adaptive node selection in Bayesian neural networks*.
    """

    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "prior_loc": constraints.real,
        "prior_scale": constraints.positive,
        "weight": constraints.unit_interval,
    }
    support = constraints.real
    has_rsample = True

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor,
        prior_loc: Tensor,
        prior_scale: Tensor,
        weight: Tensor,
        *,
        validate_args: bool | None = None,
    ) -> None:
        shape = torch.broadcast_shapes(*(x.shape for x in (loc, scale, prior_loc, prior_scale, weight)))
        self.loc, self.scale = loc.expand(shape), scale.expand(shape)
        self.prior_loc, self.prior_scale, self.weight = prior_loc, prior_scale, weight
        super().__init__(shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.scale.square()

    def expand(self, batch_shape: Sequence[int], _instance: Distribution | None = None) -> "GatedNormal":
        new: GatedNormal = Distribution._get_checked_instance(self, GatedNormal, _instance)
        new.loc, new.scale = self.loc.expand(batch_shape), self.scale.expand(batch_shape)
        new.prior_loc, new.prior_scale, new.weight = self.prior_loc, self.prior_scale, self.weight
        TorchDistribution.__init__(new, Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        noise = torch.randn(self._extended_shape(Size(sample_shape)), dtype=self.loc.dtype, device=self.loc.device)
        return torch.addcmul(self.loc, self.scale, noise)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        posterior: Tensor = Normal(self.loc, self.scale, validate_args=False).log_prob(value)
        prior: Tensor = Normal(self.prior_loc, self.prior_scale, validate_args=False).log_prob(value)
        return prior + self.weight * (posterior - prior)


class NonCenteredNormal(GatedNormal):
    r"""A GatedNormal given in units of its prior, :math:`q = N(m + r\mu, (r\sigma)^2)` for the prior :math:`N(m, r^2)`.

    Its divergence from that prior, :math:`\gamma\,[\tfrac12(\sigma^2 + \mu^2 - 1) - \log\sigma]`, does not depend on m
    and r.

    Args:
        unit_loc: :math:`\mu`, shape ``(*batch,)``.
        unit_scale: :math:`\sigma`, shape ``(*batch,)``.
        prior_loc: m.
        prior_scale: r.
        weight: Inclusion probability :math:`\gamma` in [0, 1].
        validate_args: As in every distribution.
    """

    arg_constraints = {
        "unit_loc": constraints.real,
        "unit_scale": constraints.positive,
        "prior_loc": constraints.real,
        "prior_scale": constraints.positive,
        "weight": constraints.unit_interval,
    }

    def __init__(
        self,
        unit_loc: Tensor,
        unit_scale: Tensor,
        prior_loc: Tensor,
        prior_scale: Tensor,
        weight: Tensor,
        *,
        validate_args: bool | None = None,
    ) -> None:
        shape = torch.broadcast_shapes(*(x.shape for x in (unit_loc, unit_scale, prior_loc, prior_scale, weight)))
        self.unit_loc, self.unit_scale = unit_loc.expand(shape), unit_scale.expand(shape)
        self.prior_loc, self.prior_scale, self.weight = prior_loc, prior_scale, weight
        TorchDistribution.__init__(self, shape, validate_args=validate_args)

    @lazy_property
    def loc(self) -> Tensor:
        return torch.addcmul(self.prior_loc, self.prior_scale, self.unit_loc)

    @lazy_property
    def scale(self) -> Tensor:
        return self.prior_scale * self.unit_scale

    def expand(self, batch_shape: Sequence[int], _instance: Distribution | None = None) -> "NonCenteredNormal":
        new: NonCenteredNormal = Distribution._get_checked_instance(self, NonCenteredNormal, _instance)
        new.unit_loc, new.unit_scale = self.unit_loc.expand(batch_shape), self.unit_scale.expand(batch_shape)
        new.prior_loc, new.prior_scale, new.weight = self.prior_loc, self.prior_scale, self.weight
        TorchDistribution.__init__(new, Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new
