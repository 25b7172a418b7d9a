"""Means over rows that may have weights, and over bins of them: what scores are made of."""

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


def bins_of(confidence: Tensor, bins: int) -> Tensor:
    """Return the number of each confidence's bin, ``[b / bins, (b + 1) / bins)``, the last one closed.

    Args:
        confidence: Shape ``(rows,)``, in [0, 1].
        bins: How many there are.
    """
    edges = torch.linspace(0, 1, bins + 1, dtype=confidence.dtype, device=confidence.device)
    return torch.bucketize(confidence, edges[1:-1], right=True)


def weighted_calibration_error(confidence: Tensor, hits: Tensor, weight: Tensor, bins: int) -> float:
    r"""Return :math:`\sum_b |\sum_{i \in b} v_i (a_i - c_i)| / \sum_i v_i` over equal-width bins of the confidence.

    Args:
        confidence: :math:`c_i`, shape ``(rows,)``, in [0, 1].
        hits: :math:`a_i`, 1 where what was predicted came true and 0 elsewhere, shape ``(rows,)``.
        weight: :math:`v_i`, shape ``(rows,)``.
        bins: How many there are.
    """
    index, hits = with_double(bins_of(confidence, bins)), with_double(hits).double()
    weight = weight.to(hits)
    gaps = weight.new_zeros(bins).index_add(0, index, weight * (hits - with_double(confidence).double()))
    return float(gaps.abs().sum() / weight.sum())
