"""NoisePrior: LKJ correlations and half-Cauchy scales in one vector, and the factor that it makes."""

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.distributions.transforms import CorrCholeskyTransform

from bnn_pyro.likelihoods.noise_prior import NoisePrior, cholesky_factor

K = 4


def latents(count: int, targets: int = K, concentration: float = 1.0) -> Tensor:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        scale = torch.ones(targets, dtype=torch.float64)
        return NoisePrior(scale, concentration).sample(torch.Size([count]))


def test_factor_is_that_of_torch() -> None:
    """Partial correlations make the factor as torch's transform does, which takes their inverse hyperbolic tangents."""
    latent = latents(50)
    scales, odds = latent[:, :K], latent[:, K:]
    expected = scales.unsqueeze(-1) * CorrCholeskyTransform()(odds.log() / 2)
    torch.testing.assert_close(cholesky_factor(latent, K), expected)
    torch.testing.assert_close(cholesky_factor(torch.ones(10, dtype=torch.float64), K), torch.eye(K).double())


@pytest.mark.parametrize("targets", [2, 3, 5])
@pytest.mark.parametrize("concentration", [0.7, 1.0, 3.0])
def test_prior_is_lkj_and_half_cauchy(targets: int, concentration: float) -> None:
    latent = latents(30, targets, concentration)
    scales, odds = latent[:, :targets], latent[:, targets:]
    transform, unconstrained = CorrCholeskyTransform(), odds.log() / 2
    factor = transform(unconstrained)
    lkj = dist.LKJCholesky(targets, torch.tensor(concentration, dtype=torch.float64)).log_prob(factor)
    jacobian = transform.log_abs_det_jacobian(unconstrained, factor) - (2 * odds).log().sum(-1)
    half_cauchy = dist.HalfCauchy(2.0).log_prob(scales).sum(-1)
    found = NoisePrior(torch.full((targets,), 2.0, dtype=torch.float64), concentration).log_prob(latent)
    torch.testing.assert_close(found, lkj + jacobian + half_cauchy)


def test_draws_of_the_prior_have_its_moments() -> None:
    """Correlations of a uniform prior over K = 4 have the variance 1 / (K + 1); 4,000 draws, each within 5 errors."""
    factor = cholesky_factor(latents(4000), K)
    covariance = factor @ factor.mT
    deviation = covariance.diagonal(dim1=1, dim2=2).sqrt()
    correlation = covariance / (deviation.unsqueeze(1) * deviation.unsqueeze(2))
    row, column = torch.tril_indices(K, K, -1)
    below = correlation[:, row, column]
    torch.testing.assert_close(below.square().mean(0), torch.full((6,), 0.2).double(), rtol=0, atol=0.02)
    torch.testing.assert_close(below.mean(0), torch.zeros(6).double(), rtol=0, atol=0.04)
    assert deviation.median(0).values.log().abs().max() < 0.15  # the scales' medians are 1
