"""What likelihoods ask of outputs and targets at the door."""

import math
from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor


def check_positive(name: str, value: float, what: str = "a standard deviation") -> None:
    """Raise unless a hyper-parameter, of which ``what`` says what it is, is positive and finite."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}: it is {what}.")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive and finite, got {value}: it is {what}.")


def single(values: Tensor) -> Tensor:
    """Return values in half precision, bfloat16 or float16, as float32, and others as they are."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def check_finite(name: str, values: Tensor) -> None:
    """Raise if there is a NaN or an infinite value."""
    bad = int((~values.isfinite()).sum())
    if bad:
        raise ValueError(
            f"{name} must be finite, got {bad} NaN or infinite values of {values.numel()}: "
            "clean the data, or look for weights that diverged."
        )


def check_rows(y: Tensor, rows: int) -> None:
    """Raise unless the targets are one a row, and there are any."""
    if y.shape != (rows,) or rows == 0:
        raise ValueError(
            f"y must have shape ({rows},), one target for each row of the output and at least one, "
            f"got {tuple(y.shape)}: squeeze a column with y.squeeze(-1)."
        )


def check_labels(y: Tensor, classes: int) -> None:
    """Raise unless the targets are class labels."""
    if y.dtype != torch.int64:
        raise ValueError(f"y must hold class labels of dtype torch.int64, got {y.dtype}: convert them with y.long().")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"y must hold labels in 0 ... {classes - 1}, got {low} ... {high}: "
            "number the classes from 0, or give the network more outputs."
        )


def check_real(y: Tensor) -> None:
    """Raise unless the targets are finite real numbers."""
    if not y.is_floating_point():
        raise ValueError(f"y must hold real targets, got {y.dtype}: convert them with y.to(output.dtype).")
    check_finite("y", y)


def check_draws(output: Tensor, columns: int | None = None) -> None:
    """Raise unless the output is `(draws, rows, columns)` with at least one draw."""
    if output.ndim != 3 or output.shape[0] == 0 or columns not in (None, output.shape[2]):
        wanted = "outputs" if columns is None else columns
        raise ValueError(
            f"output must have shape (draws, rows, {wanted}) with at least one draw, got {tuple(output.shape)}: "
            "stack the draws, or add their dimension with output.unsqueeze(0)."
        )


def check_means(output: Tensor, y: Tensor | None, what: str) -> None:
    """Raise unless the output is one finite number per row, ``(rows, 1)`` or ``(rows,)``, and targets are real."""
    if output.ndim != 1 and (output.ndim != 2 or output.shape[1] != 1):
        raise ValueError(
            f"output must have shape (rows, 1) or (rows,), got {tuple(output.shape)}: give the network one output, "
            f"{what}."
        )
    check_finite("output", output)
    if y is not None:
        check_rows(y, output.shape[0])
        check_real(y)


def check_column(output: Tensor, what: str) -> None:
    """Raise unless the output is one finite number per row, of shape ``(rows, 1)``."""
    if output.ndim != 2 or output.shape[1] != 1:
        raise ValueError(
            f"output must have shape (rows, 1), got {tuple(output.shape)}: give the network one output, {what}."
        )
    check_finite("output", output)


def check_counts(y: Tensor, rows: int) -> None:
    """Raise unless the targets are counts, one per row."""
    check_rows(y, rows)
    check_finite("y", y)
    if bool((y < 0).any()) or (y.is_floating_point() and bool((y != y.floor()).any())):
        low, high = float(y.min()), float(y.max())
        raise ValueError(f"y must hold counts, whole numbers from 0, got values from {low} to {high}.")


def check_targets(y: Tensor, shape: torch.Size, *, missing: bool) -> Tensor:
    """Return the targets that are there, as one vector, or raise unless they have a shape and are finite or missing."""
    if y.shape != shape or not shape[0]:
        raise ValueError(f"y must have shape {tuple(shape)}, as the outputs, and a row, got {tuple(y.shape)}.")
    seen = y[~y.isnan()] if missing else y.flatten()
    check_finite("y", seen)
    if not len(seen):
        raise ValueError("y must hold at least one target that is there, got NaN alone.")
    return seen


def check_means_of_targets(output: Tensor, y: Tensor | None, event: tuple[int, ...], *, missing: bool) -> None:
    """Raise unless the output has a finite mean for each target of a row, in their shape or flat, and y is real."""
    if tuple(output.shape[1:]) not in (event, (math.prod(event),)):
        raise ValueError(
            f"output must have shape (rows, {', '.join(map(str, event))}), got {tuple(output.shape)}: "
            "give the network one output for each target."
        )
    check_finite("output", output)
    if y is not None:
        if not y.is_floating_point():
            raise ValueError(f"y must hold real targets, got {y.dtype}: convert them with y.to(output.dtype).")
        check_targets(y, torch.Size((len(output), *event)), missing=missing)


def needed(latent: Tensor | None, site: str) -> Tensor:
    """Return a latent, or raise if it is missing."""
    if latent is None:
        raise ValueError(
            f"latent must be given, got None: pass what prior() returned, or a posterior's draws of {site}."
        )
    return latent


def check_class_weights(weight: Sequence[float] | None, classes: int | None = None) -> tuple[float, ...] | None:
    """Return weights of classes, or raise unless they are positive, finite and as many as the classes."""
    if weight is None:
        return None
    if not isinstance(weight, tuple | list):
        raise ValueError(f"weight must hold one number for each class, got {weight!r}")
    if not weight or not all(math.isfinite(value) and value > 0 for value in weight):
        raise ValueError(f"weight must be positive and finite, got {tuple(weight)}")
    if classes is not None and len(weight) != classes:
        raise ValueError(f"weight must hold one number for each of the {classes} classes, got {len(weight)}")
    return tuple(weight)
