"""Mixture: an average over draws, held against closed forms."""

import math
from typing import Any

import pyro.distributions as dist
import pytest
import torch

from bnn_pyro.evaluation import NormalMixture
from bnn_pyro.likelihoods import Mixture
from bnn_pyro.likelihoods.target_metrics import real_metrics

MEAN = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
SD = torch.full_like(MEAN, 0.4) + MEAN.abs()
Y = torch.linspace(-1, 1, 5, dtype=torch.float64)


def normals(**options: Any) -> Mixture:
    return Mixture(dist.Normal(MEAN, SD), real_metrics, is_real=True, **options)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (3.0, 2.0)])
def test_of_normals_it_is_the_mixture_of_normals(shift: float, scale: float) -> None:
    found, y = normals(scale=scale, shift=shift), Y * scale + shift
    wanted = NormalMixture(MEAN, SD).scaled(mean=shift, std=scale)
    torch.testing.assert_close((found.mean, found.std), (wanted.mean, wanted.std))
    torch.testing.assert_close(found.log_prob(y), wanted.log_prob(y))
    assert found.scores(y)["nll"] == pytest.approx(-float(wanted.log_prob(y).mean()))
    assert found.scores(y)["rmse"] == pytest.approx(float((wanted.mean - y).square().mean().sqrt()))
    ends = found.interval(0.8)
    torch.testing.assert_close(torch.stack(ends), torch.stack(wanted.interval(0.8)), atol=0.3 * scale, rtol=0.1)
    torch.testing.assert_close(found.scaled(mean=shift, std=scale).mean, wanted.mean)


def test_it_has_as_many_samples_of_each_draw() -> None:
    far = Mixture(dist.Normal(torch.tensor([[0.0], [100.0]]), 1.0))
    samples = far.sample(10, seed=0)
    assert samples.shape == (10, 1) and int((samples > 50).sum()) == 5
    assert torch.equal(samples, far.sample(10, seed=0)) and not torch.equal(samples, far.sample(10, seed=1))
    state = torch.get_rng_state()
    far.quantile(0.5)
    assert torch.equal(state, torch.get_rng_state())


def test_numbers_of_several_targets_are_added_up() -> None:
    draws = dist.Normal(MEAN.reshape(1, 3, 5), 1.0).to_event(1)
    y = MEAN + 1
    found = Mixture(draws, real_metrics, is_real=True).scaled(std=2.0)
    wanted = dist.Normal(2 * MEAN, 2.0).log_prob(2 * y).sum(-1)
    torch.testing.assert_close(found.log_prob(2 * y), wanted)
    gap = y.clone()
    gap[0, 0] = math.nan
    assert found.quantile(torch.tensor([0.1, 0.5, 0.9])).shape == (3, 3, 5)


def test_what_has_no_unit_keeps_its_own() -> None:
    counts = Mixture(dist.Poisson(torch.ones(2, 4)))
    assert counts.scaled(mean=3.0, std=2.0) is counts
    assert counts.scores(torch.zeros(4)) == {"nll": pytest.approx(1.0)}
    assert counts.moments()[1].tolist() == [1.0] * 4


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"draws must have batch shape \(draws, rows\), got \(4,\)"):
        Mixture(dist.Poisson(torch.ones(4)))
    with pytest.raises(ValueError, match="scale must be positive"):
        normals(scale=0.0)
    with pytest.raises(ValueError, match=r"q must be in \(0, 1\), got 1"):
        normals().quantile(1.0)
    with pytest.raises(ValueError, match=r"level must be in \(0, 1\), got 0"):
        normals().interval(0.0)


def test_weights_weigh_the_rows_and_custom_metrics_have_to_take_them() -> None:
    weight = torch.tensor([1.0, 0.0, 2.0, 1.0, 3.0])
    twice = torch.arange(5).repeat_interleave(weight.long())
    repeated = Mixture(dist.Normal(MEAN[:, twice], SD[:, twice]), real_metrics, is_real=True)
    assert normals().scores(Y, weight=weight) == pytest.approx(repeated.scores(Y[twice]))
    custom = Mixture(dist.Normal(MEAN, SD), lambda mean, y: {"bias": float((mean - y).mean())})
    assert set(custom.scores(Y)) == {"bias", "nll"}
    with pytest.raises(
        ValueError, match=r"metrics must take \(mean, y, weight\) where rows have weights, got <lambda>"
    ):
        custom.scores(Y, weight=weight)
