"""Scales: what is far from 1 is warned of, and what people usually have is not."""

import math

import pytest
import torch
from torch.nn.functional import one_hot

from bnn_pyro.evaluation.scale import largest_rms, mean_and_sd, scale_warnings


def test_by_hand() -> None:
    x = torch.tensor([[3.0, 0.0], [-4.0, 0.0]])
    assert largest_rms(x) == pytest.approx(math.sqrt(12.5))
    assert largest_rms(x.reshape(2, 1, 2)) == pytest.approx(math.sqrt(12.5))
    assert largest_rms(torch.zeros(3, 0)) == 0
    assert mean_and_sd(torch.tensor([1.0, 3.0])) == (2.0, 1.0)


@pytest.mark.parametrize(
    "x",
    [
        torch.rand(50, 1, 8, 8),
        torch.zeros(50, 64),
        one_hot(torch.arange(1000) % 500).float(),
        torch.randn(200, 3) * torch.tensor([1.0, 3.0, 1e-4]),
    ],
    ids=["pixels", "nothing", "rare one-hot columns", "standardised, roughly"],
)
def test_usual_inputs_are_not_warned_of(x: torch.Tensor) -> None:
    assert scale_warnings(largest_rms(x), None) == []


@pytest.mark.parametrize("x", [255 * torch.rand(50, 64), 2000 + torch.randn(50, 1), 1e-4 * torch.randn(50, 3)])
def test_inputs_far_from_unit_scale(x: torch.Tensor) -> None:
    (warning,) = scale_warnings(largest_rms(x), None)
    assert "inputs are far from unit scale" in warning and "standardise each column" in warning


@pytest.mark.parametrize(
    ("target", "warns"),
    [
        ((0.0, 1.0), False),
        ((3.0, 5.0), False),
        ((5.0, 0.0), False),  # a constant cannot be standardised
        ((200_000.0, 80_000.0), True),
        ((1000.0, 1.0), True),
        ((0.0, 0.05), True),
    ],
)
def test_targets(target: tuple[float, float], warns: bool) -> None:
    found = scale_warnings(None, target)
    assert bool(found) == warns
    assert all("targets are far from unit scale" in warning and "standardise them" in warning for warning in found)
