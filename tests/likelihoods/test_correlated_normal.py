"""CorrelatedNormal: draws and moments, and the marginal distribution of rows with gaps."""

import math

import pyro.distributions as dist
import torch

from bnn_pyro.likelihoods.correlated_normal import CorrelatedNormal
from bnn_pyro.likelihoods.noise_prior import cholesky_factor
from tests.likelihoods.test_noise_prior import K, latents

ROWS = 6
MEAN = torch.randn(ROWS, K, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
FACTOR = cholesky_factor(latents(1)[0], K)
COVARIANCE = FACTOR @ FACTOR.T


def test_draws_have_the_covariance() -> None:
    """20,000 draws: entries of the covariance within 5 standard errors, which are at most 1 % of its scale."""
    scale = COVARIANCE.diagonal().sqrt()
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        drawn = CorrelatedNormal(MEAN[0], FACTOR).expand(torch.Size([20_000])).sample() / scale
    torch.testing.assert_close(drawn.T.cov(), COVARIANCE / scale / scale.unsqueeze(1), rtol=0, atol=0.05)
    density = CorrelatedNormal(MEAN, FACTOR)
    torch.testing.assert_close(density.variance, COVARIANCE.diagonal().expand(ROWS, K))
    assert torch.equal(density.mean, MEAN)


def test_draws_have_gradients() -> None:
    factor = FACTOR.clone().requires_grad_()
    CorrelatedNormal(MEAN, factor).rsample(torch.Size([3])).sum().backward()
    assert factor.grad is not None and (factor.grad != 0).all()


def test_a_gap_is_left_out() -> None:
    """What is there has the marginal distribution; a row without targets adds nothing."""
    y = MEAN.roll(1, 0)
    y[0, 1:3] = y[1, 0] = y[2] = math.nan
    found = CorrelatedNormal(MEAN, FACTOR, missing=True).log_prob(y)
    for row, seen in ((0, [0, 3]), (1, [1, 2, 3]), (3, [0, 1, 2, 3])):
        marginal = dist.MultivariateNormal(MEAN[row, seen], COVARIANCE[seen][:, seen])
        torch.testing.assert_close(found[row], marginal.log_prob(y[row, seen]))
    assert found[2] == 0
    mean = MEAN.clone().requires_grad_()
    CorrelatedNormal(mean, FACTOR, missing=True).log_prob(y).sum().backward()
    assert mean.grad is not None and mean.grad.isfinite().all() and (mean.grad[2] == 0).all()
