"""Mini-batches: all rows, in another order, changed or not."""

from typing import Any

import pytest
import torch

from bnn_pyro.data.augmentation import Augmentation
from bnn_pyro.inference.training.batches import batches, check_augmentation


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
