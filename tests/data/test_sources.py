"""Rows as tensors: from arrays, tables, data sets and loaders."""

from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, distributed
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from bnn_pyro.data.sources import (
    as_inputs,
    as_inputs_and_targets,
    as_observations,
    as_scored,
    as_targets,
    as_tensor,
)

X, Y = torch.arange(12.0).reshape(6, 2), torch.arange(6) % 3
FRAME = pd.DataFrame(X.numpy(), columns=["x", "y"])


class Pairs(Dataset[tuple[Any, int]]):
    """Items that are a row and a plain number."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return X[i].numpy(), int(Y[i])


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """Items of which nobody knows how many there are."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter([(x, y) for x, y in zip(X, Y, strict=True)])


def loader(rows: Any) -> DataLoader[Any]:
    return DataLoader(rows, batch_size=4)


SOURCES: dict[str, Any] = {
    "tensors": (X, Y),
    "arrays": (X.double().numpy(), Y.numpy()),
    "tables": (FRAME, pd.Series(Y.numpy())),
    "data set of tensors": TensorDataset(X, Y),
    "subset": Subset(TensorDataset(X, Y), range(6)),
    "data set of arrays": Pairs(),
    "stream": Stream(),
    "loader": DataLoader(TensorDataset(X, Y), batch_size=4),
    "loader of a stream": DataLoader(Stream(), batch_size=4),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_all_forms_give_the_same_rows(source: Any) -> None:
    x, y = as_inputs_and_targets("data", source)
    assert torch.equal(x, X) and torch.equal(y, Y) and (x.dtype, y.dtype) == (X.dtype, Y.dtype)
    if isinstance(source, Dataset | DataLoader):
        assert torch.equal(as_inputs("x", source), X)


def test_tensors_stay_what_they_are() -> None:
    half = X.half()
    assert as_tensor("x", half) is half and as_inputs("x", half) is half
    assert as_tensor("x", np.array([1, 2], dtype=np.uint8)).dtype == torch.int64
    assert as_tensor("x", np.array([True])).dtype == torch.bool
    assert torch.equal(as_inputs("x", FRAME), X) and torch.equal(as_inputs("x", loader(X)), X)
    mixed = pd.DataFrame({"a": [1, 2], "b": [0.5, None]}, dtype=object)
    assert as_tensor("x", mixed)[:, 0].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (FRAME, r"data must be a pair \(x, y\) of tensors or arrays, .* a Dataset or a DataLoader, got DataFrame"),
        ("xy", "got str"),
        (([1.0], [2.0]), "got tuple of list, list"),
        (loader(X), "of pairs, got DataLoader of Tensor"),
        (loader([{"pixels": 1.0, "label": 0}]), "got DataLoader of dictionaries with pixels, label"),
        (TensorDataset(X, Y, Y, Y), "got tuple"),
        (Subset(TensorDataset(X, Y), []), "got Subset of nothing"),
    ],
)
def test_what_is_no_pair(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_inputs_and_targets("data", data)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0], "x must be a tensor, an array or a DataFrame, got list"),
        (np.array(["a"]), "x must hold numbers, got <U1: encode text as numbers first"),
        (pd.DataFrame({"a": [1.0], "colour": ["red"]}), "x must hold numbers, got text or objects in colour"),
    ],
)
def test_what_holds_no_numbers(values: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        as_tensor("x", values)


@pytest.mark.parametrize("options", [{"shuffle": True}, {"drop_last": True}, {"shuffle": True, "drop_last": True}])
def test_loaders_give_all_rows_in_their_order(options: dict[str, Any]) -> None:
    shuffled = DataLoader(TensorDataset(X, Y), batch_size=4, **options)
    assert torch.equal(as_inputs_and_targets("data", shuffled)[1], Y) and torch.equal(as_inputs("x", shuffled), X)


def test_loaders_of_some_rows() -> None:
    some = DataLoader(TensorDataset(X, Y), batch_size=2, sampler=SubsetRandomSampler([4, 1, 3]))
    assert torch.equal(as_inputs("x", some), X[[1, 3, 4]])
    weighted = DataLoader(TensorDataset(X, Y), sampler=WeightedRandomSampler([1.0] * 6, 6))
    with pytest.raises(ValueError, match="x must be a DataLoader that gives each row once, got one with a Weighted"):
        as_inputs("x", weighted)


def test_a_loader_that_shares_its_rows_needs_the_others() -> None:
    """Of processes that are not there the rows would be missing; with them each has all rows."""
    rows = TensorDataset(X, Y)
    alone = DataLoader(rows, batch_size=2, sampler=DistributedSampler(rows, num_replicas=2, rank=0))
    with pytest.raises(ValueError, match="data must be a DataLoader that gives each row once, got one with a Distrib"):
        as_inputs_and_targets("data", alone)
    there: dict[str, Any] = {"is_initialized": lambda: True, "get_world_size": lambda: 2, "get_rank": lambda: 0}
    with mock.patch.multiple(distributed, **there):
        assert torch.equal(as_inputs_and_targets("data", alone)[0], X)


@pytest.mark.parametrize("kind", ["tuple", "data set", "loader", "items"])
def test_a_third_part_is_a_weight_per_row(kind: str) -> None:
    class Items(Dataset[tuple[Tensor, Tensor, float]]):
        def __len__(self) -> int:
            return len(X)

        def __getitem__(self, row: int) -> tuple[Tensor, Tensor, float]:
            return X[row], Y[row], float(row)

    weight = torch.arange(len(X), dtype=torch.float32)
    rows = TensorDataset(X, Y, weight)
    data: dict[str, Any] = {"tuple": (X, Y, weight), "data set": rows, "loader": DataLoader(rows, 4), "items": Items()}
    x, y, found = as_observations("data", data[kind])
    assert torch.equal(x, X) and torch.equal(y, Y) and found is not None and torch.equal(found.float(), weight)
    assert as_observations("data", (X, Y))[2] is None
    with pytest.raises(ValueError, match=r"data must be a pair \(x, y\), got a third part, which would be weights"):
        as_inputs_and_targets("data", data[kind])


def test_what_is_no_tensor_gets_the_default_dtype() -> None:
    class Rows(Dataset[tuple[Any, Any]]):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, i: int) -> tuple[Any, Any]:
            return np.ones(2), np.float64(i)

    x, y = as_inputs_and_targets("data", Rows())
    assert x.dtype == y.dtype == torch.float32
    whole = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    assert as_inputs("x", whole).dtype == torch.float32
    assert as_inputs_and_targets("data", (whole, np.array([0, 1], dtype=np.int32)))[1].dtype == torch.int64
    gaps = pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": [0.5, 1.5]})
    assert as_tensor("y", gaps).isnan().tolist() == [[False, False], [True, False]]


