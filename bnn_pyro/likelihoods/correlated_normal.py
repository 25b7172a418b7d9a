"""CorrelatedNormal: a normal distribution of several targets with a full covariance, and with gaps."""

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor


class CorrelatedNormal(TorchDistribution):
    r"""A multivariate normal distribution that reads no values when it is made.

    .. math::
        \log p(y) = -\tfrac12 \lVert L^{-1} (y - m) \rVert^2 - \sum_k \log L_{kk} - \tfrac K2 \log 2\pi

    With gaps it is the distribution of the targets that are there, whose covariance is that part of :math:`L L^T`: a
    target that is missing, NaN, adds nothing; it is missing at random.

    Args:
        loc: Means m, shape ``(*batch, K)``.
        scale_tril: L, lower triangular with a positive diagonal, of a shape that broadcasts with ``(*batch, K, K)``.
        missing: Whether NaN is a gap.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own form)
    support = dist.constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor, scale_tril: Tensor, *, missing: bool = False) -> None:
        self.loc, self.scale_tril, self.missing = loc, scale_tril, missing
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Means."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """Variances, the diagonal of the covariance."""
        return self.scale_tril.square().sum(-1).expand_as(self.loc)

    def expand(self, batch_shape: Any, _instance: object = None) -> "CorrelatedNormal":
        """Return the same distribution over a larger batch.

        Args:
            batch_shape: The new batch shape.
        """
        loc = self.loc.expand(*batch_shape, self.loc.shape[-1])
        return CorrelatedNormal(loc, self.scale_tril, missing=self.missing)

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008  (torch's own form)
        """Return draws with gradients, without gaps.

        Args:
            sample_shape: How many.
        """
        shape = self._extended_shape(sample_shape)
        normal = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        drawn: Tensor = self.loc + (self.scale_tril @ normal.unsqueeze(-1)).squeeze(-1)
        return drawn

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density of the targets that are there.

        Args:
            value: Targets, shape ``(*batch, K)``.

        Returns:
            Of batch shape.
        """
        error = value.to(self.loc.dtype) - self.loc
        if not self.missing:
            return self._density(error, self.scale_tril, error.shape[-1])
        seen = ~error.isnan()
        return self._density(error.nan_to_num(0.0), self._of_seen(seen), seen.sum(-1))

    def _density(self, error: Tensor, scale_tril: Tensor, numbers: Tensor | int) -> Tensor:
        """Return the log-density of errors, given how many of them there are."""
        distance: Tensor = _solved(scale_tril, error).square().sum(-1)
        logs: Tensor = scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        density: Tensor = -0.5 * distance - logs - numbers * (0.5 * math.log(2 * math.pi))
        return density

    def _of_seen(self, seen: Tensor) -> Tensor:
        """Return the factor of the covariance of what is there, a target that is not there apart with variance 1."""
        covariance = self.scale_tril @ self.scale_tril.mT
        both = (seen.unsqueeze(-1) & seen.unsqueeze(-2)).to(covariance)
        apart = torch.diag_embed((~seen).to(covariance))
        factor: Tensor = torch.linalg.cholesky_ex(covariance * both + apart).L
        return factor


def _solved(scale_tril: Tensor, error: Tensor) -> Tensor:
    """Return ``L^-1 error``; one factor for all rows is not copied for each of them."""
    found: Tensor
    if scale_tril.dim() > 2 and scale_tril.shape[-3] > 1:
        found = torch.linalg.solve_triangular(scale_tril, error.unsqueeze(-1), upper=False).squeeze(-1)
        return found
    factor = scale_tril if scale_tril.dim() == 2 else scale_tril.squeeze(-3)
    rows = error if error.dim() > 1 else error.unsqueeze(0)
    found = torch.linalg.solve_triangular(factor, rows.mT, upper=False).mT
    return found if error.dim() > 1 else found.squeeze(0)
