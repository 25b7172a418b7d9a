"""Targets: independent numbers of one row, such as several targets, labels or pixels, with weights and with gaps."""

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor


class Targets(TorchDistribution):
    r"""The targets of a row as one observation: independent given the network's output, with weights, and with gaps.

    .. math::
        \log p(y) = \sum_k w_k\, 1[y_k \text{ is a number}] \log p_k(y_k)

    With weights other than 1 this is no density but a weighted log-likelihood, whose posterior is the general one of
    Bissiri, Holmes and Walker (2016). A target that is missing, NaN, adds nothing: it is missing at random.

    Args:
        base: Distribution of each number, of batch shape ``(*batch, *targets)``.
        event_dim: How many of its last dimensions are those of one row.
        weight: Weights, of a shape that broadcasts with that of a row; None for 1.
        missing: Whether NaN is a gap.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own form)

    def __init__(
        self, base: TorchDistribution, event_dim: int, *, weight: Tensor | None = None, missing: bool = False
    ) -> None:
        self.base, self.weight, self.missing = base, weight, missing
        self._dtype = next(number.dtype for number in vars(base).values() if isinstance(number, Tensor))
        split = len(base.batch_shape) - event_dim
        super().__init__(base.batch_shape[:split], base.batch_shape[split:], validate_args=False)

    @property
    def support(self) -> Any:
        """Where the numbers lie."""
        return dist.constraints.independent(self.base.support, len(self.event_shape))

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws have gradients."""
        return bool(self.base.has_rsample)

    @property
    def mean(self) -> Tensor:
        """Means, of batch and event shape."""
        found: Tensor = self.base.mean
        return found

    @property
    def variance(self) -> Tensor:
        """Variances, of batch and event shape."""
        found: Tensor = self.base.variance
        return found

    def expand(self, batch_shape: Any, _instance: object = None) -> "Targets":
        """Return the same distribution over a larger batch.

        Args:
            batch_shape: The new batch shape.
        """
        base = self.base.expand(torch.Size(batch_shape) + self.event_shape)
        return Targets(base, len(self.event_shape), weight=self.weight, missing=self.missing)

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008  (torch's own form)
        """Return draws with gradients, without gaps.

        Args:
            sample_shape: How many.
        """
        found: Tensor = self.base.rsample(sample_shape)
        return found

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008  (torch's own form)
        """Return draws, without gaps.

        Args:
            sample_shape: How many.
        """
        found: Tensor = self.base.sample(sample_shape)
        return found

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the weighted log-density of rows.

        Args:
            value: Targets, of batch and event shape.

        Returns:
            Of batch shape.
        """
        value = value.to(self._dtype)
        seen = ~value.isnan() if self.missing else None
        density: Tensor = self.base.log_prob(value if seen is None else value.nan_to_num(0.0))
        if self.weight is not None:
            density = density * self.weight.to(density)
        if seen is not None:
            density = torch.where(seen, density, torch.zeros_like(density))
        return density.flatten(len(self.batch_shape)).sum(-1) if self.event_shape else density
