"""Mini-batches: all rows, in another order, changed or not."""

from typing import Any

import pytest
import torch
from torch import nn

from bnn_pyro.data.augmentation import Augmentation
from bnn_pyro.inference.training.batches import batches, check_augmentation, normalises, sizes_of_batches


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


@pytest.mark.parametrize(
    ("rows", "size", "join", "sizes"),
    [
        (7, 3, False, [3, 3, 1]),
        (7, 3, True, [3, 4]),
        (8, 3, True, [3, 3, 2]),
        (6, 3, True, [3, 3]),
        (1, 3, True, [1]),
        (3, 1, True, [1, 2]),
        (2, 5, True, [2]),
    ],
)
def test_one_row_that_is_left_over_joins_the_batch_before(rows: int, size: int, join: bool, sizes: list[int]) -> None:
    assert sizes_of_batches(rows, size, join=join) == sizes
    x = torch.arange(rows).float()
    found = list(batches(x, x, size, join=join))
    assert [len(xs) for xs, _ in found] == sizes
    assert torch.cat([ys for _, ys in found]).sort().values.tolist() == x.tolist()


def test_a_batch_norm_is_found_wherever_it_is() -> None:
    assert normalises(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2))))
    assert not normalises(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))
