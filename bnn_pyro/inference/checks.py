"""Training data at the door: pairs of tensors, held-out rows, and whether they fit a network."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bnn_pyro.evaluation.scale import largest_rms, mean_and_sd, scale_warnings
from bnn_pyro.likelihoods import GaussianNoise, HeteroscedasticNoise, Likelihood
from bnn_pyro.network import SparseNetwork

logger = logging.getLogger(__name__)

Data = Any
"""A pair of tensors (x, y), anything with ``x`` and ``y``, or a ``TensorDataset`` of two."""


def as_pair(name: str, data: Data) -> tuple[Tensor, Tensor]:
    """Returns data as (x, y): from a pair, anything with ``x`` and ``y``, or a ``TensorDataset``.

    Args:
        name: The argument's name, for the message.
        data: The data.

    Returns:
        Inputs and observations, on the inputs' device; real observations have the inputs' dtype.

    Raises:
        ValueError: If the data has another form, is empty, differs in length, or is not finite; or if the inputs are
            not floating-point numbers.
    """
    has_both = hasattr(data, "x") and hasattr(data, "y")
    parts: Data = (data.x, data.y) if has_both else getattr(data, "tensors", data)
    is_pair = isinstance(parts, Sequence) and len(parts) == 2
    if not is_pair or not all(isinstance(part, Tensor) and part.dim() for part in parts):
        raise ValueError(f"{name} must be a pair of tensors (x, y), one row an observation, got {type(data).__name__}")
    x, y = parts
    if not len(x) or len(x) != len(y):
        raise ValueError(f"{name} must have as many rows in y as in x, and one at least, got {len(x)} and {len(y)}")
    if not x.is_floating_point():
        raise ValueError(f"{name} must have floating-point inputs, got {x.dtype}: convert them with x.float()")
    for part, tensor in (("x", x), ("y", y)):
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} must be finite, got NaN or infinite values in {part}")
    return x, y.to(x) if y.is_floating_point() else y.to(x.device)


def check_against(name: str, model: SparseNetwork, x: Tensor, y: Tensor) -> None:
    """Checks data against a network: shapes, and what the likelihood asks of the observations.

    Args:
        name: The argument's name, for the message.
        model: The network, on the data's device and of its dtype.
        x: Inputs.
        y: Observations.

    Raises:
        ValueError: If the shapes do not fit, or the likelihood does not take the observations.
    """
    if tuple(x.shape[1:]) != model.input_shape:
        wanted = ", ".join(map(str, model.input_shape))
        raise ValueError(f"{name} must have inputs of shape (rows, {wanted}), got {tuple(x.shape)}")
    with torch.no_grad(), model.evaluating():
        output = model.call_net({}, x[:1])
    try:
        model.likelihood.check(output.expand(len(y), *output.shape[1:]), y)
    except ValueError as error:
        raise ValueError(f"{name} does not fit the likelihood: {error}") from error


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
        raise ValueError(
            f"validation must be a fraction in (0, 1) that leaves rows on both sides, got {fraction} of {rows} rows"
        )
    order = torch.randperm(rows, generator=generator)
    return order[held_out:], order[:held_out]


def hold_out(
    x: Tensor, y: Tensor, validation: Data | float | None
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor] | None]:
    """Splits training data into what is trained on and what is held out.

    Args:
        x: Inputs.
        y: Observations.
        validation: (x, y), or the fraction of the training rows to hold out, at random; None holds out nothing.

    Returns:
        Training rows, and held-out rows or None, all on the device of ``x``.

    Raises:
        ValueError: If ``validation`` is not such data, or a fraction that is out of range or leaves one side empty.
    """
    if validation is None:
        return (x, y), None
    if not isinstance(validation, int | float):
        held_x, held_y = as_pair("validation", validation)
        return (x, y), (held_x.to(x), held_y.to(x if held_y.is_floating_point() else x.device))
    generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
    train, held_out = (rows.to(x.device) for rows in split_rows(len(x), validation, generator))
    return (x[train], y[train]), (x[held_out], y[held_out])


def check_rows(model: SparseNetwork, train: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor] | None) -> None:
    """Checks split data against a network.

    Args:
        model: The network, on the data's device and of its dtype.
        train: Training inputs and observations.
        held_out: Held-out ones.

    Raises:
        ValueError: If ``num_data`` is not the number of training rows, the shapes do not fit, or the likelihood does
            not take the observations.
    """
    rows = len(train[0])
    if model.num_data != rows:
        raise ValueError(
            f"num_data must be the number of training rows after the validation split ({rows}), got {model.num_data}"
        )
    check_against("data", model, *train)
    if held_out is not None:
        check_against("validation", model, *held_out)


def warn_of_scales(x: Tensor, y: Tensor, likelihood: Likelihood) -> None:
    """Log a warning where inputs, or the targets of a normal likelihood, are far from unit scale.

    Args:
        x: Training inputs, shape ``(rows, *input_shape)``.
        y: Observations.
        likelihood: What they are.
    """
    target = mean_and_sd(y) if isinstance(likelihood, GaussianNoise | HeteroscedasticNoise) else None
    for warning in scale_warnings(largest_rms(x), target):
        logger.warning(warning)
