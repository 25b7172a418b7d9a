"""Tensors in files that the system reads where they are needed, so that data need not fit into memory."""

from __future__ import annotations

import contextlib
import mmap
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

IN_MEMORY = 2**30
"""Bytes up to which batches of a loader are held in memory; more of them go to a temporary file."""

_CHUNK = 2**26  # bytes that are copied, or looked at, at once
_READ_AROUND = 2**21  # bytes that the system may take to memory around a row that is read: a large page
_ROWS = 128  # that are gathered at once
_RESIDENT = 2**28  # bytes of a file that may be read until the system is told that they are not needed any more

_mappings: weakref.WeakValueDictionary[int, MappedFile] = (
    weakref.WeakValueDictionary()
)  # by the address of their tensor


class MappedFile:
    """A file in the address space of the process, private to it, and what of it may be in memory.

    Args:
        file: Descriptor of the file.
        offset: Where the tensor begins, in bytes.
        size: How many bytes it has.
    """

    def __init__(self, file: int, offset: int, size: int) -> None:
        start = offset - offset % mmap.ALLOCATIONGRANULARITY
        self.memory = mmap.mmap(file, size + offset - start, access=mmap.ACCESS_COPY, offset=start)
        self.view = memoryview(self.memory)[offset - start :]
        self.read = 0

    def tensor(self, dtype: torch.dtype, shape: Iterable[int]) -> Tensor:
        """Return the content as a tensor, which must not be written to."""
        found = torch.frombuffer(self.view, dtype=dtype).reshape(*shape)
        found._mapping = self  # type: ignore[attr-defined]  # lives as long as the tensor
        _mappings[found.data_ptr()] = self
        return found

    def note(self, size: int) -> None:
        """Note that so many bytes were read; after some of them, let the system have the memory that holds them."""
        self.read += size
        if self.read >= _RESIDENT and hasattr(mmap, "MADV_DONTNEED"):
            self.memory.madvise(mmap.MADV_DONTNEED)
            self.read = 0


def is_mapped(tensor: Tensor) -> bool:
    """Tell whether a tensor lies in a file, by this module."""
    return tensor.data_ptr() in _mappings


