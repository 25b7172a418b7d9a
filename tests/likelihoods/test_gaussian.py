"""GaussianNoise: its density, its learned noise."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, TraceMeanField_ELBO

from bnn_pyro.likelihoods import GaussianNoise, Normals
from tests.likelihoods.targets import ROWS, normal_log_density, output_of, targets_of


@pytest.mark.parametrize("shape", [(ROWS, 1), (ROWS,)])
def test_known_noise_density(shape: tuple[int, ...]) -> None:
    output, y = output_of(1), targets_of(1)
    expected = normal_log_density(y, output[:, 0], torch.tensor(0.3, dtype=torch.float64))
    torch.testing.assert_close(GaussianNoise(0.3).distribution(output.reshape(shape)).log_prob(y), expected)


def test_learned_noise_density_uses_the_latent() -> None:
    output, y, latent = output_of(1), targets_of(1), torch.tensor(0.7, dtype=torch.float64)
    expected = normal_log_density(y, output[:, 0], latent)
    torch.testing.assert_close(GaussianNoise().distribution(output, latent).log_prob(y), expected)


def test_known_scale_of_squared_error_is_the_root_of_a_half() -> None:
    output, y = output_of(1), targets_of(1)
    density = GaussianNoise(math.sqrt(0.5)).distribution(output)
    loss = density.log_prob(output[:, 0]) - density.log_prob(y)
    torch.testing.assert_close(loss, (y - output[:, 0]) ** 2)


def test_learned_noise_prior_is_half_cauchy_with_the_median_asked_for() -> None:
    trace = poutine.trace(GaussianNoise(prior_scale=3.0).prior).get_trace(like=output_of(1))
    prior: Any = trace.nodes["noise_scale"]["fn"]
    x = torch.tensor(1.7, dtype=torch.float64)
    expected = math.log(2 / (math.pi * 3.0 * (1 + (1.7 / 3.0) ** 2)))
    assert prior.log_prob(x).item() == pytest.approx(expected, rel=1e-12)
    assert prior.cdf(torch.tensor(3.0, dtype=torch.float64)).item() == pytest.approx(0.5)


def test_prior_follows_torch_defaults_without_an_example() -> None:
    noise = GaussianNoise().prior()
    assert noise is not None and noise.dtype == torch.get_default_dtype() and noise > 0


def test_learned_noise_is_found_by_variational_inference() -> None:
    """The posterior of the noise of 4,000 residuals has a relative sd of 1.1 %: an error of 8 % is seven of them."""
    mean = torch.zeros(4000, 1, dtype=torch.float64)
    y = 0.05 * torch.randn(4000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    likelihood = GaussianNoise()

    def model() -> None:
        latent = likelihood.prior(like=mean)
        with pyro.plate("data", 4000):
            pyro.sample("y", likelihood.distribution(mean, latent), obs=y)

    def guide() -> None:
        loc = pyro.param("loc", torch.zeros((), dtype=torch.float64))
        scale = pyro.param("scale", torch.tensor(0.1, dtype=torch.float64), constraint=dist.constraints.positive)
        pyro.sample("noise_scale", dist.LogNormal(loc, scale))

    svi = SVI(model, guide, pyro.optim.ClippedAdam({"lr": 0.1, "lrd": 0.99}), TraceMeanField_ELBO())
    for _ in range(300):
        svi.step()
    assert pyro.param("loc").exp().item() == pytest.approx(0.05, rel=0.08)


def test_known_noise_is_the_same_in_all_draws() -> None:
    draws = torch.stack([output_of(1), -output_of(1)])
    prediction = GaussianNoise(0.3).predict(draws)
    assert isinstance(prediction, Normals)
    torch.testing.assert_close(prediction.mean, draws[..., 0])
    torch.testing.assert_close(prediction.sd, torch.full((2, ROWS), 0.3, dtype=torch.float64))
    torch.testing.assert_close(GaussianNoise(0.3).predict(draws[..., 0]), prediction)


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_learned_noise_goes_with_its_draw(shape: tuple[int, ...]) -> None:
    draws, latent = torch.stack([output_of(1), -output_of(1)]), torch.tensor([0.5, 2.0], dtype=torch.float64)
    sd = GaussianNoise().predict(draws, latent.reshape(shape)).sd
    torch.testing.assert_close(sd, torch.stack([torch.full_like(sd[0], 0.5), torch.full_like(sd[0], 2.0)]))


def test_one_learned_noise_may_serve_all_draws() -> None:
    sd = GaussianNoise().predict(output_of(1).expand(3, -1, -1), torch.tensor(0.5)).sd
    torch.testing.assert_close(sd, torch.full((3, ROWS), 0.5, dtype=torch.float64))


def test_a_learned_noise_needs_its_latent() -> None:
    with pytest.raises(ValueError, match="latent must be given"):
        GaussianNoise().distribution(output_of(1))
    with pytest.raises(ValueError, match="latent must be given"):
        GaussianNoise().predict(output_of(1).unsqueeze(0))
    with pytest.raises(ValueError, match="one noise_scale for each of the 3 draws"):
        GaussianNoise().predict(output_of(1).expand(3, -1, -1), torch.ones(2))
