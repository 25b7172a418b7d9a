"""Training data at the door: pairs of tensors, held-out rows, and whether they fit a network."""

import logging
from typing import Any

import torch
from torch import Tensor

from bnn_pyro.data.mapped import at_most, converted, is_finite, placed, take
from bnn_pyro.data.sources import as_observations
from bnn_pyro.devices import checked_device
from bnn_pyro.evaluation.scale import largest_rms, mean_and_sd, scale_warnings
from bnn_pyro.input_layout import InputLayout, InputPart
from bnn_pyro.likelihoods import Likelihood, RowWeights, with_weights
from bnn_pyro.likelihoods.kinds import REAL, in_dtype
from bnn_pyro.network import SparseNetwork

logger = logging.getLogger(__name__)

Data = Any
"""A pair (x, y) of tensors, arrays or DataFrames, anything with ``x`` and ``y``, a ``Dataset`` or a ``DataLoader``.

For a network of several inputs x is a tuple or a dictionary of them. With the likelihood `RowWeights` it may be
(x, y, weight), or a data set of such triples.
"""


def as_pair(
    name: str,
    data: Data,
    layout: InputLayout | None = None,
    *,
    device: str | torch.device | None = None,
    likelihood: Likelihood | None = None,
    is_shared: bool = False,
    may_stream: bool = False,
) -> tuple[Tensor, Tensor]:
    """Returns data as (x, y), read whole by :func:`~bnn_pyro.data.sources.as_observations`.

    Args:
        name: The argument's name, for the message.
        data: The data.
        layout: How the inputs lie in one tensor; None takes a tensor of real numbers as it is, and nothing else.
        device: The device to move them to; None for the inputs' own.
        likelihood: What the observations are; only `RowWeights` takes weights, which are then joined to the targets.
        is_shared: Whether all processes of ``torch.distributed`` read the data, at the same time.
        may_stream: Whether inputs that lie in a file stay there, for
            :func:`~bnn_pyro.inference.training.batches.batches`.

    Returns:
        Inputs as one tensor and observations, on one device, but for inputs that stay in a file; real observations have
        the inputs' dtype, those of whole numbers too where the likelihood takes real ones.

    Raises:
        TypeError: If the data holds no numbers.
        ValueError: If the data has another form, is empty, differs in length, or is not finite; or if the inputs are
            not floating-point numbers; or if there are weights that the likelihood does not take, or that are negative;
            or if there is no such device. Whether observations may be NaN, missing, the
            likelihood says.
    """
    place = None if device is None else checked_device(device)
    inputs, y, weight = as_observations(name, data, is_shared=is_shared)
    x = (layout or _PLAIN).pack(name, inputs)
    y = in_dtype(likelihood, y, x.dtype)
    y = y if weight is None else _weighted(name, y, weight, likelihood)
    if x.is_complex() or y.is_complex():
        raise ValueError(f"{name} must hold real numbers, got {x.dtype} and {y.dtype}")
    if not len(x) or len(x) != len(y):
        raise ValueError(f"{name} must have as many rows in y as in x, and one at least, got {len(x)} and {len(y)}")
    if not x.is_floating_point():
        raise ValueError(f"{name} must have floating-point inputs, got {x.dtype}: convert them with x.float()")
    place = x.device if place is None else place
    x = placed(x, place) if may_stream else x.to(place)
    if not is_finite(x) or not is_finite(y, or_nan=True):
        part = "y" if is_finite(x) else "x"
        raise ValueError(f"{name} must be finite, got NaN or infinite values in {part}")
    return x, y.to(place, x.dtype) if y.is_floating_point() else y.to(place)


def _weighted(name: str, y: Tensor, weight: Tensor, likelihood: Likelihood | None) -> Tensor:
    """Returns observations with the weights of their rows."""
    if not isinstance(likelihood, RowWeights):
        own = "that of the network" if likelihood is None else type(likelihood).__name__
        raise ValueError(
            f"{name} must be a pair (x, y) for a likelihood without weights, got a third part for {own}: "
            "make the network with RowWeights(likelihood) where rows have weights"
        )
    try:
        return with_weights(y, weight.to(y.device))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


_PLAIN = InputLayout((InputPart((), None),), (), torch.get_default_dtype())  # of one tensor, as it is


