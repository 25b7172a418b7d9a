"""Scores of expected targets, by hand."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bnn_pyro.likelihoods.target_metrics import class_map_metrics, count_metrics, label_metrics, real_metrics


def test_errors_of_real_numbers_leave_gaps_out() -> None:
    mean, y = torch.tensor([[1.0, 2.0], [3.0, 9.0]]), torch.tensor([[2.0, 2.0], [0.0, math.nan]])
    assert real_metrics(mean, y) == {"rmse": pytest.approx(math.sqrt(10 / 3)), "mae": pytest.approx(4 / 3)}


def test_the_deviance_of_counts() -> None:
    mean, y = torch.tensor([2.0, 0.5]), torch.tensor([3, 0])
    deviance = (2 * (3 * math.log(1.5) - 1) + 2 * 0.5) / 2
    assert count_metrics(mean, y) == {"rmse": pytest.approx(math.sqrt(0.625)), "deviance": pytest.approx(deviance)}


def test_labels_are_right_on_their_side_of_one_half() -> None:
    p, y = torch.tensor([[0.9, 0.2], [0.4, 0.7]]), torch.tensor([[1.0, 1.0], [0.0, math.nan]])
    found = label_metrics(p, y)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["brier"] == pytest.approx((0.01 + 0.64 + 0.16) / 3)
    assert 0 <= found["ece"] <= 1
    sure = label_metrics(torch.tensor([1.0, 0.0]), torch.tensor([1, 0]))
    assert sure == {"accuracy": 1.0, "brier": 0.0, "ece": pytest.approx(0.0, abs=1e-6)}


WEIGHT = torch.arange(40) % 3
TWICE = torch.arange(40).repeat_interleave(WEIGHT)
GENERATOR = torch.Generator().manual_seed(0)
LABELS = (torch.rand(40, 3, generator=GENERATOR) > 0.4).double()
LABELS[4:8, 1] = math.nan
MAP = torch.randint(-1, 4, (40, 5), generator=GENERATOR)


@pytest.mark.parametrize(
    ("metrics", "expected", "y"),
    [
        (real_metrics, torch.randn(40, 3, generator=GENERATOR, dtype=torch.float64), 3 * LABELS),
        (count_metrics, torch.rand(40, 3, generator=GENERATOR, dtype=torch.float64) + 0.1, 3 * LABELS),
        (label_metrics, torch.rand(40, 3, generator=GENERATOR, dtype=torch.float64), LABELS),
        (class_map_metrics, torch.randn(40, 4, 5, generator=GENERATOR).softmax(1), MAP),
    ],
)
def test_weighted_rows_are_repeated_rows(metrics: Callable[..., dict[str, float]], expected: Tensor, y: Tensor) -> None:
    found = metrics(expected, y, WEIGHT.double())
    assert found == pytest.approx(metrics(expected[TWICE], y[TWICE]), rel=1e-5, abs=1e-6)
    assert found != pytest.approx(metrics(expected, y), rel=1e-5, abs=1e-6)
