"""HalfCauchy: that of Pyro, made without a number that would be copied to the device."""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import AbsTransform, TransformedDistribution


class HalfCauchy(dist.HalfCauchy):  # type: ignore[misc]  # Pyro leaves it without types
    r"""The half-Cauchy distribution, :math:`p(x) = 2 / (\pi k (1 + (x/k)^2))` for :math:`x \ge 0`.

    Torch's puts the number 0 beside the scale as the mean of a Cauchy: on a GPU each one made waits for the device.

    Args:
        scale: :math:`k`, positive.
    """

    def __init__(self, scale: Tensor) -> None:
        cauchy = dist.Cauchy(torch.zeros_like(scale), scale, validate_args=False)
        TransformedDistribution.__init__(self, cauchy, AbsTransform(), validate_args=False)

    def expand(self, batch_shape: Size, _instance: Any = None) -> "HalfCauchy":
        """Return the distribution with a larger batch shape."""
        return HalfCauchy(self.scale.expand(batch_shape))
