"""Data in files: tensors that are not read into memory, and the same steps as with tensors that are."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from bnn_pyro import fit, networks, train_dense
from bnn_pyro.data import mapped
from bnn_pyro.data.mapped import (
    Spool,
    at_most,
    chunks,
    columns,
    converted,
    every,
    gathered,
    is_finite,
    is_mapped,
    prefetched,
    take,
)
from bnn_pyro.data.sources import as_inputs, as_inputs_and_targets, as_tensor
from bnn_pyro.inference.training.batches import batches
from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.priors import Gaussian

ROWS = 60
X = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(0))
Y = X.sum(1)


def in_file(path: Path, values: Tensor) -> Any:
    np.save(path, values.numpy())
    return np.load(path, mmap_mode="r")


def test_a_memory_mapped_array_is_not_copied(tmp_path: Path) -> None:
    array = in_file(tmp_path / "x.npy", X)
    found = as_tensor("x", array)
    assert is_mapped(found) and torch.equal(found, X)
    part = as_tensor("x", array[7:])
    assert is_mapped(part) and torch.equal(part, X[7:])
    assert not is_mapped(as_tensor("x", array[:, 1:])) and torch.equal(as_tensor("x", array[:, 1:]), X[:, 1:])


def test_double_precision_becomes_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "IN_MEMORY", 100)
    found = as_tensor("x", in_file(tmp_path / "x.npy", X.double()))
    assert found.dtype == torch.float32 and is_mapped(found) and torch.equal(found, X)
    assert converted(X, torch.float64).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool, torch.bfloat16])
def test_many_parts_become_one_tensor_in_a_file(dtype: torch.dtype) -> None:
    values = (10 * X).to(dtype)
    spool, memory = Spool(100), Spool()
    for part in values.split(7):
        spool.add(part)
        memory.add(part)
    assert is_mapped(spool.tensor()) and torch.equal(spool.tensor(), values)
    assert not is_mapped(memory.tensor()) and torch.equal(memory.tensor(), values)


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(X, Y, strict=True)


def sources(path: Path) -> dict[str, Any]:
    return {
        "a memory-mapped array": (in_file(path / "x.npy", X), in_file(path / "y.npy", Y)),
        "a loader": DataLoader(TensorDataset(X, Y), batch_size=7),
        "a stream": DataLoader(Stream(), batch_size=7),
    }


@pytest.mark.parametrize("kind", ["a memory-mapped array", "a loader", "a stream"])
def test_training_is_that_of_tensors(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same loss curve under the same seed, also where rows are held out at random."""
    monkeypatch.setattr(mapped, "IN_MEMORY", 100)
    data = sources(tmp_path)[kind]
    assert all(is_mapped(part) for part in as_inputs_and_targets("data", data))
    assert is_mapped(as_inputs("x", data)) if kind != "a memory-mapped array" else True
    net = networks.mlp(4, (5,), 1)
    model = SparseNetwork(net, X[:2], prior=Gaussian(), likelihood=GaussianNoise(), num_data=ROWS - 12)
    options: dict[str, Any] = {"epochs": 3, "batch_size": 16, "seed": 0, "validation": 0.2}
    found, expected = (fit(model, rows, **options) for rows in (data, (X, Y)))
    assert [r["loss"] for r in found.history] == [r["loss"] for r in expected.history]
    options |= {"likelihood": GaussianNoise()}
    trained, reference = (train_dense(net, rows, **options) for rows in (data, (X, Y)))
    torch.testing.assert_close(trained(X), reference(X))


def resident(tensor: Tensor) -> int:
    """Bytes of a tensor's file that are in memory, as the system counts them for this process."""
    address, inside = tensor.data_ptr(), False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first and not first.endswith(":"):
            low, high = (int(end, 16) for end in first.split("-"))
            inside = low <= address < high
        elif inside and first == "Rss:":
            return 1024 * int(line.split()[1])
    raise AssertionError("the tensor lies nowhere")


