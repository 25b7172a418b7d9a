"""When chains stop."""

import math
from typing import Any

import pytest
import torch

from bnn_pyro.inference.mcmc.stopping import StoppingRule


def test_median_and_tail_both_count() -> None:
    rule = StoppingRule(median=1.05, tail=1.2)
    assert rule.is_met(torch.full((100,), 1.04))
    assert not rule.is_met(torch.full((100,), 1.06))
    assert rule.is_met(torch.tensor([1.0] * 97 + [9.0] * 3))
    assert not rule.is_met(torch.tensor([1.0] * 90 + [9.0] * 10))


def test_what_no_draw_differs_in_does_not_count() -> None:
    assert not StoppingRule().is_met(torch.tensor([math.nan]))
    assert not StoppingRule().is_met(torch.tensor([math.inf, 1.0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"median": 1.0}, "median must be above 1"),
        ({"tail": math.nan}, "tail must be above 1"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"seconds": 0.0}, "seconds must be positive and finite, or None, got 0"),
        ({"seconds": math.inf}, "seconds must be positive and finite"),
    ],
    ids=str,
)
def test_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StoppingRule(**options)
