"""Distributions of counts by the logarithm of their mean, whose densities are right where the mean is close to 0."""

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.nn.functional import logsigmoid


class _Counts(TorchDistribution):
    """Counts of which the logarithm of the mean is given."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own form)
    support = dist.constraints.nonnegative_integer

    def __init__(self, log_mean: Tensor) -> None:
        self.log_mean = log_mean
        super().__init__(log_mean.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Means."""
        return self.log_mean.exp()


class PoissonCounts(_Counts):
    r"""Poisson counts: ``log p(y) = y f - exp(f) - log y!``, finite and with a gradient for any finite f.

    Args:
        log_mean: The logarithm f of the mean.
    """

    @property
    def variance(self) -> Tensor:
        """Variances."""
        return self.mean

    def expand(self, batch_shape: Any, _instance: object = None) -> "PoissonCounts":
        """Return the same distribution over a larger batch.

        Args:
            batch_shape: The new batch shape.
        """
        return PoissonCounts(self.log_mean.expand(batch_shape))

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008  (torch's own form)
        """Return draws.

        Args:
            sample_shape: How many.
        """
        with torch.no_grad():
            return torch.poisson(self.mean.expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability.

        Args:
            value: Counts.
        """
        return value * self.log_mean - self.log_mean.exp() - torch.lgamma(value + 1)


class OverdispersedCounts(_Counts):
    r"""Negative binomial counts of mean m and variance ``m + d m²``.

    .. math::
        \log p(y) = \log\Gamma(y + 1/d) - \log\Gamma(1/d) - \log y! + y \log\sigma(l) + \tfrac1d \log\sigma(-l),
        \qquad l = \log m + \log d

    The first two terms are large and cancel where d is small, so that all is computed in double precision.

    Args:
        log_mean: The logarithm of m.
        dispersion: The dispersion d > 0, of the same shape.
    """

    def __init__(self, log_mean: Tensor, dispersion: Tensor) -> None:
        super().__init__(log_mean)
        self.dispersion = dispersion

    @property
    def variance(self) -> Tensor:
        """Variances."""
        return self.mean + self.dispersion * self.mean.square()

    def expand(self, batch_shape: Any, _instance: object = None) -> "OverdispersedCounts":
        """Return the same distribution over a larger batch.

        Args:
            batch_shape: The new batch shape.
        """
        return OverdispersedCounts(self.log_mean.expand(batch_shape), self.dispersion.expand(batch_shape))

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008  (torch's own form)
        """Return draws: Poisson's, at rates that are drawn from a Gamma.

        Args:
            sample_shape: How many.
        """
        with torch.no_grad():
            shape = self._extended_shape(sample_shape)
            gamma = torch._standard_gamma((1 / self.dispersion).expand(shape).contiguous())
            return torch.poisson(gamma * self.dispersion * self.mean)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability.

        Args:
            value: Counts.
        """
        y, log_mean, dispersion = value.double(), self.log_mean.double(), self.dispersion.double()
        count, logit = 1 / dispersion, log_mean + dispersion.log()
        choose = torch.lgamma(y + count) - torch.lgamma(count) - torch.lgamma(y + 1)
        return (choose + y * logsigmoid(logit) + count * logsigmoid(-logit)).to(self.log_mean.dtype)
