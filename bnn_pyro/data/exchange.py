"""Rows that processes of ``torch.distributed`` have read each its own of, and give to each other."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, distributed
from torch.utils.data import DistributedSampler

from bnn_pyro.data.mapped import Spool, note_read

_ROWS_AT_ONCE = 1024  # of each process, that are exchanged

Gather = Callable[[Tensor], Sequence[Tensor]]
"""From a tensor of this process to those of all, in the order of their ranks."""


def own_rows(sampler: DistributedSampler[object], rows: int) -> range | None:
    """Return the numbers of the rows that this process reads, one in ``num_replicas``; None where it has to read all.

    Args:
        sampler: The sampler of its loader.
        rows: How many rows there are.

    Raises:
        ValueError: If the sampler is that of another process.
    """
    if sampler.rank != (rank := distributed.get_rank()):
        raise ValueError(f"sampler must be that of this process, of rank {rank}, got one of rank {sampler.rank}")
    if rows < sampler.num_replicas or not distributed.is_gloo_available():
        return None
    return range(sampler.rank, rows, sampler.num_replicas)


def exchanged(own: Sequence[Tensor], rows: int, gather: Gather | None = None) -> list[Tensor]:
    """Return the rows of all processes in their order: row ``i`` is one of process ``i % processes``.

    Args:
        own: Tensors of this process's rows, each of shape ``(own rows, ...)``, on the CPU; those of other processes
            have as many rows, or one more or less.
        rows: How many rows there are in all.
        gather: How a tensor is sent; None sends it over Gloo, whatever the processes use otherwise.

    Returns:
        Each tensor with all rows, in memory, or in a temporary file beyond a gigabyte.
    """
    if gather is None:
        group = cast(distributed.ProcessGroup, distributed.new_group(backend="gloo"))
        try:
            return exchanged(own, rows, lambda tensor: _gathered(tensor, group))
        finally:
            distributed.destroy_process_group(group)
    return [_interleaved(tensor, rows, gather) for tensor in own]


def _gathered(tensor: Tensor, group: distributed.ProcessGroup) -> Sequence[Tensor]:
    sent = tensor.reshape(-1).view(torch.uint8)  # bytes, as Gloo does not know all dtypes
    found = [torch.empty_like(sent) for _ in range(distributed.get_world_size())]
    distributed.all_gather(found, sent, group=group)
    return [part.view(tensor.dtype).reshape(tensor.shape) for part in found]


def _interleaved(own: Tensor, rows: int, gather: Gather) -> Tensor:
    """Return the rows of all processes, some of each at a time."""
    spool, done, start = Spool(), 0, 0
    while done < rows:
        part = own[start : start + _ROWS_AT_ONCE]
        block = own.new_zeros(_ROWS_AT_ONCE, *own.shape[1:])  # all processes send as many
        block[: len(part)] = part
        note_read(own, part)
        both = torch.stack(list(gather(block)), 1).flatten(0, 1)
        spool.add(both[: rows - done].clone())
        done, start = min(rows, done + len(both)), start + _ROWS_AT_ONCE
    return spool.tensor()
