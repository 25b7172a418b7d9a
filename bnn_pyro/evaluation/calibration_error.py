"""The expected calibration error of class probabilities, and its bins."""

import torch
from torch import Tensor

from bnn_pyro.weighted_means import weighted_calibration_error

BINS = 15


def calibration_error(p: Tensor, y: Tensor, weight: Tensor | None = None) -> float:
    r"""Return :math:`\sum_b (n_b / N) |accuracy_b - confidence_b|` over 15 equal-width bins of the top probability.

    torchmetrics takes all for logits if one is above 1, by rounding say, and gives a confidence of 1 a bin of its own,
    both in float32; the largest number below 1 avoids both. It knows no weights, with which :math:`n_b` and N are sums
    of weights, and accuracy and confidence weighted means.

    Args:
        p: Probabilities, shape ``(rows, classes)``.
        y: Labels, int64, shape ``(rows,)``.
        weight: How many rows each row counts for, shape ``(rows,)``; None for 1.
    """
    if weight is not None:
        confidence, predicted = p.max(1)
        return weighted_calibration_error(confidence, predicted == y, weight, BINS)
    from torchmetrics.functional.classification import multiclass_calibration_error  # half of the library's import time

    below_one = p.clamp(max=1 - torch.finfo(torch.float32).eps)
    return float(multiclass_calibration_error(below_one, y, p.shape[1], n_bins=BINS, norm="l1"))
