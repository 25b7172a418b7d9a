"""Training data at the door, and mini-batches that stay on the device."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bnn_pyro.network import SparseNetwork

Data = tuple[Tensor, Tensor] | Any


def as_pair(name: str, data: Data) -> tuple[Tensor, Tensor]:
    """Returns data as (x, y): from a pair, anything with ``x`` and ``y``, or a ``TensorDataset``.

    Args:
        name: The argument's name, for the message.
        data: The data.

    Returns:
        Inputs and observations.

    Raises:
        ValueError: If the data has another form, is empty, differs in length, or is not finite.
    """
    parts = getattr(data, "tensors", None) or ((data.x, data.y) if hasattr(data, "x") and hasattr(data, "y") else data)
    if not isinstance(parts, Sequence) or len(parts) != 2 or not all(isinstance(p, Tensor) for p in parts):
        raise ValueError(f"{name} must be a pair of tensors (x, y), got {type(data).__name__}")
    x, y = parts
    if not len(x) or len(x) != len(y):
        raise ValueError(f"{name} must have as many rows in y as in x, and one at least, got {len(x)} and {len(y)}")
    for part, tensor in (("x", x), ("y", y)):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{name} must be finite, got NaN or infinite values in {part}")
    return x, y


def check_against(name: str, model: SparseNetwork, x: Tensor, y: Tensor) -> None:
    """Checks data against a network: shapes, and what the likelihood asks of the observations.

    Args:
        name: The argument's name, for the message.
        model: The network, on the data's device.
        x: Inputs.
        y: Observations.

    Raises:
        ValueError: If the shapes do not fit, or the likelihood does not take the observations.
    """
    if tuple(x.shape[1:]) != model.input_shape:
        raise ValueError(f"{name} must have inputs of shape (rows, *{model.input_shape}), got {tuple(x.shape)}")
    with torch.no_grad():
        was_training = model.net.training
        output = model.call_net({}, x[:2]) if not was_training else _in_eval(model, x[:2])
    try:
        model.likelihood.check(output[:1].expand(len(y), *output.shape[1:]), y)
    except ValueError as error:
        raise ValueError(f"{name} does not fit the likelihood: {error}") from error


def _in_eval(model: SparseNetwork, x: Tensor) -> Tensor:
    model.net.eval()
    try:
        return model.call_net({}, x)
    finally:
        model.net.train()


def split_rows(rows: int, fraction: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Splits row numbers at random into training and validation rows.

    Args:
        rows: Number of rows.
        fraction: Fraction to hold out, in (0, 1).
        generator: Source of randomness, on the CPU.

    Returns:
        Training rows and validation rows.

    Raises:
        ValueError: If the fraction is out of range or leaves one side empty.
    """
    held_out = round(rows * fraction)
    if not 0 < fraction < 1 or not 0 < held_out < rows:
        raise ValueError(f"validation must be a fraction in (0, 1) that leaves rows on both sides, got {fraction} of {rows} rows")
    order = torch.randperm(rows, generator=generator)
    return order[held_out:], order[:held_out]


def batches(x: Tensor, y: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the rows in random order, ``size`` at a time, the rest in a last smaller batch; all on the data's device.

    Args:
        x: Inputs, shape ``(rows, ...)``.
        y: Observations, shape ``(rows,)``.
        size: Rows a batch.

    Yields:
        Inputs and observations of a batch.
    """
    order = torch.randperm(len(x), device=x.device)
    for rows in order.split(size):
        yield x[rows], y[rows]
