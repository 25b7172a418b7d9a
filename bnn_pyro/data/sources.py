"""Rows as tensors, whatever holds them: arrays, tables, data sets and loaders."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
)

from bnn_pyro.data.exchange import exchanged, own_rows
from bnn_pyro.data.mapped import Spool, chunks, converted, is_finite, of_array

_ROWS_AT_ONCE = 1024  # that are collated, of a data set
_TARGETS = "labels"  # key of the targets in batches that are dictionaries of a net's arguments


def as_tensor(name: str, values: Any) -> Tensor:
    """Return an array, a table or a sequence of numbers as a tensor; a tensor as it is.

    Real numbers that are no tensor get torch's default dtype, since float64 is what NumPy and pandas give unasked.

    Args:
        name: The argument's name, for the message.
        values: A tensor, a NumPy array, or a DataFrame or Series of pandas. A memory-mapped array is not read into
            memory.

    Raises:
        TypeError: If it is another thing, or does not hold numbers.
    """
    if isinstance(values, Tensor):
        return values
    if isinstance(values, np.memmap) and (mapped := of_array(values)) is not None:
        return converted(mapped, torch.get_default_dtype()) if mapped.is_floating_point() else mapped.long()
    frame = _array(values) if hasattr(values, "to_numpy") else values
    if not isinstance(frame, np.ndarray):
        raise TypeError(f"{name} must be a tensor, an array or a DataFrame, got {type(values).__name__}")
    if frame.dtype == object:
        frame = _numbers(name, values, frame)
    if frame.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold numbers, got {frame.dtype}: encode text as numbers first")
    if frame.dtype.kind in "iu":
        frame = frame.astype(np.int64)
    tensor = torch.from_numpy(np.array(frame, order="C"))
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor


def as_targets(name: str, values: Any) -> Tensor:
    """Return observations, or weights of rows, as `as_tensor` does; a table of one column is one number per row.

    Args:
        name: The argument's name, for the message.
        values: What `as_tensor` takes.

    Returns:
        A tensor, of a DataFrame of one column of shape ``(rows,)``.

    Raises:
        TypeError: If it is another thing, or does not hold numbers.
    """
    found = as_tensor(name, values)
    return found.squeeze(1) if _is_table(values) and found.dim() == 2 and found.shape[1] == 1 else found


def _array(values: Any) -> Any:
    """Return a table of pandas as an array, gaps of its nullable columns as NaN."""
    if any(kind.kind in "iufb" for kind in np.atleast_1d(values.dtypes)) and values.isna().to_numpy().any():
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    return values.to_numpy()


def _numbers(name: str, values: Any, frame: Any) -> Any:
    """Return an array of objects as numbers, as a DataFrame with columns of several kinds gives, or raise."""
    try:
        return frame.astype(np.float64)
    except (TypeError, ValueError) as error:
        kinds: Any = getattr(values, "dtypes", None)
        columns = [str(c) for c, kind in kinds.items() if kind.kind == "O"] if hasattr(kinds, "items") else ["it"]
        raise TypeError(f"{name} must hold numbers, got text or objects in {', '.join(columns[:5])}") from error


def as_inputs(name: str, data: Any) -> Any:
    """Return inputs alone, of an array or a table, or of each item of a data set or a loader.

    Args:
        name: The argument's name, for the message.
        data: What `as_tensor` takes; a tuple or a dictionary of such, the arguments of a net; or a ``Dataset`` or
            ``DataLoader`` whose items are inputs, or begin with them.

    Returns:
        A tensor, or a tuple or dictionary of tensors (``bnn_pyro.input_layout.Inputs``).

    Raises:
        TypeError: If it is another thing.
        ValueError: If it has no row, or a sampler whose order is not known.
    """
    if isinstance(data, TensorDataset):
        return data.tensors[0]
    if isinstance(data, Dataset | DataLoader) and not isinstance(data, Sequence | Mapping):
        inputs, _, _, first = _read(name, data)
        if first is None:
            raise ValueError(f"{name} must have a row, got {type(data).__name__} of nothing")
        return inputs
    if isinstance(data, Mapping):
        return {str(key): as_tensor(name, part) for key, part in data.items()}
    if _is_several(data):
        return tuple(as_tensor(name, part) for part in data)
    return _real(as_tensor(name, data), isinstance(data, Tensor))


def check_finite(name: str, rows: Tensor, dtype: torch.dtype) -> None:
    """Check that inputs are real, finite, and not too large for a net.

    Args:
        name: The argument's name, for the message.
        rows: The inputs.
        dtype: The dtype that the net computes in.

    Raises:
        ValueError: If they are not.
    """
    if rows.is_complex():
        raise ValueError(f"{name} must hold real numbers, got {rows.dtype}")
    if not is_finite(rows):
        raise ValueError(f"{name} must be finite, got NaN or infinite values")
    is_other = rows.is_floating_point() and rows.dtype != dtype
    if is_other and not all(bool(part.to(dtype).isfinite().all()) for part in chunks(rows)):
        raise ValueError(f"{name} must be finite in {dtype}, got numbers up to {float(rows.abs().max()):.3g}")


def _split(batch: Any) -> tuple[Any, Any, Any]:
    """Return the inputs, the targets and the weights of a batch; None for what it does not have."""
    if isinstance(batch, Mapping):
        return {key: part for key, part in batch.items() if key != _TARGETS}, batch.get(_TARGETS), None
    if isinstance(batch, Sequence):
        return batch[0], batch[1] if len(batch) in (2, 3) else None, batch[2] if len(batch) == 3 else None
    return batch, None, None


def _read(name: str, data: Any, *, is_shared: bool = False) -> tuple[Any, Tensor | None, Tensor | None, Any]:
    """Read a data set or a loader batch by batch: inputs, targets and weights or None, and the first batch or None.

    What is read is held in memory, and in temporary files beyond a gigabyte. Where all processes read and the loader
    has a sampler for that, each reads its own rows, and they exchange them.
    """
    count, own = (len(data.dataset), _own(name, data)) if is_shared and _is_shared(data) else (0, None)
    data = data if own is None else own
    first: Any = None
    inputs: dict[Any, Spool] = {}
    others: list[Spool | None] = [Spool(), Spool()]
    for batch in _batches(name, data):
        x, *rest = _split(batch)
        if first is None:
            first = batch
        for key, part in _named(x).items():
            inputs.setdefault(key, Spool()).add(as_tensor(name, part))
        others = [None if spool is None or part is None else spool for spool, part in zip(others, rest, strict=True)]
        for spool, part in zip(others, rest, strict=True):
            if spool is not None:
                spool.add(as_tensor(name, part))
    if first is None:
        return None, None, None, None
    parts = [*(spool.tensor() for spool in inputs.values()), *(spool.tensor() for spool in others if spool is not None)]
    parts = parts if own is None else exchanged(parts, count)
    given = iter(parts)
    read = {key: next(given) for key in inputs}
    x = _split(first)[0]
    whole: Any = read if isinstance(x, Mapping) else tuple(read.values()) if _is_several(x) else read[0]
    whole = _real(whole, _has_tensors(data)) if isinstance(whole, Tensor) else whole
    targets, weights = (None if spool is None else next(given) for spool in others)
    return whole, targets, weights, first


def _is_several(inputs: Any) -> bool:
    return isinstance(inputs, Sequence) and not isinstance(inputs, str | bytes)


def _named(inputs: Any) -> dict[Any, Any]:
    """Return inputs by their names or numbers."""
    if isinstance(inputs, Mapping):
        return {str(key): part for key, part in inputs.items()}
    return dict(enumerate(inputs)) if _is_several(inputs) else {0: inputs}


def as_inputs_and_targets(name: str, data: Any) -> tuple[Any, Tensor]:
    """Return data as inputs and targets, as `as_observations` does, of data without weights.

    Args:
        name: The argument's name, for the message.
        data: The data.

    Raises:
        TypeError: If an item holds no numbers.
        ValueError: If it is no such thing, is empty, or has weights.
    """
    x, y, weight = as_observations(name, data)
    if weight is not None:
        raise ValueError(f"{name} must be a pair (x, y), got a third part, which would be weights of the rows")
    return x, y


def as_observations(name: str, data: Any, *, is_shared: bool = False) -> tuple[Any, Tensor, Tensor | None]:
    """Return data as inputs, targets and weights, read whole: into memory, and into temporary files beyond a gigabyte.

    Args:
        name: The argument's name, for the message.
        data: A pair (x, y) of what `as_tensor` takes, or (x, y, weight) with a weight for each row; anything with ``x``
            and ``y``; a ``Dataset`` or a ``Subset`` of pairs or triples; or a ``DataLoader`` of batches of them. x may
            also be a tuple or a dictionary of several inputs, and a batch or an item a dictionary of inputs with the
            targets as ``labels``. Rows come in the order of the data set, all of them, though the loader shuffles
            them, drops the last ones, or shares them with other processes of ``torch.distributed``.
        is_shared: Whether all processes of ``torch.distributed`` read the data, at the same time. Of a loader with a
            ``DistributedSampler`` each then reads its own rows alone, and they exchange them.

    Returns:
        Inputs, as `as_inputs` returns them, targets, and weights or None.

    Raises:
        TypeError: If an item holds no numbers.
        ValueError: If it is no such thing, or is empty.
    """
    refusal = f"{name} must be a pair (x, y) of tensors or arrays, one row an observation, a Dataset or a DataLoader"
    if isinstance(data, TensorDataset):
        data = data.tensors
    if isinstance(data, Dataset | DataLoader) and not isinstance(data, Sequence):
        x, y, weight, first = _read(name, data, is_shared=is_shared)
        if y is None:
            raise ValueError(f"{refusal} of pairs, got {type(data).__name__} of {_kind(first)}")
        return x, y if _has_tensors(data) or not y.is_floating_point() else _real(y, False), weight
    parts = (data.x, data.y) if hasattr(data, "x") and hasattr(data, "y") and not _is_table(data) else data
    if not isinstance(parts, Sequence) or isinstance(parts, str | bytes) or len(parts) not in (2, 3):
        raise ValueError(f"{refusal}, got {type(data).__name__}")
    leaves = [*(parts[0].values() if isinstance(parts[0], Mapping) else _leaves(parts[0])), *parts[1:]]
    if not all(isinstance(part, Tensor | np.ndarray) or hasattr(part, "to_numpy") for part in leaves):
        raise ValueError(f"{refusal}, got {type(data).__name__} of {', '.join(type(part).__name__ for part in parts)}")
    if any(not getattr(part, "ndim", 1) for part in leaves):
        raise ValueError(f"{refusal}, got shapes {', '.join(str(tuple(part.shape)) for part in leaves)}")
    weights = as_targets(name, parts[2]) if len(parts) == 3 else None
    return as_inputs(name, parts[0]), as_targets(name, parts[1]), weights


def as_scored(x: Any, y: Any = None, weight: Any = None) -> tuple[Any, Any, Any]:
    """Return inputs, observations and weights of rows to score, of data that may hold them all.

    Args:
        x: Inputs; or, where ``y`` is None, what `as_observations` takes.
        y: Observations.
        weight: Weights of the rows.

    Returns:
        Inputs, observations, and weights or None; those that were given apart are not looked at.

    Raises:
        TypeError: If an item of the data holds no numbers.
        ValueError: If without ``y`` the data hold no observations, or weights are given twice.
    """
    if y is not None:
        return x, y, weight
    x, y, beside = as_observations("x", x)
    if weight is not None and beside is not None:
        raise ValueError("weight must be None where x holds weights of the rows, got both")
    return x, y, beside if weight is None else weight


def _leaves(inputs: Any) -> Sequence[Any]:
    """Return the inputs of a tuple or a list; one alone as the only one."""
    return inputs if isinstance(inputs, tuple | list) else [inputs]


def _real(x: Tensor, is_tensor: bool) -> Tensor:
    """Return inputs that were no tensors, such as whole numbers of an array, in torch's default dtype."""
    return x if is_tensor else converted(x, torch.get_default_dtype())


