"""Quantiles of a mixture of normals, by bisection."""

import torch
from torch import Tensor
from torch.distributions import Normal

_HALVINGS = 60  # after which a bracket is as narrow as float64 can tell


def mixture_quantiles(mean: Tensor, sd: Tensor, q: Tensor) -> Tensor:
    r"""Return quantiles of mixtures of normals with equal weights.

    With components :math:`s = 1, \dots, S` the quantile :math:`t` of level :math:`q` solves

    .. math:: \frac1S \sum_s \Phi\!\left(\frac{t - m_s}{\sigma_s}\right) = q,

    and lies between the smallest and the largest quantile of the components, from where it is bisected.

    Args:
        mean: Means, shape ``(components, rows)``.
        sd: Standard deviations, shape ``(components, rows)``.
        q: Levels in (0, 1), shape ``(levels,)``.

    Returns:
        Shape ``(rows, levels)``.
    """
    each = Normal(mean.unsqueeze(-1), sd.unsqueeze(-1), validate_args=False)
    bounds = each.icdf(q.to(mean))
    low, high = bounds.amin(0), bounds.amax(0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        is_below = each.cdf(middle).mean(0) < q.to(mean)
        low, high = torch.where(is_below, middle, low), torch.where(is_below, high, middle)
    found: Tensor = (low + high) / 2
    return found
