"""NoisePrior: the prior of a full noise covariance, of scales and correlations, and the matrix that these make."""

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from bnn_pyro.likelihoods.half_cauchy import HalfCauchy


def cholesky_factor(latent: Tensor, targets: int) -> Tensor:
    r"""Return the Cholesky factor of a noise covariance, by its scales and its partial correlations.

    With the scales :math:`s` and the odds :math:`r_{ij}` of `NoisePrior`,

    .. math:: L_{ij} = s_i z_{ij} \prod_{k < j} \sqrt{1 - z_{ik}^2}, \qquad
        z_{ij} = \frac{r_{ij} - 1}{r_{ij} + 1} \ (j < i), \quad z_{ii} = 1.

    Args:
        latent: Scales and odds, shape ``(*batch, K (K + 1) / 2)``, the odds by rows.
        targets: K.

    Returns:
        L, lower triangular with a positive diagonal, shape ``(*batch, K, K)``; the covariance is ``L L^T``.
    """
    scales, odds = latent[..., :targets], latent[..., targets:]
    number = torch.arange(targets, device=latent.device)
    row, column = number.unsqueeze(1), number
    last = torch.full_like(row * column, odds.shape[-1])  # where there is no correlation: a 1 stands there
    place = torch.where(column < row, row * (row - 1) // 2 + column, last)
    full = torch.cat([odds, torch.ones_like(latent[..., :1])], -1)[..., place]
    partial = (full - 1) / (full + 1) + torch.eye(targets, dtype=latent.dtype, device=latent.device)
    rest = (2 * full.sqrt() / (full + 1)).cumprod(-1)  # the roots of 1 - z²
    before = torch.cat([torch.ones_like(rest[..., :1]), rest[..., :-1]], -1)
    return scales.unsqueeze(-1) * partial * before


class NoisePrior(TorchDistribution):
    r"""Half-Cauchy scales of K targets, and an LKJ prior on their correlations, as one vector of positive numbers.

    .. math::
        s_k \sim \mathrm{HalfCauchy}(c), \qquad p(R) \propto \det(R)^{\eta - 1}, \qquad
        r_{ij} = \frac{1 + z_{ij}}{1 - z_{ij}},

    where :math:`z_{ij}` is the partial correlation of targets i and j < i given the first j. These are independent,
    :math:`(1 + z_{ij}) / 2 \sim \mathrm{Beta}(b_j, b_j)` with :math:`b_j = \eta + (K - 2 - j) / 2` and j from 0, so
    that their odds :math:`r_{ij}` have a beta-prime distribution. The vector is K scales and K (K - 1) / 2 odds, by
    rows; a vector of ones is a noise of unit scale without correlations.

    Source: Lewandowski, Kurowicka, Joe (2009), Generating random correlation matrices based on vines and extended onion
    method.

    Args:
        scale: Medians :math:`c` of the scales, positive, shape ``(*batch, K)``.
        concentration: :math:`\eta`, positive: 1 is uniform over correlation matrices, more favours small correlations.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own form)
    support = dist.constraints.independent(dist.constraints.positive, 1)

    def __init__(self, scale: Tensor, concentration: float = 1.0) -> None:
        self.scale, self.concentration = scale, concentration
        targets = scale.shape[-1]
        super().__init__(scale.shape[:-1], torch.Size([targets * (targets + 1) // 2]), validate_args=False)

    def expand(self, batch_shape: Any, _instance: object = None) -> "NoisePrior":
        """Return the same distribution over a larger batch.

        Args:
            batch_shape: The new batch shape.
        """
        return NoisePrior(self.scale.expand(*batch_shape, self.scale.shape[-1]), self.concentration)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008  (torch's own form)
        """Return draws.

        Args:
            sample_shape: How many.
        """
        scales = HalfCauchy(self.scale).sample(sample_shape)
        shape = self._shapes().expand(*scales.shape[:-1], -1)
        odds = torch._standard_gamma(shape) / torch._standard_gamma(shape)
        return torch.cat([scales, odds], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density, of batch shape.

        Args:
            value: Scales and odds.
        """
        targets, b = self.scale.shape[-1], self._shapes()
        scales, odds = value[..., :targets], value[..., targets:]
        normaliser = 2 * torch.lgamma(b) - torch.lgamma(2 * b)
        density = (b - 1) * odds.log() - 2 * b * odds.log1p() - normaliser
        found: Tensor = HalfCauchy(self.scale).log_prob(scales).sum(-1) + density.sum(-1)
        return found

    def _shapes(self) -> Tensor:
        """Return the parameter b of each odds, by rows, shape ``(K (K - 1) / 2,)``."""
        targets = self.scale.shape[-1]
        columns = torch.tril_indices(targets, targets, -1, device=self.scale.device)[1]
        return self.concentration + (targets - 2 - columns.to(self.scale)) / 2
