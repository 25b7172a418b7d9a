"""Leave-one-out predictive densities of draws, by Pareto-smoothed importance sampling."""

import math
import sys

import torch
from torch import Tensor

from bnn_pyro.devices import with_double

RELIABLE_K = 0.7
"""Shape of the Pareto distribution of importance ratios, above which their sums cannot be relied on."""

_LEAST_TAIL = 5  # draws, without which no Pareto distribution is fitted
_LEAST_LOG_DENSITY = -1e10  # so that a draw without a density counts as one, and no infinities meet
_LEAST_CUTOFF = math.log(sys.float_info.min)
_BLOCK = 4096  # rows at a time, so that memory does not grow with them


def psis_loo(log_likelihood: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the log density of each observation given the other ones, as draws given all of them tell it.

    Draws :math:`\theta_s` of the posterior given all observations get the ratios
    :math:`r_s = 1 / p(y_i \mid \theta_s)`, whose largest ones (a fifth of the draws, or :math:`3 \sqrt S`, whichever
    is less) are replaced by the order statistics of the generalised Pareto distribution fitted to them, and

    .. math:: p(y_i \mid y_{-i}) \approx \frac{\sum_s r_s\, p(y_i \mid \theta_s)}{\sum_s r_s}.

    Args:
        log_likelihood: Of each observation in each draw, shape ``(draws, rows)``.

    Returns:
        The log densities, and the shapes :math:`\hat k` of the Pareto distributions: above 0.7 the density of that row
        is not to be relied on; infinite where there are too few draws to tell, :math:`-\infty` where the largest ratios
        are all the same. Shape ``(rows,)`` each, in double precision.

    Raises:
        ValueError: If there are not two dimensions, or there is no draw.

    Source: Vehtari, Simpson, Gelman, Yao, Gabry (2024), *Pareto smoothed importance sampling*; Zhang, Stephens (2009),
    *A new and efficient estimation method for the generalized Pareto distribution*.
    """
    if log_likelihood.dim() != 2 or not len(log_likelihood):
        raise ValueError(f"log_likelihood must have shape (draws, rows) and a draw, got {tuple(log_likelihood.shape)}")
    parts = [_block(rows) for rows in with_double(log_likelihood).t().split(_BLOCK)]
    elpd, shape = (torch.cat(each) for each in zip(*parts, strict=True))
    return elpd, shape


def _block(log_likelihood: Tensor) -> tuple[Tensor, Tensor]:
    """Return log densities and shapes of some rows, of shape ``(rows, draws)``."""
    density = log_likelihood.double().nan_to_num(nan=-math.inf).clamp(min=_LEAST_LOG_DENSITY)
    order = density.argsort(1, descending=True)
    density = density.gather(1, order)  # so that ratios increase
    ratio, shape = _smoothed(density[:, -1:] - density)
    shape[log_likelihood.isnan().any(1)] = math.inf
    return (ratio + density).logsumexp(1) - ratio.logsumexp(1), shape


def _smoothed(ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Smooth the largest log ratios of each row, which increase up to 0: shape ``(rows, draws)``."""
    draws = ratio.shape[1]
    length = min(math.ceil(min(draws / 5, 3 * math.sqrt(draws))), draws - 1)
    cutoff = ratio[:, -length - 1 :][:, :1].clamp(min=_LEAST_CUTOFF)
    above = (ratio > cutoff).sum(1)  # fewer than the length where draws are alike
    smoothed, shape = ratio.clone(), ratio.new_full((len(ratio),), math.inf)
    if length:
        shape[above == 0] = -math.inf
    for count in above[above >= _LEAST_TAIL].unique().tolist():
        chosen = above == count
        tail = ratio[chosen, -count:].exp() - cutoff[chosen].exp()
        k, scale = _fit(tail)
        quantiles = (_quantiles(k, scale, count) + cutoff[chosen].exp()).log().clamp(max=0.0)
        is_fit = k.isfinite().unsqueeze(1)
        smoothed[chosen, -count:] = torch.where(is_fit, quantiles, ratio[chosen, -count:])
        shape[chosen] = k
    return smoothed, shape


def _fit(tail: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return shape k and scale :math:`\sigma` of the Pareto distributions of positive draws, ``(rows, draws)``.

    Draws increase. The shape has the weakly informative prior of Vehtari et al., ten draws of 1/2.
    """
    draws = tail.shape[1]
    points = 30 + int(math.sqrt(draws))
    place = torch.arange(1, points + 1, dtype=tail.dtype, device=tail.device) - 0.5
    quartile = tail[:, int(draws / 4 + 0.5) - 1].unsqueeze(1)
    rate = (1 - (points / place).sqrt()) / (3 * quartile) + 1 / tail[:, -1:]
    k = (-rate.unsqueeze(2) * tail.unsqueeze(1)).log1p().mean(2)
    weight = (draws * ((-rate / k).log() - k - 1)).softmax(1)
    weight = weight.where(weight >= 10 * torch.finfo(weight.dtype).eps, 0.0)
    rate = (weight * rate).sum(1) / weight.sum(1)
    k = (-rate.unsqueeze(1) * tail).log1p().mean(1)
    return (draws * k + 10 * 0.5) / (draws + 10), -k / rate


def _quantiles(k: Tensor, scale: Tensor, count: int) -> Tensor:
    """Return the quantiles of Pareto distributions at the middles of so many equal parts: shape ``(rows, count)``."""
    probability = (torch.arange(count, dtype=k.dtype, device=k.device) + 0.5) / count
    exponential = -(-probability).log1p()  # the quantiles where k is 0
    k, scale = k.unsqueeze(1), scale.unsqueeze(1)
    is_zero = k.abs() < torch.finfo(k.dtype).eps
    return scale * torch.where(is_zero, exponential, (k * exponential).expm1() / k.where(~is_zero, 1.0))
