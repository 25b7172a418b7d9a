"""Moments: of the draws that count, and what is left of the scales before."""

import torch

from bnn_pyro.inference.mcmc.running_moments import Moments
from tests.models import DOUBLE

SCALE = torch.tensor([0.1, 3.0, 1.0], dtype=DOUBLE)


def test_moments_are_those_of_the_draws_that_count() -> None:
    values = torch.randn(6, 4, 3, dtype=DOUBLE) + 5
    counts = torch.rand(6, 4, 3) < 0.6
    counts[..., 1] = False
    moments = Moments(SCALE)
    for value, count in zip(values, counts, strict=True):
        moments.add(value, count)
    for column in (0, 2):
        chosen = values[..., column][counts[..., column]]
        assert moments.count[column] == len(chosen)
        torch.testing.assert_close(moments.mean[column], chosen.mean())
        torch.testing.assert_close(moments.squares[column], (chosen - chosen.mean()).square().sum())
    assert moments.count[1] == moments.mean[1] == moments.squares[1] == 0


def test_scales_count_as_five_draws() -> None:
    moments = Moments(SCALE)
    assert torch.equal(moments.scale(SCALE), SCALE)
    moments.add(torch.tensor([[-2.0, 0.0, 1.0], [2.0, 0.0, 1.0]], dtype=DOUBLE), torch.ones(2, 3, dtype=torch.bool))
    squares = torch.tensor([8.0, 0.0, 0.0], dtype=DOUBLE)
    torch.testing.assert_close(moments.scale(SCALE), ((squares + 5 * SCALE.square()) / 7).sqrt())
