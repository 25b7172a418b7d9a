"""Rows as tensors, whatever holds them: arrays, tables, data sets and loaders."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate

_ROWS_AT_ONCE = 1024  # that are collated, of a data set


def as_tensor(name: str, values: Any) -> Tensor:
    """Return an array, a table or a sequence of numbers as a tensor; a tensor as it is.

    Real numbers that are no tensor get torch's default dtype, since float64 is what NumPy and pandas give unasked.

    Args:
        name: The argument's name, for the message.
        values: A tensor, a NumPy array, or a DataFrame or Series of pandas.

    Raises:
        TypeError: If it is another thing, or does not hold numbers.
    """
    if isinstance(values, Tensor):
        return values
    frame = values.to_numpy() if hasattr(values, "to_numpy") else values
    if not isinstance(frame, np.ndarray):
        raise TypeError(f"{name} must be a tensor, an array or a DataFrame, got {type(values).__name__}")
    if frame.dtype == object:
        frame = _numbers(name, values, frame)
    if frame.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold numbers, got {frame.dtype}: encode text as numbers first")
    if frame.dtype.kind == "u":
        frame = frame.astype(np.int64)
    tensor = torch.from_numpy(np.array(frame, order="C"))
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor


def _numbers(name: str, values: Any, frame: Any) -> Any:
    """Return an array of objects as numbers, as a DataFrame with columns of several kinds gives, or raise."""
    try:
        return frame.astype(np.float64)
    except (TypeError, ValueError) as error:
        kinds: Any = getattr(values, "dtypes", None)
        columns = [str(c) for c, kind in kinds.items() if kind.kind == "O"] if hasattr(kinds, "items") else ["it"]
        raise TypeError(f"{name} must hold numbers, got text or objects in {', '.join(columns[:5])}") from error


def as_inputs(name: str, data: Any) -> Tensor:
    """Return inputs alone, of an array or a table, or of each item of a data set or a loader.

    Args:
        name: The argument's name, for the message.
        data: What `as_tensor` takes, or a ``Dataset`` or ``DataLoader`` whose items are inputs, or begin with them.

    Raises:
        TypeError: If it is another thing.
    """
    if isinstance(data, TensorDataset):
        return data.tensors[0]
    if not isinstance(data, Dataset | DataLoader):
        return as_tensor(name, data)
    parts = [batch[0] if isinstance(batch, Sequence) else batch for batch in _batches(data)]
    return torch.cat([as_tensor(name, part) for part in parts])


def as_inputs_and_targets(name: str, data: Any) -> tuple[Tensor, Tensor]:
    """Return data as a pair of tensors, read whole into memory.

    Args:
        name: The argument's name, for the message.
        data: A pair (x, y) of what `as_tensor` takes, anything with ``x`` and ``y``, a ``Dataset`` or a ``Subset`` of
            pairs, or a ``DataLoader`` of batches of pairs, in the order in which it gives them.

    Raises:
        TypeError: If an item holds no numbers.
        ValueError: If it is no such thing, or is empty.
    """
    refusal = f"{name} must be a pair (x, y) of tensors or arrays, one row an observation, a Dataset or a DataLoader"
    if isinstance(data, TensorDataset):
        data = data.tensors
    if isinstance(data, Dataset | DataLoader) and not isinstance(data, Sequence):
        batches = [batch for batch in _batches(data)]
        if not batches or not all(isinstance(batch, Sequence) and len(batch) == 2 for batch in batches):
            raise ValueError(f"{refusal} of pairs, got {type(data).__name__} of {_kind(batches)}")
        x, y = (torch.cat([as_tensor(name, part) for part in side]) for side in zip(*batches, strict=True))
        return x, y
    parts = (data.x, data.y) if hasattr(data, "x") and hasattr(data, "y") and not _is_table(data) else data
    if not isinstance(parts, Sequence) or isinstance(parts, str | bytes) or len(parts) != 2:
        raise ValueError(f"{refusal}, got {type(data).__name__}")
    if not all(isinstance(part, Tensor | np.ndarray) or hasattr(part, "to_numpy") for part in parts):
        raise ValueError(f"{refusal}, got {type(data).__name__} of {', '.join(type(part).__name__ for part in parts)}")
    x, y = (as_tensor(name, part) for part in parts)
    if not x.dim() or not y.dim():
        raise ValueError(f"{refusal}, got shapes {tuple(x.shape)} and {tuple(y.shape)}")
    return x, y


def _is_table(data: object) -> bool:
    """Return whether it is a DataFrame, whose columns may be called x and y."""
    return hasattr(data, "to_numpy")


def _batches(data: Any) -> Iterator[Any]:
    """Yield batches of a loader, or of a data set's items in their order."""
    if isinstance(data, DataLoader):
        yield from data
    elif isinstance(data, Iterable) and not hasattr(data, "__len__"):
        yield from DataLoader(data, batch_size=_ROWS_AT_ONCE)  # type: ignore[arg-type]
    else:
        for start in range(0, len(data), _ROWS_AT_ONCE):
            yield default_collate([data[i] for i in range(start, min(start + _ROWS_AT_ONCE, len(data)))])


def _kind(batches: list[Any]) -> str:
    if not batches:
        return "nothing"
    first = batches[0]
    return f"dictionaries with {', '.join(map(str, first))}" if isinstance(first, Mapping) else type(first).__name__
