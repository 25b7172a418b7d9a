"""Whether the noise follows the prediction, by the errors of held-out rows."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from bnn_pyro.recipes.noise_trial import NoiseTrial, try_noise


def rows(slope: float, count: int = 400, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return predictions and targets whose noise has a log standard deviation of this slope in the prediction."""
    generator = torch.Generator().manual_seed(seed)
    mean = 3 + 2 * torch.randn(count, generator=generator, dtype=torch.float64)
    z = (mean - mean.mean()) / mean.std()
    return mean, mean + 0.2 * (slope * z).exp() * torch.randn(count, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("slope", [-0.8, 0.8])
def test_the_gain_is_that_of_the_true_densities(slope: float) -> None:
    mean, y = rows(slope, 4000)
    z = (mean - mean.mean()) / mean.std()
    varying = Normal(mean, 0.2 * (slope * z).exp()).log_prob(y)
    constant = Normal(mean, (y - mean).square().mean().sqrt()).log_prob(y)
    trial = try_noise(mean, y)
    assert trial.gain == pytest.approx(float((varying - constant).mean()), abs=0.01)
    assert trial.gain_error == pytest.approx(float((varying - constant).std()) / math.sqrt(4000), rel=0.1)
    assert trial.noise == "mean" and trial.rows == 4000


def test_a_constant_noise_is_taken_for_one() -> None:
    """Of 40 tables with a constant noise few are taken for others: a gain is asked that is above its error."""
    found = [try_noise(*rows(0.0, 60, seed)).noise == "mean" for seed in range(40)]
    assert sum(found) <= 2


def test_units_do_not_matter() -> None:
    mean, y = rows(0.5)
    first, second = try_noise(mean, y), try_noise(1000 * mean - 7, 1000 * y - 7)
    assert first.gain == pytest.approx(second.gain, abs=1e-6)
    assert try_noise(mean.float(), y.float()).gain == pytest.approx(first.gain, abs=1e-4)


def test_where_there_is_nothing_to_see_the_noise_is_constant() -> None:
    mean, y = rows(0.5, 20)
    for nothing in (try_noise(torch.ones_like(y), y), try_noise(mean, mean)):
        assert nothing == NoiseTrial(0.0, 0.0, 20) and nothing.noise == "constant"
    exact = torch.where(torch.arange(20) == 3, y, mean)  # one error only
    assert math.isfinite(try_noise(mean, exact).gain)


@pytest.mark.parametrize("shapes", [((9,), (9,)), ((20,), (19,)), ((20, 1), (20, 1))])
def test_shapes_are_checked(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"mean and y must have one shape \(rows,\) with at least 10 rows, got"):
        try_noise(torch.zeros(shapes[0]), torch.ones(shapes[1]))


@pytest.mark.parametrize(
    ("gain", "expected"), [(0.21, "mean"), (0.2, "constant"), (-0.3, "constant"), (math.nan, "constant")]
)
def test_what_is_chosen(gain: float, expected: str) -> None:
    trial = NoiseTrial(gain, 0.1, 20)
    assert trial.noise == trial.record()["noise"] == expected and trial.record()["gain_error"] == 0.1
