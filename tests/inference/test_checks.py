"""Training data at the door: its forms, its faults, held-out rows."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

from bnn_pyro.inference.checks import as_pair, check_against, split_rows
from tests.test_network import inputs, labels, network

X, Y = inputs(), labels()


@pytest.mark.parametrize("data", [(X, Y), [X, Y], TensorDataset(X, Y), SimpleNamespace(x=X, y=Y)])
def test_forms_of_data(data: Any) -> None:
    x, y = as_pair("data", data)
    assert torch.equal(x, X) and torch.equal(y, Y)


def test_real_observations_have_the_dtype_of_the_inputs() -> None:
    assert as_pair("data", (X.float(), X[:, 0]))[1].dtype == torch.float32
    assert as_pair("data", (X.float(), Y))[1].dtype == torch.int64


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X, "train must be a pair of tensors"),
        ((X, Y, Y), "train must be a pair of tensors .* got tuple"),
        ((X.numpy(), Y.numpy()), "train must be a pair of tensors"),
        (TensorDataset(X), "train must be a pair of tensors .* got TensorDataset"),
        ((X, Y[0]), "train must be a pair of tensors"),
        (None, "got NoneType"),
        ((X[:0], Y[:0]), "train must have as many rows in y as in x, and one at least, got 0 and 0"),
        ((X, Y[:5]), "got 12 and 5"),
        ((X.long(), Y), "train must have floating-point inputs, got torch.int64"),
        ((X / 0, Y), "train must be finite, got NaN or infinite values in x"),
        ((X, X[:, 0] * float("nan")), "train must be finite, got NaN or infinite values in y"),
    ],
)
def test_bad_data(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_pair("train", data)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (inputs(12, 5), Y, r"train must have inputs of shape \(rows, 6\), got \(12, 5\)"),
        (X, Y + 1, "train does not fit the likelihood: y must hold labels in 0 ... 2, got 1 ... 3"),
        (X, Y.int(), "train does not fit the likelihood: .* torch.int64"),
        (X, X[:, 0], "train does not fit the likelihood: .* torch.int64"),
        (X, Y.unsqueeze(1), r"train does not fit the likelihood: y must have shape \(12,\)"),
    ],
)
def test_data_that_does_not_fit(x: torch.Tensor, y: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_against("train", network(), x, y)


def test_checking_leaves_the_net_in_its_mode() -> None:
    model = network()
    model.net.train()
    model.net.get_submodule("activation1").eval()
    before = [module.training for module in model.net.modules()]
    check_against("train", model, X, Y)
    assert [module.training for module in model.net.modules()] == before


def test_split() -> None:
    train, held_out = split_rows(40, 0.25, torch.Generator().manual_seed(0))
    assert len(train) == 30 and len(held_out) == 10
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(40))
    assert train.tolist() != sorted(train.tolist())


@pytest.mark.parametrize(("rows", "fraction"), [(40, 0.0), (40, 1.0), (40, -0.1), (4, 0.1), (1, 0.5)])
def test_bad_split(rows: int, fraction: float) -> None:
    with pytest.raises(ValueError, match="validation must be a fraction"):
        split_rows(rows, fraction, torch.Generator())