def check_against(name: str, model: SparseNetwork, x: Tensor, y: Tensor) -> None:
    """Checks data against a network: shapes, and what the likelihood asks of the observations.

    Args:
        name: The argument's name, for the message.
        model: The network, on the data's device and of its dtype.
        x: Inputs, there or in a file.
        y: Observations.

    Raises:
        ValueError: If the shapes do not fit, or the likelihood does not take the observations.
    """
    if tuple(x.shape[1:]) != model.input_shape:
        wanted = ", ".join(map(str, model.input_shape))
        raise ValueError(f"{name} must have inputs of shape (rows, {wanted}), got {tuple(x.shape)}")
    check_gaps(name, y, model.likelihood)
    with torch.no_grad(), model.evaluating():
        output = model.call_net({}, x[:1].to(y.device))
    try:
        model.likelihood.check(output.expand(len(y), *output.shape[1:]), y)
    except ValueError as error:
        raise ValueError(f"{name} does not fit the likelihood: {error}") from error


def check_gaps(name: str, y: Tensor, likelihood: Likelihood) -> None:
    """Check that no observation is missing, NaN, unless the likelihood takes such.

    Args:
        name: The argument's name, for the message.
        y: Observations.
        likelihood: The likelihood; one with a true attribute ``missing`` takes NaN.

    Raises:
        ValueError: If there is a NaN that it does not take.
    """
    if not getattr(likelihood, "missing", False) and torch.isnan(y).any():
        raise ValueError(f"{name} must be finite, got NaN or infinite values in y")


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
    held_out = round(rows * fraction) if 0 < fraction < 1 else 0
    if not 0 < held_out < rows:
        raise ValueError(
            f"validation must be a fraction in (0, 1) that leaves rows on both sides, got {fraction} of {rows} rows"
        )
    order = torch.randperm(rows, generator=generator, device="cpu")
    return order[held_out:], order[:held_out]


def hold_out(
    x: Tensor,
    y: Tensor,
    validation: Data | float | None,
    layout: InputLayout | None = None,
    likelihood: Likelihood | None = None,
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor] | None]:
    """Splits training data into what is trained on and what is held out.

    Args:
        x: Inputs.
        y: Observations.
        validation: (x, y), or the fraction of the training rows to hold out, at random; None holds out nothing.
        layout: How inputs lie in one tensor, as for `as_pair`.
        likelihood: What the observations are, likewise.

    Returns:
        Training rows, and held-out rows or None, all on the device of ``y`` but for inputs that lie in a file.

    Raises:
        ValueError: If ``validation`` is not such data, or a fraction that is out of range or leaves one side empty.
    """
    if validation is None:
        return (x, y), None
    if isinstance(validation, bool):
        raise TypeError(f"validation must be rows, a fraction or None, got {validation}")
    if not isinstance(validation, int | float):
        held_x, held_y = as_pair(
            "validation", validation, layout, device=y.device, likelihood=likelihood, may_stream=True
        )
        return (x, y), (
            placed(converted(held_x, x.dtype), y.device),
            held_y.to(x.dtype) if held_y.is_floating_point() else held_y,
        )
    generator = torch.Generator("cpu").manual_seed(int(torch.randint(2**31, (), device="cpu")))
    train, held_out = split_rows(len(x), validation, generator)
    kept, left = ((placed(take(x, rows.to(x.device)), y.device), y[rows.to(y.device)]) for rows in (train, held_out))
    return kept, left


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


def warn_of_scales(x: Tensor, y: Tensor, likelihood: Likelihood, layout: InputLayout | None = None) -> None:
    """Log a warning where inputs, or the targets of a normal likelihood, are far from unit scale.

    Args:
        x: Training inputs, shape ``(rows, *input_shape)``.
        y: Observations.
        likelihood: What they are.
        layout: How the inputs lie in ``x``; those of whole numbers have no scale. None for one tensor of real numbers.
    """
    is_real = isinstance(likelihood, REAL)
    target = mean_and_sd(y[~y.isnan()]) if is_real else None
    real = at_most(x) if layout is None else layout.real_numbers(at_most(x))
    for warning in scale_warnings(largest_rms(real), target):
        logger.warning(warning)
