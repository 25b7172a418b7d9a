"""How well predictive distributions of a regression do as intervals: coverage, width, and CRPS."""

import torch
from torch import Tensor

from bnn_pyro.evaluation.normal_mixture import NormalMixture
from bnn_pyro.weighted_means import checked_weight, weighted_mean

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""The probabilities of the central intervals that are scored."""


def interval_metrics(predictive: NormalMixture, y: Tensor, *, weight: Tensor | None = None) -> dict[str, float]:
    r"""Score predictive distributions by CRPS, and by coverage and width of their central intervals.

    The central interval of probability :math:`1 - \alpha` goes from the :math:`\alpha / 2` to the
    :math:`1 - \alpha / 2` quantile of the mixture. A calibrated prediction covers a share of the targets that is the
    probability of the interval; of two that do, the one with the narrower intervals is sharper.

    - ``crps``: the mean continuous ranked probability score, in the units of y; lower is better;
    - ``coverage50, coverage80, coverage90, coverage95``: share of the targets in the interval;
    - ``width50, width80, width90, width95``: mean width of the interval, in the units of y.

    Args:
        predictive: The predictive distributions.
        y: Targets, shape ``(rows,)``.
        weight: How many rows each row counts for, shape ``(rows,)``, by which every mean is weighted; None for 1.

    Returns:
        The nine scores under the names above.

    Raises:
        ValueError: If y has another shape or is not finite.

    Source: Gneiting, Balabdaoui, Raftery (2007), *Probabilistic forecasts, calibration and sharpness*.
    """
    below = predictive.cdf(y)
    if below.ndim != 1:
        raise ValueError(f"y must have shape ({predictive.rows},), got {tuple(y.shape)}.")
    low, high = predictive.interval(torch.tensor(LEVELS, dtype=torch.float64, device="cpu"))
    names = [round(100 * level) for level in LEVELS]
    covered = [(below >= (1 - level) / 2) & (below <= (1 + level) / 2) for level in LEVELS]
    weight = None if weight is None else checked_weight(weight, len(y))
    return {
        "crps": weighted_mean(predictive.crps(y), weight),
        **{f"coverage{name}": weighted_mean(hits, weight) for name, hits in zip(names, covered, strict=True)},
        **{f"width{name}": weighted_mean(width, weight) for name, width in zip(names, high - low, strict=True)},
    }
