"""MultiOutputNoise: vectors and maps of targets, a noise for each or one for all, with gaps."""

import math
from typing import Any

import pyro.distributions as dist
import pytest
import torch

from bnn_pyro.likelihoods import MultiOutputNoise

F = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = F.roll(1, 0)
SCALE = torch.tensor([0.1, 0.5, 1.0, 2.0], dtype=torch.float64)


def test_each_target_has_its_noise() -> None:
    wanted = dist.Normal(F, SCALE).log_prob(Y)
    torch.testing.assert_close(MultiOutputNoise(4).distribution(F, SCALE).log_prob(Y), wanted.sum(1))
    noise = MultiOutputNoise(4).prior(like=F)
    assert noise.shape == (4,) and noise.dtype == torch.float64


def test_a_map_of_targets_shares_one_noise() -> None:
    likelihood, y = MultiOutputNoise((2, 2), shared=True), Y.reshape(6, 2, 2)
    scale = torch.full((1, 1), 0.5, dtype=torch.float64)
    assert likelihood.prior(like=F).shape == (1, 1)
    wanted = dist.Normal(F, 0.5).log_prob(Y).sum(1)
    for output in (F, F.reshape(6, 2, 2)):  # a vector is taken in its order
        likelihood.check(output, y)
        torch.testing.assert_close(likelihood.distribution(output, scale).log_prob(y), wanted)


def test_a_shape_may_begin_with_ones() -> None:
    likelihood, f, y = MultiOutputNoise((1, 4)), F.unsqueeze(1), Y.unsqueeze(1)
    for output in (F, f):
        found = likelihood.distribution(output, SCALE.unsqueeze(0))
        torch.testing.assert_close(found.log_prob(y), dist.Normal(F, SCALE).log_prob(Y).sum(1))


@pytest.mark.parametrize("shared", [False, True])
def test_each_draw_has_its_noise(shared: bool) -> None:
    likelihood = MultiOutputNoise(4, shared=shared)
    scales = torch.stack([likelihood.prior(like=F) for _ in range(3)])
    outputs = torch.stack([F, F + 1, 2 * F])
    found = likelihood.predict(outputs, scales)
    each = [dist.Normal(output, scale).log_prob(Y).sum(1) for output, scale in zip(outputs, scales, strict=True)]
    torch.testing.assert_close(found.log_prob(Y), torch.stack(each).logsumexp(0) - math.log(3))
    assert found.mean.shape == found.std.shape == (6, 4)


def test_a_gap_is_left_out() -> None:
    y = Y.clone()
    y[0, 1:] = math.nan
    likelihood = MultiOutputNoise(4, missing=True)
    likelihood.check(F, y)
    found = likelihood.distribution(F, SCALE).log_prob(y)
    torch.testing.assert_close(found[0], dist.Normal(F[0, 0], SCALE[0]).log_prob(Y[0, 0]))
    scored = likelihood.predict(F.unsqueeze(0), SCALE.unsqueeze(0)).scaled(std=2.0)
    torch.testing.assert_close(scored.log_prob(2 * y)[0], found[0] - math.log(2))


@pytest.mark.parametrize(
    ("options", "y", "message"),
    [
        ({"shape": 3}, Y, r"output must have shape \(rows, 3\), got \(6, 4\)"),
        ({"shape": 4}, Y[:, :2], r"y must have shape \(6, 4\), as the outputs, and a row, got \(6, 2\)"),
        ({"shape": 4}, Y.long(), "y must hold real targets"),
        ({"shape": 4}, Y * math.nan, "y must be finite"),
    ],
)
def test_bad_input(options: dict[str, Any], y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiOutputNoise(**options).check(F, y)


@pytest.mark.parametrize("shape", [0, (), (2, 0)])
def test_there_is_a_target(shape: Any) -> None:
    with pytest.raises(ValueError, match="shape must have a dimension, and none below 1"):
        MultiOutputNoise(shape)