def _has_tensors(data: Any) -> bool:
    """Return whether the items of a data set begin with a tensor, of a dtype that somebody chose."""
    source = data.dataset if isinstance(data, DataLoader) else data
    if isinstance(source, IterableDataset):
        return True
    first = source[0]
    inputs = _split(first)[0]
    return isinstance(inputs, Tensor | Sequence | Mapping)


def _is_table(data: object) -> bool:
    """Return whether it is a DataFrame, whose columns may be called x and y."""
    return hasattr(data, "to_numpy")


def _batches(name: str, data: Any) -> Iterator[Any]:
    """Yield batches of a loader, or of a data set's items, in the order of its rows, and all of them."""
    if isinstance(data, DataLoader):
        yield from _in_order(name, data)
    elif isinstance(data, IterableDataset):
        yield from DataLoader(data, batch_size=_ROWS_AT_ONCE)
    else:
        for start in range(0, len(data), _ROWS_AT_ONCE):
            yield default_collate([data[i] for i in range(start, min(start + _ROWS_AT_ONCE, len(data)))])


def _in_order(name: str, loader: DataLoader[Any]) -> DataLoader[Any]:
    """Return a loader that shuffles nothing and leaves nothing out: rows are shuffled where they are learnt from."""
    sampler = loader.sampler
    if isinstance(loader.dataset, IterableDataset) or loader.batch_size is None:
        return loader
    if isinstance(sampler, SubsetRandomSampler):
        rows: Any = Subset(loader.dataset, sorted(sampler.indices))
    elif isinstance(sampler, SequentialSampler) or (isinstance(sampler, RandomSampler) and not sampler.replacement):
        rows = loader.dataset
    elif isinstance(sampler, DistributedSampler) and _shares_with_all(sampler):
        rows = loader.dataset  # the processes share every batch, so that each has all rows
    else:
        kind = type(sampler).__name__
        raise ValueError(f"{name} must be a DataLoader that gives each row once, got one with a {kind}")
    if isinstance(sampler, SequentialSampler) and not loader.drop_last:
        return loader
    workers = loader.num_workers
    return DataLoader(rows, batch_size=loader.batch_size, collate_fn=loader.collate_fn, num_workers=workers)


def _shares_with_all(sampler: DistributedSampler[Any]) -> bool:
    """Return whether the other processes of ``torch.distributed`` have the rows that this one is not given."""
    is_there = distributed.is_available() and distributed.is_initialized()
    return is_there and sampler.num_replicas == distributed.get_world_size()


def _is_shared(data: Any) -> bool:
    """Return whether it is a loader whose rows the processes of ``torch.distributed`` have among them."""
    sampler = getattr(data, "sampler", None)
    return isinstance(data, DataLoader) and isinstance(sampler, DistributedSampler) and _shares_with_all(sampler)


def _own(name: str, loader: DataLoader[Any]) -> DataLoader[Any] | None:
    """Return a loader of the rows that this process reads; None where it has to read all."""
    dataset: Any = loader.dataset
    rows = own_rows(loader.sampler, len(dataset))  # type: ignore[arg-type]
    if rows is None:
        return None
    subset = DataLoader(
        Subset(dataset, rows),
        batch_size=loader.batch_size,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
    )
    return _in_order(name, subset)


def _kind(first: Any) -> str:
    if first is None:
        return "nothing"
    return f"dictionaries with {', '.join(map(str, first))}" if isinstance(first, Mapping) else type(first).__name__