@pytest.mark.skipif(sys.platform != "linux", reason="what is in memory is read from /proc")
def test_what_was_read_does_not_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, width = 4000, 2048  # 32 MB
    array = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(rows, width))
    array[:] = 1.0
    array.flush()
    x = as_tensor("x", np.load(tmp_path / "x.npy", mmap_mode="r"))
    assert float(x.sum()) == rows * width and resident(x) > 30e6
    monkeypatch.setattr(mapped, "_RESIDENT", 2**22)
    monkeypatch.setattr(mapped, "_CHUNK", 2**20)
    monkeypatch.setattr(mapped, "_ROWS", 2)
    assert is_finite(x) and resident(x) <= 2**22
    most = 0
    for _ in batches(x, torch.zeros(rows), 50):
        most = max(most, resident(x))
    assert most <= 2**22 + 2**21
    for few in (take(x, torch.arange(0, rows, 2)), every(x, 2)):
        assert torch.equal(few[:3], x[:6:2]) and len(few) == rows // 2 and resident(x) <= 2**22 + 2**21


def test_chunks_are_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "_CHUNK", 100)
    x = as_tensor("x", in_file(tmp_path / "x.npy", X))
    assert torch.equal(torch.cat(list(chunks(x))), X) and len(list(chunks(x))) > 1 and len(list(chunks(X))) == 1


def test_columns_of_a_file_are_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "IN_MEMORY", 100)
    found = columns(as_tensor("x", in_file(tmp_path / "x.npy", X)), torch.tensor([2, 0]))
    assert is_mapped(found) and torch.equal(found, X[:, [2, 0]])
    assert torch.equal(columns(X, torch.tensor([1])), X[:, 1:2])


def test_the_next_rows_are_read_while_the_first_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part is asked for before the one before it is used, by another thread, and never more than one of them."""
    x, parts = as_tensor("x", in_file(tmp_path / "x.npy", X)), torch.randperm(ROWS).split(16)
    begun, threads, done = [0], set(), threading.Semaphore(0)

    def noted(*args: Any, **options: Any) -> Tensor:
        begun[0] += 1
        threads.add(threading.get_ident())
        done.release()
        return gathered(*args, **options)

    monkeypatch.setattr(mapped, "gathered", noted)
    for number, (found, rows) in enumerate(zip(prefetched(x, parts), parts, strict=True), start=1):
        for _ in range(2 if number == 1 else min(1, len(parts) - number)):
            assert done.acquire(timeout=60)
        assert begun[0] == min(number + 1, len(parts)) and torch.equal(found, X[rows])
    assert len(threads) == 1 and threading.get_ident() not in threads
    assert all(torch.equal(found, X[rows]) for found, rows in zip(prefetched(X, parts), parts, strict=True))


def test_a_reader_that_fails_or_is_left_is_no_thread_any_more(tmp_path: Path) -> None:
    x, before = as_tensor("x", in_file(tmp_path / "x.npy", X)), threading.active_count()
    with pytest.raises(IndexError):
        list(prefetched(x, [torch.tensor([1]), torch.tensor([ROWS])]))
    reading = prefetched(x, torch.arange(ROWS).split(7))
    next(reading)
    assert threading.active_count() == before + 1
    reading.close()  # type: ignore[attr-defined]  # as an iteration that is left does
    assert threading.active_count() == before


def test_values_that_are_not_finite_are_found(tmp_path: Path) -> None:
    broken = X.index_fill(0, torch.tensor([50]), torch.nan)
    found = as_tensor("x", in_file(tmp_path / "x.npy", broken))
    assert not is_finite(found) and is_finite(found, or_nan=True)


def test_some_rows_of_a_file_and_all_of_a_tensor(tmp_path: Path) -> None:
    assert torch.equal(at_most(as_tensor("x", in_file(tmp_path / "x.npy", X)), 25), X[::3]) and at_most(X, 20) is X
