"""MeanDependentNoise: its density, its limits, and that both scales are found."""

import math
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine

from bnn_pyro import Gaussian, LearningRates, SparseNetwork, fit, sample, train_dense
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.likelihoods import NOISE_SITE, GaussianNoise, MeanDependentNoise, Normals
from bnn_pyro.networks import mlp
from tests.likelihoods.targets import ROWS, normal_log_density, output_of, targets_of

SCALES = torch.tensor([0.2, 0.8], dtype=torch.float64)


@pytest.mark.parametrize("shape", [(ROWS, 1), (ROWS,)])
def test_density_has_the_scales_at_minus_one_and_one(shape: tuple[int, ...]) -> None:
    output, y = output_of(1), targets_of(1)
    expected = normal_log_density(y, output[:, 0], 0.4 * 2 ** output[:, 0])  # .2 at -1, .8 at 1, geometric between
    found = MeanDependentNoise().distribution(output.reshape(shape), SCALES).log_prob(y)
    torch.testing.assert_close(found, expected)


def test_equal_scales_are_a_constant_noise() -> None:
    output, y = output_of(1), targets_of(1)
    constant = GaussianNoise(0.3).distribution(output).log_prob(y)
    same = torch.tensor([0.3, 0.3], dtype=torch.float64)
    for scales in (same, same[0]):
        torch.testing.assert_close(MeanDependentNoise().distribution(output, scales).log_prob(y), constant)


def test_far_from_the_data_the_noise_stays_as_it_is_at_three() -> None:
    output = torch.tensor([[3.0], [300.0], [-3.0], [-300.0]], dtype=torch.float64)
    found = MeanDependentNoise().distribution(output, SCALES).stddev
    torch.testing.assert_close(found, torch.tensor([3.2, 3.2, 0.05, 0.05], dtype=torch.float64))


def test_prior_is_a_half_cauchy_of_each_scale() -> None:
    trace = poutine.trace(MeanDependentNoise(3.0).prior).get_trace(like=output_of(1))
    site: Any = trace.nodes[NOISE_SITE]
    assert site["value"].shape == (2,) and site["value"].dtype == torch.float64
    x = torch.tensor([1.7, 0.4], dtype=torch.float64)
    expected = sum(math.log(2 / (math.pi * 3.0 * (1 + (float(value) / 3.0) ** 2))) for value in x)
    assert site["fn"].log_prob(x).item() == pytest.approx(expected, rel=1e-12)


def test_draws_have_scales_of_their_own() -> None:
    draws = torch.stack([output_of(1), -output_of(1)])
    latent = torch.stack([SCALES, SCALES.flip(0)])
    prediction = MeanDependentNoise().predict(draws, latent)
    assert isinstance(prediction, Normals)
    for number in range(2):
        density = MeanDependentNoise().distribution(draws[number], latent[number])
        torch.testing.assert_close(prediction.mean[number], density.mean)
        torch.testing.assert_close(prediction.sd[number], density.stddev)
    for one in (SCALES, SCALES[None]):
        torch.testing.assert_close(MeanDependentNoise().predict(draws[..., 0], one).sd[0], prediction.sd[0])


def test_what_does_not_fit_is_refused() -> None:
    noise = MeanDependentNoise()
    with pytest.raises(ValueError, match=r"output must have shape \(rows, 1\) or \(rows,\), got \(7, 2\)"):
        noise.check(output_of(2))
    with pytest.raises(ValueError, match=r"latent must hold two scales for each of the 3 draws, .* got shape \(3,\)"):
        noise.predict(output_of(1).expand(3, -1, -1), torch.ones(3))
    with pytest.raises(ValueError, match="latent must be given"):
        noise.predict(output_of(1)[None])
    with pytest.raises(ValueError, match="prior_scale must be positive and finite, got 0"):
        MeanDependentNoise(0.0)


def line(rows: int = 600) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows of a line whose noise is .1 at -1 and .4 at 1."""
    generator = torch.Generator().manual_seed(2)
    x = 2 * torch.rand(rows, 1, generator=generator) - 1
    noise = MeanDependentNoise().distribution(x, torch.tensor([0.1, 0.4])).stddev
    return x, x[:, 0] + noise * torch.randn(rows, generator=generator)


def model_of(x: torch.Tensor) -> SparseNetwork:
    pyro.set_rng_seed(0)
    return SparseNetwork(mlp(1, (), 1), x[:2], prior=Gaussian(), likelihood=MeanDependentNoise(), num_data=len(x))


def test_a_dense_network_is_trained_with_it() -> None:
    x, y = line()
    dense = train_dense(mlp(1, (), 1), (x, y), likelihood=MeanDependentNoise(), epochs=40, learning_rate=0.03, seed=0)
    assert dense.get_parameter("output.weight").item() == pytest.approx(1.0, abs=0.1)


def test_both_scales_are_found_by_variational_inference_and_by_sampling() -> None:
    """Of 600 rows a scale is known to about 7 %."""
    x, y = line()
    rates = LearningRates(slab_locs=0.03, slab_scales=0.03, scales=0.03)
    fitted = fit(model_of(x), (x, y), epochs=60, batch_size=100, rates=rates, progress=False)
    plan = SamplingPlan(kernel="mclmc", chains=4, warmup=400, draws=100, thinning=5)
    sampled = sample(model_of(x), (x, y), plan, seed=0, progress=False)
    for scales in (fitted.median_values()[NOISE_SITE], sampled.draws.values[NOISE_SITE].mean((0, 1))):
        assert scales.tolist() == pytest.approx([0.1, 0.4], rel=0.25)
    for posterior in (fitted, sampled):
        found = posterior.evaluate(x, y)
        assert found["nll"] == pytest.approx(0.5 * math.log(2 * math.pi * math.e) + math.log(0.2), abs=0.1)
