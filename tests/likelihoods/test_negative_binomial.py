"""NegativeBinomial: mean, variance, its limit, its dispersion."""

import math

import pytest
import torch
from pyro import poutine

from bnn_pyro.likelihoods import NegativeBinomial, Poisson

F = torch.linspace(-2, 2, 5, dtype=torch.float64).unsqueeze(1)
Y = torch.tensor([0, 1, 0, 3, 9])


def test_density() -> None:
    d = torch.tensor(0.7, dtype=torch.float64)
    m, y, r = F[:, 0].exp(), Y.double(), 1 / d
    wanted = torch.lgamma(y + r) - torch.lgamma(y + 1) - torch.lgamma(r)
    wanted = wanted + y * (d * m / (1 + d * m)).log() - r * torch.log1p(d * m)
    found = NegativeBinomial().distribution(F, d)
    torch.testing.assert_close(found.log_prob(Y), wanted)
    torch.testing.assert_close((found.mean, found.variance), (m, m + d * m**2))


def test_without_dispersion_it_is_a_poisson() -> None:
    found = NegativeBinomial().distribution(F, torch.tensor(1e-7, dtype=torch.float64)).log_prob(Y)
    torch.testing.assert_close(found, Poisson().distribution(F).log_prob(Y), rtol=1e-4, atol=1e-4)
    assert NegativeBinomial().distribution(F, torch.zeros((), dtype=torch.float64)).log_prob(Y).isfinite().all()


def test_the_dispersion_is_a_site_and_one_per_draw() -> None:
    trace = poutine.trace(NegativeBinomial(prior_scale=2.0).prior).get_trace(like=F)
    assert trace.stochastic_nodes == ["dispersion"] and NegativeBinomial().prior(like=F).dtype == torch.float64
    dispersions = torch.tensor([0.1, 2.0], dtype=torch.float64)
    found = NegativeBinomial().predict(torch.stack([F, F]), dispersions)
    each = [NegativeBinomial().distribution(F, d).log_prob(Y) for d in dispersions]
    torch.testing.assert_close(found.log_prob(Y), torch.stack(each).logsumexp(0) - math.log(2))


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="prior_scale must be positive and finite, got -1"):
        NegativeBinomial(prior_scale=-1.0)
    with pytest.raises(ValueError, match="latent must be given, got None: .* dispersion"):
        NegativeBinomial().distribution(F)
    with pytest.raises(ValueError, match="y must hold counts"):
        NegativeBinomial().check(F, Y - 0.5)
