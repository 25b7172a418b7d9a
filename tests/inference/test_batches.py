"""Data at the door of a run, and its mini-batches."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

from bnn_pyro.augmentation import Augmentation
from bnn_pyro.inference.batches import as_pair, batches, check_against, check_augmentation, seeded, split_rows
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


def test_batches_are_all_rows_in_another_order() -> None:
    x = torch.arange(10.0)
    torch.manual_seed(0)
    first, second = (list(batches(x, -x, 4)) for _ in range(2))
    assert [len(xs) for xs, _ in first] == [4, 4, 2]
    orders = [torch.cat([xs for xs, _ in epoch]).tolist() for epoch in (first, second)]
    assert sorted(orders[0]) == sorted(orders[1]) == x.tolist() and orders[0] != orders[1] != x.tolist()
    assert all(torch.equal(xs, -ys) for xs, ys in first)


def test_inputs_are_changed_batch_by_batch() -> None:
    x, seen = torch.arange(10.0), []

    def change(rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return rows + 100

    found = torch.cat([xs - 100 - ys for xs, ys in batches(x, x, 4, change)])
    assert seen == [4, 4, 2] and torch.equal(found, torch.zeros(10)) and x.tolist() == list(range(10))


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda x: x[:1], r"got shape \(1,\), torch.float32, cpu"),
        (lambda x: x.double(), "got shape .* torch.float64"),
        (lambda x: None, "got NoneType"),
    ],
)
def test_a_change_keeps_the_form_of_inputs(change: Any, got: str) -> None:
    with pytest.raises(ValueError, match=rf"augmentation must return inputs of shape \(4,\), torch.float32, .* {got}"):
        next(batches(torch.ones(10), torch.ones(10), 4, change))


def test_what_is_no_change() -> None:
    check_augmentation(None)
    check_augmentation(Augmentation())
    for wrong in ("flip", Augmentation):
        with pytest.raises(ValueError, match="augmentation must be a function from inputs to inputs, such as an Aug"):
            check_augmentation(wrong)


def test_seeded_draws_and_the_state_afterwards() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(7)
    own = torch.rand(2)
    torch.manual_seed(7)
    with pytest.raises(KeyError), seeded(1, torch.device("cpu")):
        assert torch.equal(torch.rand(3), expected)
        raise KeyError
    assert torch.equal(torch.rand(2), own)
    torch.manual_seed(1)
    with seeded(None, torch.device("cpu")):
        assert torch.equal(torch.rand(3), expected)


@pytest.mark.gpu
def test_seeded_draws_on_a_gpu() -> None:
    device = torch.device("cuda")
    torch.cuda.manual_seed(7)
    own = torch.rand(2, device=device)
    torch.cuda.manual_seed(7)
    with seeded(1, device):
        first = torch.rand(3, device=device)
    with seeded(1, device):
        assert torch.equal(torch.rand(3, device=device), first)
    with seeded(1, torch.device("cpu")):
        pass
    assert torch.equal(torch.rand(2, device=device), own)
