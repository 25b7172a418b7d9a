"""Rows that processes have read each its own of; two real processes are in the test of processes."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, distributed
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from bnn_pyro.data import exchange
from bnn_pyro.data.exchange import exchanged, own_rows
from bnn_pyro.data.sources import as_observations

ROWS = 11
PARTS = (torch.arange(2.0 * ROWS).reshape(ROWS, 2), torch.arange(ROWS), torch.arange(ROWS) % 2 == 0)


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_all_rows_are_there_in_their_order(processes: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_ROWS_AT_ONCE", at_once)
    shares = [[part[rank::processes] for part in PARTS] for rank in range(processes)]
    sent: list[list[Tensor]] = []  # by each process, block by block
    for rank in range(processes):
        blocks: list[Tensor] = []
        exchanged(shares[rank], ROWS, lambda block, blocks=blocks: blocks.append(block) or [block] * processes)  # type: ignore[misc]
        sent.append(blocks)
    for rank in range(processes):
        answers = iter(zip(*sent, strict=True))
        found = exchanged(shares[rank], ROWS, lambda block, answers=answers: next(answers))  # type: ignore[misc]
        assert all(torch.equal(*pair) for pair in zip(found, PARTS, strict=True))


@pytest.fixture
def alone() -> Iterator[None]:
    """A group of one process."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"file://{Path(folder) / 'store'}"
        distributed.init_process_group("gloo", init_method=address, rank=0, world_size=1)
        yield
        distributed.destroy_process_group()


@pytest.mark.usefixtures("alone")
def test_rows_are_sent_over_gloo() -> None:
    found = exchanged(PARTS, ROWS)
    assert all(torch.equal(*pair) for pair in zip(found, PARTS, strict=True))
    rows = TensorDataset(*PARTS[:2], PARTS[2].float())
    loader = DataLoader(rows, batch_size=4, sampler=DistributedSampler(rows))
    x, y, weight = as_observations("data", loader, is_shared=True)
    assert torch.equal(x, PARTS[0]) and torch.equal(y, PARTS[1])
    assert weight is not None and torch.equal(weight, PARTS[2].float())


def test_which_rows_a_process_reads() -> None:
    there: dict[str, Any] = {"get_rank": lambda: 1}
    sampler: DistributedSampler[Any] = DistributedSampler(range(ROWS), num_replicas=3, rank=1)  # type: ignore[arg-type]
    with mock.patch.multiple(distributed, **there):
        assert own_rows(sampler, ROWS) == range(1, ROWS, 3)
        assert own_rows(sampler, 2) is None
    with mock.patch.multiple(distributed, get_rank=lambda: 2):
        with pytest.raises(ValueError, match="sampler must be that of this process, of rank 2, got one of rank 1"):
            own_rows(sampler, ROWS)