def placed(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device, but one that lies in a file as it is, to be read and moved batch by batch.

    Args:
        tensor: The tensor.
        device: The device.
    """
    return tensor if is_mapped(tensor) else tensor.to(device)


def note_read(tensor: Tensor, part: Tensor) -> None:
    """Note that a part of a tensor was read; nothing happens where it does not lie in a file.

    Args:
        tensor: The tensor.
        part: What was copied from it.
    """
    mapping = _mappings.get(tensor.data_ptr())
    if mapping is not None:
        mapping.note(max(part.numel() * part.element_size(), len(part) * _READ_AROUND))


def chunks(tensor: Tensor) -> Iterable[Tensor]:
    """Yield the rows of a tensor in parts of some megabytes; all of them where they are in memory."""
    if not is_mapped(tensor):
        yield tensor
        return
    row = max(1, tensor[:1].numel() * tensor.element_size())
    for rows in tensor.split(max(1, _CHUNK // row)):
        yield rows
        note_read(tensor, rows)


def of_array(array: np.memmap[Any, Any]) -> Tensor | None:
    """Return a memory-mapped array of NumPy as a tensor that is not copied; None where that cannot be done.

    Args:
        array: The array, as ``np.load(..., mmap_mode="r")`` or ``np.memmap`` gives it.
    """
    offset = array.offset + (array.__array_interface__["data"][0] - _address(array))
    if not array.flags.c_contiguous or array.filename is None or not array.size:
        return None
    dtype = getattr(torch, array.dtype.name, None)
    if not isinstance(dtype, torch.dtype) or array.dtype.byteorder == ">":
        return None
    with open(array.filename, "rb") as file:
        return MappedFile(file.fileno(), offset, array.nbytes).tensor(dtype, array.shape)


def _address(array: np.memmap[Any, Any]) -> int:
    """Return where the whole array begins that an array is a part of."""
    base: Any = array
    while isinstance(base.base, np.memmap):
        base = base.base
    return int(base.__array_interface__["data"][0])


class Spool:
    """Rows that come in parts and become one tensor: in memory if they are few, else in a temporary file.

    The file has no name, and is gone when nothing refers to the tensor any more.

    Args:
        most: Bytes to hold in memory.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = IN_MEMORY if most is None else most
        self._parts: list[Tensor] = []
        self._bytes = self._rows = 0
        self._file: Any = None

    def add(self, part: Tensor) -> None:
        """Append rows, of the dtype and the shape of those before."""
        self._rows += len(part)
        self._bytes += part.numel() * part.element_size()
        self._parts.append(part)
        if self._bytes > self._most and not part.is_cuda:
            self._write()

    def _write(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the tensor)
        first = self._parts[0]
        with self._closed_on_failure():
            for part in self._parts:
                self._file.write(part.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        self._parts = [first[:0]]

    @contextlib.contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        try:
            yield
        except OSError:  # as on a full disk, on which closing fails too
            file, self._file = self._file, None
            with contextlib.suppress(OSError):
                file.close()
            raise

    def tensor(self) -> Tensor:
        """Return all rows; none can be added any more."""
        if self._file is not None:
            like = self._parts[0]
            with self._closed_on_failure():
                self._file.flush()
            whole = MappedFile(self._file.fileno(), 0, self._bytes).tensor(like.dtype, (self._rows, *like.shape[1:]))
            self._file.close()  # the mapping holds the file from here on
            self._file, self._parts = None, [whole]
        return self._parts[0] if len(self._parts) == 1 else torch.cat(self._parts)


def gathered(tensor: Tensor, rows: Tensor, *, is_pinned: bool = False) -> Tensor:
    """Return some rows of a tensor in memory, as ``tensor[rows]``; of one in a file a few at a time.

    Args:
        tensor: The tensor.
        rows: Their numbers.
        is_pinned: Whether rows of a file go to pinned memory, from which a copy to a CUDA device is no wait.
    """
    if not is_mapped(tensor):
        return tensor[rows]
    found = tensor.new_empty(len(rows), *tensor.shape[1:], pin_memory=is_pinned)
    for some, out in zip(rows.split(_ROWS), found.split(_ROWS), strict=True):
        torch.index_select(tensor, 0, some, out=out)
        note_read(tensor, out)
    return found


def prefetched(tensor: Tensor, parts: Iterable[Tensor], *, is_pinned: bool = False) -> Iterator[Tensor]:
    """Yield some rows of a tensor after others, as `gathered` does; of one in a file the next are read meanwhile.

    Args:
        tensor: The tensor.
        parts: The numbers of the rows, part by part.
        is_pinned: Whether rows of a file go to pinned memory.
    """
    if not is_mapped(tensor):
        yield from (tensor[rows] for rows in parts)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="prefetching") as reader:
        coming: Future[Tensor] | None = None
        for rows in parts:
            coming, ready = reader.submit(gathered, tensor, rows, is_pinned=is_pinned), coming
            if ready is not None:
                yield ready.result()
        if coming is not None:
            yield coming.result()


def every(tensor: Tensor, stride: int) -> Tensor:
    """Return evenly spaced rows of a tensor, as ``tensor[::stride]``; of one in a file in memory.

    Args:
        tensor: The tensor.
        stride: From how many rows one is taken.
    """
    return gathered(tensor, torch.arange(0, len(tensor), stride)) if is_mapped(tensor) else tensor[::stride]


def at_most(tensor: Tensor, rows: int = 10_000) -> Tensor:
    """Return evenly spaced rows of a tensor in a file, about so many at most; all of one in memory.

    Args:
        tensor: The tensor.
        rows: How many are enough.
    """
    return every(tensor, -(-len(tensor) // rows)) if is_mapped(tensor) else tensor


def take(tensor: Tensor, rows: Tensor) -> Tensor:
    """Return some rows of a tensor, as ``tensor[rows]``; of one in a file in another file, if they are many.

    Args:
        tensor: The tensor.
        rows: Their numbers.
    """
    if not is_mapped(tensor):
        return tensor[rows]
    spool, row = Spool(), max(1, tensor[:1].numel() * tensor.element_size())
    for some in rows.split(max(1, _CHUNK // row)):
        spool.add(gathered(tensor, some))
    return spool.tensor()


def converted(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor in another dtype; of one in a file in another file, if it is large."""
    return tensor if tensor.dtype == dtype else _changed(tensor, lambda part: part.to(dtype))


def columns(tensor: Tensor, kept: Tensor) -> Tensor:
    """Return some entries of a tensor's last dimension; of one in a file in another file, if they are many.

    Args:
        tensor: The tensor.
        kept: Their numbers.
    """
    kept = kept.to(tensor.device)
    return _changed(tensor, lambda part: part.index_select(-1, kept))


def _changed(tensor: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what each row of a tensor becomes; of one in a file in another file, if it is large."""
    if not is_mapped(tensor):
        return change(tensor)
    spool = Spool()
    for part in chunks(tensor):
        spool.add(change(part))
    return spool.tensor()


def is_finite(tensor: Tensor, *, or_nan: bool = False) -> bool:
    """Tell whether all numbers of a tensor are finite.

    Args:
        tensor: The tensor.
        or_nan: Whether NaN is as good.
    """
    return all(bool((~part.isinf() if or_nan else part.isfinite()).all()) for part in chunks(tensor))
