"""Rows that settings are chosen by."""

from dataclasses import replace

import pytest
import torch

from bnn_pyro.data import Split
from bnn_pyro.recipes.held_out import split_rows
from tests.recipes.test_runs import table


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_fraction_of_the_training_rows_is_held_out_of_each_class_alike(task: str) -> None:
    dataset = table(task)
    kept, scored = split_rows(dataset, 0.25, seed=1)
    assert (len(kept), len(scored)) == (60, 20)
    assert sorted(torch.cat([kept.x, scored.x])[:, 0].tolist()) == sorted(dataset.train.x[:, 0].tolist())
    if task == "classification":
        counts = dataset.train.y.bincount()
        assert torch.allclose(scored.y.bincount(minlength=len(counts)) / 20, counts / 80, atol=0.05)
    assert torch.equal(split_rows(dataset, 0.25, seed=1)[1].x, scored.x)
    assert not torch.equal(split_rows(dataset, 0.25, seed=2)[1].x, scored.x)


def test_validation_rows_are_taken_where_there_are_some() -> None:
    dataset = table("regression")
    dataset = replace(dataset, validation=Split(dataset.test.x[:9], dataset.test.y[:9]))
    kept, scored = split_rows(dataset, 0.25, seed=1)
    assert kept is dataset.train and scored is dataset.validation


def test_one_row_cannot_be_shared_out() -> None:
    dataset = table("regression")
    one = replace(dataset, train=Split(dataset.train.x[:1], dataset.train.y[:1]))
    with pytest.raises(ValueError, match=r"data must have 2 training rows at least, one of them to score, got 1"):
        split_rows(one, 0.25, seed=1)