def test_a_table_of_one_column_is_one_target_per_row() -> None:
    column = pd.DataFrame({"price": [1.5, 2.5, 0.5]})
    expected = torch.tensor([1.5, 2.5, 0.5])
    assert torch.equal(as_targets("y", column), expected) and torch.equal(as_targets("y", column["price"]), expected)
    x, y, weight = as_observations("data", (np.ones((3, 2)), column, column))
    assert torch.equal(y, expected) and weight is not None and torch.equal(weight, expected)
    assert as_observations("data", (column, column))[0].shape == (3, 1)
    assert as_targets("y", column.to_numpy()).shape == as_targets("y", torch.ones(3, 1)).shape == (3, 1)


def test_rows_to_score_hold_their_observations_or_have_them_apart() -> None:
    weight = torch.arange(len(X))
    assert as_scored(X, Y)[:2] == (X, Y) and as_scored(X, Y)[2] is None
    found = as_scored((X, Y, weight))
    assert all(torch.equal(*pair) for pair in zip(found, (X, Y, weight), strict=True))
    assert torch.equal(as_scored((X, Y), weight=weight)[2], weight)
    with pytest.raises(ValueError, match="weight must be None where x holds weights of the rows, got both"):
        as_scored((X, Y, weight), weight=weight)


def test_streams_of_a_known_length_and_nothing() -> None:
    class Known(Stream):
        def __len__(self) -> int:
            return 6

    assert torch.equal(as_inputs("x", Known()), X)
    with pytest.raises(ValueError, match="x must have a row, got Subset of nothing"):
        as_inputs("x", Subset(TensorDataset(X, Y), []))
