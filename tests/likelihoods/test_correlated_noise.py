"""CorrelatedNoise: a full covariance between targets, with gaps, fitted and sampled."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from bnn_pyro import SamplingPlan, fit, networks, sample
from bnn_pyro.inference.svi.schedule import LearningRates
from bnn_pyro.likelihoods import CorrelatedNoise, Mixture, MultiOutputNoise
from bnn_pyro.likelihoods.noise_prior import cholesky_factor
from bnn_pyro.network import SparseNetwork
from bnn_pyro.priors import Gaussian
from tests.likelihoods.test_noise_prior import latents

K, ROWS = 4, 6
F = torch.randn(ROWS, K, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = F.roll(1, 0)
LIKELIHOOD = CorrelatedNoise(K)


def test_density_is_that_of_a_multivariate_normal() -> None:
    latent = latents(3)
    factors = cholesky_factor(latent, K)
    torch.testing.assert_close(LIKELIHOOD.covariance(latent), factors @ factors.mT)
    outputs = torch.stack([F, F + 1, 2 * F])
    expected = torch.stack(
        [dist.MultivariateNormal(f, scale_tril=tril).log_prob(Y) for f, tril in zip(outputs, factors, strict=True)]
    )
    apart = torch.stack([LIKELIHOOD.distribution(f, s).log_prob(Y) for f, s in zip(outputs, latent, strict=True)])
    torch.testing.assert_close(apart, expected)
    torch.testing.assert_close(LIKELIHOOD.distribution(outputs, latent.unsqueeze(1)).log_prob(Y), expected)
    per_row = LIKELIHOOD.distribution(F[:3], latent).log_prob(Y[:3])
    torch.testing.assert_close(per_row, expected.new_tensor([apart_of(F[i], latent[i], Y[i]) for i in range(3)]))
    predicted = LIKELIHOOD.predict(outputs, latent)
    assert isinstance(predicted, Mixture)
    torch.testing.assert_close(predicted.log_prob(Y), expected.logsumexp(0) - math.log(3))
    scaled = predicted.scaled(mean=1.0, std=2.0)
    torch.testing.assert_close(scaled.log_prob(1 + 2 * Y), predicted.log_prob(Y) - K * math.log(2))


def apart_of(mean: Tensor, latent: Tensor, y: Tensor) -> float:
    return float(LIKELIHOOD.distribution(mean, latent).log_prob(y))


def test_without_correlations_it_is_independent_noise() -> None:
    scale = torch.tensor([0.1, 0.5, 1.0, 2.0], dtype=torch.float64)
    found = LIKELIHOOD.distribution(F, torch.cat([scale, torch.ones(6).double()])).log_prob(Y)
    torch.testing.assert_close(found, MultiOutputNoise(K).distribution(F, scale).log_prob(Y))
    one = LIKELIHOOD.distribution(F, torch.ones((), dtype=torch.float64))  # as dense training has it
    torch.testing.assert_close(one.log_prob(Y), dist.Normal(F, 1.0).log_prob(Y).sum(1))


@pytest.mark.parametrize("missing", [False, True])
def test_fits_find_the_covariance(missing: bool) -> None:
    """Of 2,000 rows of a linear net, whose noise has correlations of .8 and -.5, by variational inference."""
    wanted = torch.tensor([[1.0, 0.4, -0.5], [0.4, 0.25, -0.1], [-0.5, -0.1, 1.0]], dtype=torch.float64)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        x = torch.randn(2000, 2, dtype=torch.float64)
        noise = torch.randn(2000, 3, dtype=torch.float64) @ torch.linalg.cholesky(wanted).T
        y = torch.stack([x[:, 0], -x[:, 1], 0 * x[:, 0]], 1) + noise
        if missing:
            y = y.masked_fill(torch.rand(2000, 3) < 0.2, math.nan)
        net = nn.Linear(2, 3).double()
    likelihood = CorrelatedNoise(3, missing=missing)
    model = SparseNetwork(net, x[:2], prior=Gaussian(), likelihood=likelihood, num_data=2000)
    rates = LearningRates(slab_locs=0.02, slab_scales=0.02, scales=0.03)
    posterior = fit(model, (x, y), epochs=30, batch_size=100, rates=rates, seed=0)
    found = likelihood.covariance(posterior.median_values()["noise_scale"])
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.1)
    apart = SparseNetwork(net, x[:2], prior=Gaussian(), likelihood=MultiOutputNoise(3, missing=missing), num_data=2000)
    independent = fit(apart, (x, y), epochs=30, batch_size=100, rates=rates, seed=0)
    assert posterior.evaluate(x, y)["nll"] < independent.evaluate(x, y)["nll"] - 0.2


def test_chains_and_the_prior_of_pyro_have_one_site() -> None:
    net = networks.mlp(2, (3,), 2).double()
    x = F[:, :2]
    model = SparseNetwork(net, x[:2], prior=Gaussian(), likelihood=CorrelatedNoise(2), num_data=ROWS)
    plan = SamplingPlan(kernel="nuts", chains=1, warmup=5, draws=5)
    posterior = sample(model, (x, Y[:, :2]), plan, seed=0)
    assert posterior.draws.values["noise_scale"].shape == (1, 5, 3)
    with pyro.plate("draws", 5):
        assert CorrelatedNoise(2).prior(like=x).shape == (5, 3)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"targets": 1}, ValueError, "targets must be at least 2, got 1"),
        ({"targets": 2.5}, ValueError, "targets must be a whole number"),
        ({"targets": 2, "concentration": 0.0}, ValueError, "concentration must be positive and finite, got 0.0: it is"),
        ({"targets": 2, "prior_scale": math.nan}, ValueError, "prior_scale must be positive and finite"),
    ],
)
def test_bad_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        CorrelatedNoise(**options)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"output must have shape \(rows, 4\), got \(6, 3\)"):
        LIKELIHOOD.check(F[:, :3], Y)
    with pytest.raises(ValueError, match="y must be finite"):
        LIKELIHOOD.check(F, Y / 0)
    with pytest.raises(ValueError, match="latent must be given"):
        LIKELIHOOD.distribution(F)
