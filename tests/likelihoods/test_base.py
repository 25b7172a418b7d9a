"""What holds for every likelihood."""

import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from bnn_pyro.likelihoods import Classes, GaussianNoise, Likelihood, Normals
from bnn_pyro.likelihoods.base import latent_site
from tests.likelihoods.targets import ROWS, every_likelihood, output_of, targets_of


# one face
@every_likelihood
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_follows_the_output(likelihood: Likelihood, columns: int, dtype: torch.dtype) -> None:
    output, y = output_of(columns, dtype), targets_of(columns, dtype)
    latent = likelihood.prior(like=output)
    density = likelihood.distribution(output, latent)
    assert density.batch_shape == (ROWS,)
    assert density.log_prob(y).dtype == dtype
    draws = None if latent is None else latent.expand(3)
    predicted = likelihood.predict(output.expand(3, -1, -1), draws)
    assert isinstance(predicted, Classes | Normals) and {value.dtype for value in predicted} == {dtype}


@every_likelihood
def test_only_a_learned_noise_is_a_site(likelihood: Likelihood, columns: int) -> None:
    sites = set(poutine.trace(likelihood.prior).get_trace().stochastic_nodes)
    assert sites == ({"noise_scale"} if likelihood == GaussianNoise() else set())


@every_likelihood
def test_outputs_with_a_dimension_of_draws_broadcast(likelihood: Likelihood, columns: int) -> None:
    draws = torch.stack([output_of(columns), 2 * output_of(columns)])
    latent = torch.tensor([0.5, 2.0], dtype=torch.float64)
    together = likelihood.distribution(draws, latent.unsqueeze(1)).log_prob(targets_of(columns))
    apart = [likelihood.distribution(o, s).log_prob(targets_of(columns)) for o, s in zip(draws, latent, strict=True)]
    torch.testing.assert_close(together, torch.stack(apart))


@every_likelihood
def test_distribution_and_density_never_wait_for_the_device(likelihood: Likelihood, columns: int) -> None:
    """A fake tensor has no values, so whatever would read one raises; Pyro's validation is on and does not matter."""
    with pyro.validation_enabled(True), FakeTensorMode():
        output, y = torch.empty(ROWS, columns), torch.empty(ROWS, dtype=torch.long if columns > 2 else torch.float)
        density = (
            likelihood.distribution(output, likelihood.prior(like=output)).expand((ROWS,)).mask(torch.ones(()) > 0)
        )
        assert density.log_prob(y).shape == (ROWS,)


@every_likelihood
def test_works_in_a_pyro_model_with_a_subsampling_plate(likelihood: Likelihood, columns: int) -> None:
    output, y = output_of(columns), targets_of(columns)

    def model(targets: Tensor | None = None) -> Tensor:
        latent = likelihood.prior(like=output)
        with pyro.plate("data", ROWS, subsample_size=3) as rows:
            obs = None if targets is None else targets[rows]
            value: Tensor = pyro.sample("y", likelihood.distribution(output[rows], latent), obs=obs)
        return value

    sample = model()
    likelihood.check(output[:3], sample)
    trace = poutine.trace(model).get_trace(y)
    trace.compute_log_prob()
    rows, site = trace.nodes["data"]["value"], trace.nodes["y"]
    latent = trace.nodes["noise_scale"]["value"] if "noise_scale" in trace.nodes else None
    assert site["scale"] == pytest.approx(ROWS / 3)
    by_hand = likelihood.distribution(output, latent).log_prob(y)[rows]
    torch.testing.assert_close(site["unscaled_log_prob"], by_hand)


def test_the_site_of_a_latent_is_found() -> None:
    assert latent_site(GaussianNoise()) == "noise_scale" and latent_site(GaussianNoise(0.3)) is None

    class Two(GaussianNoise):
        def prior(self, *, like: Tensor | None = None) -> Tensor:
            half_cauchy = pyro.distributions.HalfCauchy(1.0)
            both: Tensor = pyro.sample("a", half_cauchy) + pyro.sample("b", half_cauchy)
            return both

    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="likelihood must sample one latent at most, got a, b"):
        latent_site(Two())
    assert torch.equal(state, torch.get_rng_state())
