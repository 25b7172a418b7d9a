"""A likelihood's own latent as a parameter."""

import math

import pytest
import torch
import torch.distributions as dist

from bnn_pyro.inference.sgmcmc.likelihood_latent import Latent
from bnn_pyro.likelihoods import Categorical, GaussianNoise

DOUBLE = torch.float64


def test_likelihoods_without_a_latent() -> None:
    for likelihood in (Categorical(), GaussianNoise(0.3)):
        assert Latent.of(likelihood, torch.ones(2)) is None


def test_starts_at_one_and_like_the_data() -> None:
    latent = Latent.of(GaussianNoise(prior_scale=0.5), torch.ones(2, dtype=DOUBLE))
    assert latent is not None
    assert latent.value().item() == pytest.approx(1.0) and latent.value().dtype == DOUBLE
    assert latent.unconstrained.requires_grad and latent.unconstrained.shape == ()


def test_log_prior_is_a_density_of_the_unconstrained_coordinate() -> None:
    """It integrates to one, and is the half-Cauchy's at the value times its derivative."""
    latent = Latent.of(GaussianNoise(prior_scale=0.5), torch.ones(2, dtype=DOUBLE))
    assert latent is not None
    total, step = 0.0, 0.02
    for number in range(-1500, 1500):
        latent.unconstrained.data.fill_(number * step)
        total += step * math.exp(latent.log_prior().item())
    assert total == pytest.approx(1.0, abs=1e-3)
    latent.unconstrained.data.fill_(math.log(0.7))
    expected = dist.HalfCauchy(0.5).log_prob(torch.tensor(0.7)).item() + math.log(0.7)
    assert latent.log_prior().item() == pytest.approx(expected, abs=1e-6)
