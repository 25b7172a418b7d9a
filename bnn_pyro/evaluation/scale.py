"""Scales of inputs and targets, and what is said where they are far from those that priors are made for."""

import torch
from torch import Tensor

from bnn_pyro.devices import with_double

LARGEST = 10.0
"""Root mean square of an input column or of the targets, above which they are far from unit scale."""

SMALLEST_INPUT = 0.01
"""The same of the largest column, below which all inputs are far from it; single ones, as rare one-hot ones, may be."""

SMALLEST_TARGET = 0.1
"""Standard deviation of the targets, below which they are far from it."""


def largest_rms(x: Tensor) -> float:
    """Return the largest root mean square of an input column, ``max_j sqrt(mean_i x_ij^2)``.

    Pixels in [0, 1] and one-hot columns have at most 1, standardised columns 1.

    Args:
        x: Inputs, shape ``(rows, *input_shape)``.
    """
    columns = torch.linalg.vector_norm(x.detach().flatten(1), dim=0) / len(x) ** 0.5  # without a copy of the inputs
    return float(columns.max()) if len(columns) else 0.0


def mean_and_sd(y: Tensor) -> tuple[float, float]:
    """Return the mean and the standard deviation of targets.

    Args:
        y: Real targets, shape ``(rows, ...)``.
    """
    values = with_double(y.detach()).double()
    return float(values.mean()), float(values.std(correction=0))


def scale_warnings(input_rms: float | None, target: tuple[float, float] | None) -> list[str]:
    """Return what is said of scales that are far from 1; nothing where they are not.

    A constant column, or a constant target, has no scale to be standardised by; its mean counts all the same.

    Args:
        input_rms: What `largest_rms` returns; None leaves inputs out.
        target: What `mean_and_sd` returns; None leaves targets out, as for classes.
    """
    found = []
    if input_rms is not None and (input_rms > LARGEST or 0 < input_rms < SMALLEST_INPUT):
        found.append(
            f"inputs are far from unit scale, which priors and learning rates are made for: the largest root mean "
            f"square of a column is {input_rms:.3g}; standardise each column, (x - mean) / standard deviation"
        )
    if target is not None:
        mean, sd = target
        if (mean**2 + sd**2) ** 0.5 > LARGEST or 0 < sd < SMALLEST_TARGET:
            found.append(
                f"targets are far from unit scale, which priors and learning rates are made for: their mean is "
                f"{mean:.3g} and their standard deviation {sd:.3g}; standardise them, (y - mean) / standard deviation, "
                "and scale predictions back"
            )
    return found
