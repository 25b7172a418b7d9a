"""Means over rows that may have weights: what scores are made of."""

import math

import torch
from torch import Tensor

from bnn_pyro.devices import with_double


def checked_weight(weight: Tensor, rows: int) -> Tensor:
    """Return weights of rows in double precision, or raise.

    Args:
        weight: How many rows each row counts for, shape ``(rows,)``.
        rows: How many rows there are.

    Returns:
        Shape ``(rows,)``, float64.

    Raises:
        ValueError: If the shape is another, a weight is negative or not finite, or all are 0.
    """
    if tuple(weight.shape) != (rows,):
        raise ValueError(f"weight must have shape ({rows},), one for each row, got {tuple(weight.shape)}")
    found = with_double(weight.detach()).double()
    if not bool((found.isfinite() & (found >= 0)).all()) or not bool((found > 0).any()):
        raise ValueError("weight must be at least 0 and finite in every row, and positive in one")
    return found


def weighted_mean(values: Tensor, weight: Tensor | None = None) -> float:
    r"""Return :math:`\sum_i v_i a_i / \sum_i v_i`, in double precision.

    Args:
        values: The numbers :math:`a_i`, of any shape.
        weight: Their weights :math:`v_i`, which broadcast with them; None for the plain mean.
    """
    values = with_double(values).double()
    if weight is None:
        return float(values.mean())
    weight = weight.to(values).expand(values.shape)
    return float(torch.where(weight > 0, values * weight, 0.0).sum() / weight.sum())  # infinite values of no row


def weighted_error(values: Tensor, weight: Tensor | None = None) -> float:
    r"""Return the standard error of `weighted_mean` over independent rows.

    Without weights it is :math:`s / \sqrt n`, with the standard deviation s of n values, and with them
    :math:`\sqrt{\sum_i v_i^2 (a_i - \bar a)^2} / \sum_i v_i \cdot \sqrt{n / (n - 1)}`, the same for equal ones.

    Args:
        values: Shape ``(rows,)``.
        weight: Shape ``(rows,)``; rows of weight 0 are none.

    Returns:
        The error; NaN of a single row.
    """
    values = with_double(values).double()
    weight = torch.ones_like(values) if weight is None else weight.to(values)
    count = int((weight > 0).sum())
    if count < 2:
        return math.nan
    squares = (weight * (values - weighted_mean(values, weight))).square().sum()
    return math.sqrt(float(squares) * count / (count - 1)) / float(weight.sum())
