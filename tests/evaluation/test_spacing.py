"""Evenly spaced numbers of rows."""

import torch

from bnn_pyro.evaluation.spacing import evenly_spaced


def test_some_of_many_have_both_ends_and_equal_gaps() -> None:
    assert evenly_spaced(101, 5).tolist() == [0, 25, 50, 75, 100]
    gaps = evenly_spaced(1_599, 256).diff()
    assert gaps.min() >= 6 and gaps.max() <= 7


def test_there_are_no_more_than_there_are() -> None:
    assert torch.equal(evenly_spaced(4, 9), torch.arange(4))
    assert evenly_spaced(0, 9).tolist() == []
