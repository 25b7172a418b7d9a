"""Quantiles of mixtures of normals."""

import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from bnn_pyro.estimators.mixture_quantiles import mixture_quantiles
from tests.models import DOUBLE

LEVELS = torch.tensor([0.001, 0.05, 0.5, 0.9, 0.999], dtype=DOUBLE)


def test_of_a_single_normal_they_are_its_own() -> None:
    mean, sd = torch.tensor([[-3.0, 1e4]], dtype=DOUBLE), torch.tensor([[0.01, 50.0]], dtype=DOUBLE)
    found = mixture_quantiles(mean, sd, LEVELS)
    expected = Normal(mean[0].unsqueeze(-1), sd[0].unsqueeze(-1)).icdf(LEVELS)
    assert found.shape == (2, 5)
    assert torch.allclose(found, expected, rtol=1e-12)


def test_of_a_mixture_they_have_its_distribution_function() -> None:
    mean, sd = 3 * torch.randn(7, 4, dtype=DOUBLE), torch.rand(7, 4, dtype=DOUBLE) + 0.05
    found = mixture_quantiles(mean, sd, LEVELS)
    mixture = MixtureSameFamily(Categorical(torch.ones(4, 7, dtype=DOUBLE)), Normal(mean.T, sd.T))
    for level, quantile in zip(LEVELS, found.T, strict=True):
        assert torch.allclose(mixture.cdf(quantile), level.expand(4), atol=1e-12)
