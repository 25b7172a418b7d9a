"""Scores of expected targets beside the log score: those that are usual for counts, labels and real numbers."""

import torch
from torch import Tensor

from bnn_pyro.devices import with_double


def real_metrics(mean: Tensor, y: Tensor) -> dict[str, float]:
    """Return the root mean squared and the mean absolute error over all numbers that are there.

    Args:
        mean: Expected targets, shape ``(rows, *targets)``.
        y: Targets; NaN is a gap.

    Returns:
        ``rmse`` and ``mae``.
    """
    from torchmetrics.functional.regression import mean_absolute_error, mean_squared_error  # takes seconds to import

    mean, y = _seen(mean, y)
    return {"rmse": float(mean_squared_error(mean, y, squared=False)), "mae": float(mean_absolute_error(mean, y))}


def count_metrics(mean: Tensor, y: Tensor) -> dict[str, float]:
    """Return the root mean squared error, and the mean Poisson deviance, of counts.

    Args:
        mean: Expected counts, positive, shape ``(rows, *targets)``.
        y: Counts.

    Returns:
        ``rmse`` and ``deviance``, the mean of ``2 (y log(y / mean) - y + mean)``.
    """
    from torchmetrics.functional.regression import mean_squared_error, tweedie_deviance_score

    mean, y = _seen(mean, y)
    deviance = tweedie_deviance_score(mean.clamp(min=torch.finfo(mean.dtype).tiny), y, power=1.0)
    return {"rmse": float(mean_squared_error(mean, y, squared=False)), "deviance": float(deviance)}


def label_metrics(probability: Tensor, y: Tensor) -> dict[str, float]:
    """Return the share of labels that are right at a threshold of 1/2, the Brier score and the calibration error.

    Args:
        probability: Of each label, shape ``(rows, *labels)``.
        y: 0 or 1; NaN is a gap.

    Returns:
        ``accuracy``, ``brier``, the mean of ``(p - y)²``, and ``ece`` of 15 bins over all labels together.
    """
    from torchmetrics.functional.classification import binary_calibration_error

    probability, y = _seen(probability, y)
    below_one = probability.clamp(max=1 - torch.finfo(torch.float32).eps)
    return {
        "accuracy": float(with_double((probability > 0.5) == (y > 0.5)).double().mean()),
        "brier": float(with_double((probability - y).square()).double().mean()),
        "ece": float(binary_calibration_error(below_one, y.long(), n_bins=15, norm="l1")),
    }


def class_map_metrics(probability: Tensor, y: Tensor) -> dict[str, float]:
    """Return the share of positions whose label is the most probable one, and the mean intersection over union.

    Args:
        probability: Of each class, shape ``(rows, classes, *positions)``.
        y: Labels, shape ``(rows, *positions)``; a negative one is a gap.

    Returns:
        ``accuracy``, and ``iou``, the mean over the classes that are there or predicted.
    """
    from torchmetrics.functional.classification import multiclass_jaccard_index

    seen = y >= 0
    found, labels = probability.argmax(1)[seen], y[seen].long()
    iou = multiclass_jaccard_index(found, labels, num_classes=probability.shape[1], average="macro")
    return {"accuracy": float((found == labels).double().mean()), "iou": float(iou)}


def _seen(mean: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the numbers that are there, in one dtype."""
    y = y.to(mean)
    seen = ~y.isnan()
    return mean[seen], y[seen]
