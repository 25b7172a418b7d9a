"""How good predictions are: accuracy or RMSE, log score, calibration; tensors in, numbers out."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn.functional import one_hot

from bnn_pyro.devices import with_double
from bnn_pyro.evaluation.calibration_error import BINS, calibration_error
from bnn_pyro.evaluation.intervals import interval_metrics
from bnn_pyro.evaluation.normal_mixture import NormalMixture
from bnn_pyro.weighted_means import bins_of, checked_weight, weighted_error, weighted_mean

QUANTILE_LEVELS = 19
SUM_TOLERANCE = 1e-3
Z95 = 1.959963984540054  # the 97.5 % quantile of the standard normal


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Calibration of a classifier in equal-width bins of its confidence, each field `(bins,)`.

    Attributes:
        confidence: Mean probability of the predicted class in the bin; NaN in an empty one.
        accuracy: Share of right predictions in the bin; NaN in an empty one.
        counts: Rows in the bin, int64.
    """

    confidence: Tensor
    accuracy: Tensor
    counts: Tensor


@dataclass(frozen=True, eq=False)
class CoverageCurve:
    """Calibration of a regression at its predicted quantiles.

    Attributes:
        nominal: Levels of the quantiles, increasing and symmetric in (0, 1), `(levels,)`.
        observed: Share of the targets at or below their predicted quantile of that level, `(levels,)`.
        rows: How many targets; None if that is not known.
    """

    nominal: Tensor
    observed: Tensor
    rows: int | None = None

    def intervals(self) -> tuple[Tensor, Tensor]:
        """Return the probabilities of the central intervals between the quantiles, falling, and what these cover.

        Returns:
            Probabilities of the intervals, and shares of the targets in them, `(levels // 2,)` each.
        """
        count = len(self.nominal) // 2
        nominal, observed = (values.flip(0)[:count] - values[:count] for values in (self.nominal, self.observed))
        return nominal, observed


def classification_metrics(probabilities: Tensor, labels: Tensor, *, weight: Tensor | None = None) -> dict[str, float]:
    """Score predicted class probabilities by accuracy, NLL, ECE and Brier score.

    - `accuracy`: share of rows whose most probable class is the label;
    - `nll`: `mean_n -log max(p_n[y_n], tiny)`, tiny the smallest normal number of the dtype;
    - `ece`: `sum_b (n_b / N) |accuracy_b - confidence_b|` over 15 equal-width bins of the top probability
      (Naeini, Cooper, Hauskrecht, 2015, Obtaining well calibrated probabilities using Bayesian binning);
    - `brier`: `mean_n sum_c (p_nc - 1[y_n = c])²`, between 0 and 2
      (Brier, 1950, Verification of forecasts expressed in terms of probability).

    Args:
        probabilities: Predicted probabilities, `(rows, classes)`, each row summing to 1 within 1e-3.
        labels: Integer labels in 0 ... classes - 1, `(rows,)`.
        weight: How many rows each row counts for, shape `(rows,)`, by which every mean is weighted; None for 1.

    Returns:
        The four scores under the names above.

    Raises:
        ValueError: If a shape or value is another, or there are no rows.
    """
    p, y = _checked_classes(probabilities, labels)
    hits, errors = p.argmax(1) == y, (p - one_hot(y, p.shape[1])).square().sum(1)
    if weight is not None:
        weight = checked_weight(weight, len(y))
        return {
            "accuracy": weighted_mean(hits, weight),
            "nll": -weighted_mean(_log_probability(p, y), weight),
            "ece": calibration_error(p, y, weight),
            "brier": weighted_mean(errors, weight),
        }
    return {
        "accuracy": _share(hits),
        "nll": -float(_log_probability(p, y).mean()),
        "ece": calibration_error(p, y),
        "brier": float(errors.mean()),
    }


