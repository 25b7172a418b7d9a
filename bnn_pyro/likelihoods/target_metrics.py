"""Scores of expected targets beside the log score: those that are usual for counts, labels and real numbers."""

import math

import torch
from torch import Tensor

from bnn_pyro.devices import with_double
from bnn_pyro.weighted_means import weighted_calibration_error, weighted_mean

_BINS = 15  # of the calibration error


def real_metrics(mean: Tensor, y: Tensor, weight: Tensor | None = None) -> dict[str, float]:
    """Return the root mean squared and the mean absolute error over all numbers that are there.

    Args:
        mean: Expected targets, shape ``(rows, *targets)``.
        y: Targets; NaN is a gap.
        weight: How many rows each row counts for, shape ``(rows,)``, by which every mean is weighted; None for 1.

    Returns:
        ``rmse`` and ``mae``.
    """
    from torchmetrics.functional.regression import mean_absolute_error, mean_squared_error  # takes seconds to import

    mean, y, weight = _seen(mean, y, weight)
    if weight is not None:
        errors = mean - y
        return {"rmse": math.sqrt(weighted_mean(errors.square(), weight)), "mae": weighted_mean(errors.abs(), weight)}
    return {"rmse": float(mean_squared_error(mean, y, squared=False)), "mae": float(mean_absolute_error(mean, y))}


def count_metrics(mean: Tensor, y: Tensor, weight: Tensor | None = None) -> dict[str, float]:
    """Return the root mean squared error, and the mean Poisson deviance, of counts.

    Args:
        mean: Expected counts, positive, shape ``(rows, *targets)``.
        y: Counts.
        weight: How many rows each row counts for, shape ``(rows,)``, by which every mean is weighted; None for 1.

    Returns:
        ``rmse`` and ``deviance``, the mean of ``2 (y log(y / mean) - y + mean)``.
    """
    from torchmetrics.functional.regression import mean_squared_error, tweedie_deviance_score

    mean, y, weight = _seen(mean, y, weight)
    positive = mean.clamp(min=torch.finfo(mean.dtype).tiny)
    if weight is not None:
        deviances = 2 * (torch.special.xlogy(y, y / positive) - y + positive)
        errors = {"rmse": math.sqrt(weighted_mean((mean - y).square(), weight))}
        return {**errors, "deviance": weighted_mean(deviances, weight)}
    deviance = tweedie_deviance_score(positive, y, power=1.0)
    return {"rmse": float(mean_squared_error(mean, y, squared=False)), "deviance": float(deviance)}


def label_metrics(probability: Tensor, y: Tensor, weight: Tensor | None = None) -> dict[str, float]:
    """Return the share of labels that are right at a threshold of 1/2, the Brier score and the calibration error.

    Args:
        probability: Of each label, shape ``(rows, *labels)``.
        y: 0 or 1; NaN is a gap.
        weight: How many rows each row counts for, shape ``(rows,)``, by which every mean is weighted; None for 1.

    Returns:
        ``accuracy``, ``brier``, the mean of ``(p - y)²``, and ``ece`` of 15 bins over all labels together.
    """
    from torchmetrics.functional.classification import binary_calibration_error

    probability, y, weight = _seen(probability, y, weight)
    hits, errors = (probability > 0.5) == (y > 0.5), (probability - y).square()
    below_one = probability.clamp(max=1 - torch.finfo(torch.float32).eps)
    if weight is not None:
        scores = {"accuracy": weighted_mean(hits, weight), "brier": weighted_mean(errors, weight)}
        return {**scores, "ece": weighted_calibration_error(probability, y, weight, _BINS)}
    return {
        "accuracy": float(with_double(hits).double().mean()),
        "brier": float(with_double(errors).double().mean()),
        "ece": float(binary_calibration_error(below_one, y.long(), n_bins=_BINS, norm="l1")),
    }


def class_map_metrics(probability: Tensor, y: Tensor, weight: Tensor | None = None) -> dict[str, float]:
    """Return the share of positions whose label is the most probable one, and the mean intersection over union.

    Args:
        probability: Of each class, shape ``(rows, classes, *positions)``.
        y: Labels, shape ``(rows, *positions)``; a negative one is a gap.
        weight: How many rows each row counts for, shape ``(rows,)``, by which every mean is weighted; None for 1.

    Returns:
        ``accuracy``, and ``iou``, the mean over the classes that are there or predicted.
    """
    from torchmetrics.functional.classification import multiclass_jaccard_index

    seen = y >= 0
    found, labels = probability.argmax(1)[seen], y[seen].long()
    if weight is not None:
        weight = _spread(weight, seen)[seen]
        classes = torch.arange(probability.shape[1], device=labels.device).unsqueeze(1)
        one, other = found.unsqueeze(0) == classes, labels.unsqueeze(0) == classes
        both, either = ((one & other) * weight).sum(1), ((one | other) * weight).sum(1)
        is_there = either > 0
        return {"accuracy": weighted_mean(found == labels, weight), "iou": float((both / either)[is_there].mean())}
    iou = multiclass_jaccard_index(found, labels, num_classes=probability.shape[1], average="macro")
    return {"accuracy": float((found == labels).double().mean()), "iou": float(iou)}


def _seen(mean: Tensor, y: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the numbers that are there, in one dtype, and their weights."""
    y = y.to(mean)
    seen = ~y.isnan()
    return mean[seen], y[seen], None if weight is None else _spread(weight, seen)[seen]


def _spread(weight: Tensor, like: Tensor) -> Tensor:
    """Return the weight of each row for each number of it."""
    return weight.to(like.device).reshape(-1, *[1] * (like.dim() - 1)).expand(like.shape)