def reliability_curve(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> ReliabilityCurve:
    """Return accuracy against confidence in equal-width bins of the top probability, for a calibration plot.

    The bins are those of the ECE: `[b / bins, (b + 1) / bins)`, the last one closed.
    Source: Guo, Pleiss, Sun, Weinberger (2017), On calibration of modern neural networks.

    Args:
        probabilities: Predicted probabilities, `(rows, classes)`, each row summing to 1 within 1e-3.
        labels: Integer labels in 0 ... classes - 1, `(rows,)`.
        bins: Number of bins, at least 1.

    Returns:
        The curve, one point a bin, on the device of the probabilities.

    Raises:
        ValueError: If a shape or value is another, or there are no rows.
    """
    _check_count("bins", bins)
    p, y = _checked_classes(probabilities, labels)
    confidence, predicted = p.max(1)
    index = bins_of(confidence, bins)
    empty = p.new_zeros(bins)
    counts = empty.long().index_add(0, index, torch.ones_like(index))
    return ReliabilityCurve(
        confidence=empty.index_add(0, index, confidence) / counts,
        accuracy=empty.index_add(0, index, (predicted == y).to(p.dtype)) / counts,
        counts=counts,
    )


def regression_metrics(
    mean: Tensor, sd: Tensor, y: Tensor, *, y_std: float = 1.0, weight: Tensor | None = None
) -> dict[str, float]:
    """Score a predictive mixture of normals, one a posterior draw, by RMSE, NLL, CRPS, calibration and intervals.

    The predictive density of row n is `p_n(y) = (1/S) sum_s N(y; mean_sn, sd_sn²)`. Targets may be standardised; RMSE,
    NLL, CRPS and widths are on the original scale, on which all of it is `y_std` times as large.

    - `rmse`: `y_std · sqrt(mean_n (y_n - mean_s mean_sn)²)`;
    - `nll`: `mean_n -log p_n(y_n) + log y_std`;
    - `crps`, `coverage50, coverage80, coverage90, coverage95`, `width50, width80, width90, width95`: those of
      `bnn_pyro.evaluation.intervals.interval_metrics`, of central intervals of the mixture itself;
    - `ece`: mean of `|q - observed_q|` over the quantile levels q = .05, .10, ..., .95, where observed_q is the share
      of targets at or below the mixture's q-quantile. It is the calibration error of Kuleshov, Fenner, Ermon (2018),
      Accurate uncertainties for deep learning using calibrated regression, with absolute instead of squared
      differences, so that it reads like the ECE of a classifier.

    Args:
        mean: Mean of each draw, `(draws, rows)`.
        sd: Standard deviation of each draw, noise included, `(draws, rows)`.
        y: Targets on the scale of the means, `(rows,)`.
        y_std: Standard deviation by which the targets were divided; 1 if they are on their original scale.
        weight: How many rows each row counts for, shape `(rows,)`, by which every mean is weighted; None for 1.

    Returns:
        The scores under the names above.

    Raises:
        ValueError: If a shape or value is another, or there are no draws or rows.
    """
    _check_factor(y_std)
    mean, sd, y = map(with_double, _checked_normals(mean, sd, y))
    curve = coverage_curve(mean, sd, y, weight=weight)
    density, intervals = _log_density(mean, sd, y), NormalMixture(y_std * mean.double(), y_std * sd.double())
    if weight is None:
        error, average = _root_mean_squared_error(mean.mean(0), y), float(density.mean())
    else:
        weight = checked_weight(weight, len(y))
        error = math.sqrt(weighted_mean((mean.mean(0) - y).square(), weight))
        average = weighted_mean(density, weight)
    return {
        "rmse": y_std * error,
        "nll": math.log(y_std) - average,
        "ece": float((curve.nominal - curve.observed).abs().mean()),
        **interval_metrics(intervals, y_std * y.double(), weight=weight),
    }


def class_log_scores(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the log score of each row, `log max(p_n[y_n], tiny)`, whose mean is minus the NLL.

    Args:
        probabilities: As for `classification_metrics`.
        labels: Likewise.

    Returns:
        Shape `(rows,)`, on the device of the probabilities; higher is better.

    Raises:
        ValueError: If a shape or value is another, or there are no rows.
    """
    return _log_probability(*_checked_classes(probabilities, labels))


def normal_log_scores(mean: Tensor, sd: Tensor, y: Tensor, *, y_std: float = 1.0) -> Tensor:
    """Return the log score of each row, `log p_n(y_n) - log y_std`, whose mean is minus the NLL.

    Args:
        mean: As for `regression_metrics`.
        sd: Likewise.
        y: Likewise.
        y_std: Likewise.

    Returns:
        Shape `(rows,)`, on the device of the targets; higher is better.

    Raises:
        ValueError: If a shape or value is another, or there are no draws or rows.
    """
    _check_factor(y_std)
    return _log_density(*_checked_normals(mean, sd, y)) - math.log(y_std)


def paired_difference(first: Tensor, second: Tensor, *, weight: Tensor | None = None) -> tuple[float, float]:
    """Return the mean difference of two predictions' scores on the same rows, and its standard error.

    The error is that of a mean over independent rows, `sd(first - second) / sqrt(rows)`.

    Args:
        first: Score of each row, `(rows,)`.
        second: Those of the other prediction, `(rows,)`.
        weight: How many rows each row counts for, `(rows,)`; None for 1.

    Returns:
        Mean of `first - second`, and its standard error; NaN of a single row.

    Raises:
        ValueError: If the shapes differ, or there are no rows.
    """
    if first.ndim != 1 or not len(first) or first.shape != second.shape:
        raise ValueError(
            f"first and second must have one shape (rows,) with at least 1 row, "
            f"got {tuple(first.shape)} and {tuple(second.shape)}."
        )
    difference = with_double(first).double() - with_double(second).double()
    if weight is not None:
        weight = checked_weight(weight, len(difference))
        return weighted_mean(difference, weight), weighted_error(difference, weight)
    return float(difference.mean()), standard_error(difference)


def standard_error(scores: Tensor) -> float:
    """Return the standard error of a mean over independent rows, `sd / sqrt(rows)`.

    Args:
        scores: Score of each row, `(rows,)`.

    Returns:
        The error; NaN of a single row.
    """
    variance = float(with_double(scores).double().var()) if len(scores) > 1 else math.nan
    return math.sqrt(variance / len(scores))


def coverage_curve(
    mean: Tensor, sd: Tensor, y: Tensor, levels: int = QUANTILE_LEVELS, *, weight: Tensor | None = None
) -> CoverageCurve:
    """Return observed against nominal coverage at the quantiles of a mixture of normals, for a calibration plot.

    A target is at or below the q-quantile of the mixture when the mixture's distribution function there,
    `(1/S) sum_s Phi((y_n - mean_sn) / sd_sn)`, is at most q. Scaling the targets and predictions alike changes nothing.
    Source: Kuleshov, Fenner, Ermon (2018), Accurate uncertainties for deep learning using calibrated regression.

    Args:
        mean: Mean of each draw, `(draws, rows)`.
        sd: Standard deviation of each draw, noise included, `(draws, rows)`.
        y: Targets on the scale of the means, `(rows,)`.
        levels: Number of quantile levels `k / (levels + 1)`; 19 gives .05, .10, ..., .95.
        weight: How many rows each row counts for, `(rows,)`; None for 1.

    Returns:
        The curve, one point a level, on the device of the targets.

    Raises:
        ValueError: If a shape or value is another, or there are no draws or rows.
    """
    _check_count("levels", levels)
    mean, sd, y = _checked_normals(mean, sd, y)
    below = Normal(mean, sd, validate_args=False).cdf(y).mean(0)
    nominal = torch.arange(1, levels + 1, dtype=y.dtype, device=y.device) / (levels + 1)
    hits = (below.unsqueeze(1) <= nominal).to(y.dtype)
    if weight is None:
        return CoverageCurve(nominal, hits.mean(0), len(y))
    share = checked_weight(weight, len(y))
    return CoverageCurve(nominal, (share / share.sum()).to(hits) @ hits, len(y))


def _root_mean_squared_error(center: Tensor, y: Tensor) -> float:
    """Return the RMSE of torchmetrics, which is imported only when it is needed: it takes seconds."""
    from torchmetrics.functional.regression import mean_squared_error

    return float(mean_squared_error(center, y, squared=False))


def _share(hits: Tensor) -> float:
    """Return the share of True, without the rounding of a float32 mean: 96 of 100 is not below .96."""
    return int(hits.sum()) / hits.numel()


def _log_probability(p: Tensor, y: Tensor) -> Tensor:
    """Return the log probability of each label, `(rows,)`."""
    return p.clamp(min=torch.finfo(p.dtype).tiny).log().gather(1, y.unsqueeze(1)).squeeze(1)


def _log_density(mean: Tensor, sd: Tensor, y: Tensor) -> Tensor:
    """Return the log density of each target under its mixture of normals, `(rows,)`."""
    draws: Tensor = Normal(mean, sd, validate_args=False).log_prob(y)
    return draws.logsumexp(0) - math.log(len(mean))


def _checked_classes(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probabilities as at least float32 and the labels as int64, detached, or raise."""
    if probabilities.ndim != 2 or probabilities.shape[0] == 0 or probabilities.shape[1] < 2:
        raise ValueError(
            "probabilities must have shape (rows, classes) with at least 1 row and 2 classes, "
            f"got {tuple(probabilities.shape)}: average over draws first."
        )
    if labels.shape != probabilities.shape[:1]:
        raise ValueError(
            f"labels must have shape ({len(probabilities)},), one a row of probabilities, got {tuple(labels.shape)}."
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integers, got {labels.dtype}: convert them with labels.long().")
    p = _check_probabilities(probabilities.detach())
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= p.shape[1]:
        raise ValueError(f"labels must be in 0 ... {p.shape[1] - 1}, got {low} ... {high}: number the classes from 0.")
    return p, labels.long()


def _check_probabilities(probabilities: Tensor) -> Tensor:
    """Return the probabilities as at least float32, or raise if they are not such."""
    _check_finite("probabilities", probabilities)
    p = probabilities.to(torch.promote_types(probabilities.dtype, torch.float32))
    if p.min() < 0:
        raise ValueError(
            f"probabilities must not be negative, got {float(p.min())}: turn logits into them with softmax."
        )
    sums = p.sum(1)
    worst = float(sums[(sums - 1).abs().argmax()])
    if abs(worst - 1) > SUM_TOLERANCE:
        raise ValueError(
            f"probabilities must sum to 1 in each row, got a sum of {worst}: turn logits into them with softmax."
        )
    return p


def _checked_normals(mean: Tensor, sd: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the predictive means, standard deviations and targets, detached, in one dtype, or raise."""
    if mean.ndim != 2 or 0 in mean.shape:
        raise ValueError(
            f"mean must have shape (draws, rows) with at least one of each, got {tuple(mean.shape)}: "
            "add the dimension of a single draw with mean.unsqueeze(0)."
        )
    for name, value, shape in (("sd", sd, mean.shape), ("y", y, mean.shape[1:])):
        if value.shape != shape:
            raise ValueError(f"{name} must have shape {tuple(shape)} to fit mean, got {tuple(value.shape)}.")
    for name, value in (("mean", mean), ("sd", sd), ("y", y)):
        _check_finite(name, value)
    if sd.min() <= 0:
        raise ValueError(f"sd must be positive, got {float(sd.min())}: give standard deviations, noise included.")
    dtype = torch.promote_types(torch.promote_types(mean.dtype, y.dtype), torch.float32)
    return mean.detach().to(dtype), sd.detach().to(dtype), y.detach().to(dtype)


def _check_finite(name: str, values: Tensor) -> None:
    """Raise if there is a NaN or an infinite value."""
    bad = int((~values.isfinite()).sum())
    if bad:
        raise ValueError(
            f"{name} must be finite, got {bad} NaN or infinite values of {values.numel()}: look for what diverged."
        )


def _check_factor(y_std: float) -> None:
    """Raise unless a factor of the targets is positive and finite."""
    if not (math.isfinite(y_std) and y_std > 0):
        raise ValueError(
            f"y_std must be positive and finite, got {y_std}: give the factor that the targets were divided by."
        )


def _check_count(name: str, value: int) -> None:
    """Raise unless a number of points is at least 1."""
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}.")
