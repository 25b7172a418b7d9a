"""Likelihoods: densities by hand, use in a Pyro model, bad input."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from bnn_pyro.likelihoods import (
    Categorical,
    Classes,
    GaussianNoise,
    HeteroscedasticNoise,
    Likelihood,
    Normals,
    default_likelihood,
)

ROWS = 7
CASES: dict[str, tuple[Likelihood, int]] = {
    "categorical": (Categorical(), 4),
    "known noise": (GaussianNoise(0.3), 1),
    "learned noise": (GaussianNoise(), 1),
    "heteroscedastic noise": (HeteroscedasticNoise(), 2),
}
every_likelihood = pytest.mark.parametrize(("likelihood", "columns"), CASES.values(), ids=CASES.keys())


def output_of(columns: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(ROWS, columns, dtype=dtype, generator=torch.Generator().manual_seed(columns))


def targets_of(columns: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return targets that fit an output of so many columns."""
    return torch.arange(ROWS) % columns if columns > 2 else torch.linspace(-1, 1, ROWS, dtype=dtype)


def normal_log_density(y: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
    return -0.5 * ((y - mean) / sd) ** 2 - sd.log() - 0.5 * math.log(2 * math.pi)


# densities


def test_categorical_density_is_log_softmax_at_the_label() -> None:
    output, y = output_of(4), targets_of(4)
    expected = output[range(ROWS), y] - output.exp().sum(1).log()
    torch.testing.assert_close(Categorical().distribution(output).log_prob(y), expected)


@pytest.mark.parametrize("shape", [(ROWS, 1), (ROWS,)])
def test_known_noise_density(shape: tuple[int, ...]) -> None:
    output, y = output_of(1), targets_of(1)
    expected = normal_log_density(y, output[:, 0], torch.tensor(0.3, dtype=torch.float64))
    torch.testing.assert_close(GaussianNoise(0.3).distribution(output.reshape(shape)).log_prob(y), expected)


def test_learned_noise_density_uses_the_latent() -> None:
    output, y, latent = output_of(1), targets_of(1), torch.tensor(0.7, dtype=torch.float64)
    expected = normal_log_density(y, output[:, 0], latent)
    torch.testing.assert_close(GaussianNoise().distribution(output, latent).log_prob(y), expected)


def test_heteroscedastic_density_has_softplus_scales_and_their_floor() -> None:
    output, y = output_of(2), targets_of(2)
    expected = normal_log_density(y, output[:, 0], (1 + output[:, 1].exp()).log() + 0.25)
    torch.testing.assert_close(HeteroscedasticNoise(0.25).distribution(output).log_prob(y), expected)
    lowest = HeteroscedasticNoise(0.25).distribution(torch.tensor([[0.0, -1e4]], dtype=torch.float64))
    assert lowest.stddev.item() == 0.25


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
    assert {value.dtype for value in likelihood.predict(output.expand(3, -1, -1), draws)} == {dtype}


def test_prior_follows_torch_defaults_without_an_example() -> None:
    noise = GaussianNoise().prior()
    assert noise is not None and noise.dtype == torch.get_default_dtype() and noise > 0


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


# predictions


def test_classes_average_probabilities_and_not_logits() -> None:
    draws = torch.stack([output_of(4), -3 * output_of(4)])
    prediction = Categorical().predict(draws)
    assert isinstance(prediction, Classes)
    expected = draws.exp() / draws.exp().sum(2, keepdim=True)
    torch.testing.assert_close(prediction.draws, expected)
    torch.testing.assert_close(prediction.probabilities, (expected[0] + expected[1]) / 2)


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


def test_heteroscedastic_prediction_is_the_mean_and_scale_of_the_distribution() -> None:
    draws = torch.stack([output_of(2), -output_of(2)])
    prediction, density = HeteroscedasticNoise().predict(draws), HeteroscedasticNoise().distribution(draws)
    torch.testing.assert_close(prediction.mean, density.mean)
    torch.testing.assert_close(prediction.sd, density.stddev)


# bad input


@every_likelihood
def test_good_data_pass(likelihood: Likelihood, columns: int) -> None:
    likelihood.check(output_of(columns))
    likelihood.check(output_of(columns), targets_of(columns))


@every_likelihood
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_output_must_be_finite(likelihood: Likelihood, columns: int, value: float) -> None:
    output = output_of(columns)
    output[2, 0] = value
    with pytest.raises(ValueError, match="output must be finite, got 1 NaN"):
        likelihood.check(output, targets_of(columns))


@every_likelihood
def test_output_must_have_the_likelihoods_columns(likelihood: Likelihood, columns: int) -> None:
    wrong = 1 if columns != 1 else 3
    with pytest.raises(ValueError, match=rf"output must .*got \({ROWS}, {wrong}\)"):
        likelihood.check(output_of(wrong))


@every_likelihood
@pytest.mark.parametrize("shape", [(ROWS, 1), (ROWS - 1,), ()])
def test_there_is_one_target_a_row(likelihood: Likelihood, columns: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"y must have shape \(7,\)"):
        likelihood.check(output_of(columns), torch.zeros(shape, dtype=targets_of(columns).dtype))


@every_likelihood
def test_an_empty_set_is_refused(likelihood: Likelihood, columns: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        likelihood.check(output_of(columns)[:0], targets_of(columns)[:0])


@pytest.mark.parametrize(("label", "message"), [(-1, r"got -1 \.\.\. 3"), (4, r"got 0 \.\.\. 4")])
def test_labels_must_be_in_range(label: int, message: str) -> None:
    y = targets_of(4)
    y[-1] = label
    y[3] = 3
    y[0] = min(label, 0)
    with pytest.raises(ValueError, match=r"y must hold labels in 0 \.\.\. 3, " + message):
        Categorical().check(output_of(4), y)


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32, torch.bool])
def test_labels_must_be_int64(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match="torch.int64"):
        Categorical().check(output_of(4), torch.zeros(ROWS, dtype=dtype))


@pytest.mark.parametrize("likelihood", [GaussianNoise(), HeteroscedasticNoise()])
def test_real_targets_must_be_finite_reals(likelihood: Likelihood) -> None:
    columns = 1 if isinstance(likelihood, GaussianNoise) else 2
    with pytest.raises(ValueError, match="real targets, got torch.int64"):
        likelihood.check(output_of(columns), torch.arange(ROWS))
    with pytest.raises(ValueError, match="y must be finite, got 7 NaN"):
        likelihood.check(output_of(columns), torch.full((ROWS,), math.nan))


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_scales_must_be_positive_and_finite(value: float) -> None:
    with pytest.raises(ValueError, match="^scale must be positive and finite"):
        GaussianNoise(value)
    with pytest.raises(ValueError, match="^prior_scale must be positive and finite"):
        GaussianNoise(prior_scale=value)
    with pytest.raises(ValueError, match="^min_scale must be positive and finite"):
        HeteroscedasticNoise(value)


def test_a_learned_noise_needs_its_latent() -> None:
    with pytest.raises(ValueError, match="latent must be given"):
        GaussianNoise().distribution(output_of(1))
    with pytest.raises(ValueError, match="latent must be given"):
        GaussianNoise().predict(output_of(1).unsqueeze(0))
    with pytest.raises(ValueError, match="one noise_scale for each of the 3 draws"):
        GaussianNoise().predict(output_of(1).expand(3, -1, -1), torch.ones(2))


@every_likelihood
def test_predictions_need_a_dimension_of_draws(likelihood: Likelihood, columns: int) -> None:
    with pytest.raises(ValueError, match="with at least one draw"):
        likelihood.predict(output_of(columns).expand(0, -1, -1), torch.ones(0))
    with pytest.raises(ValueError, match="with at least one draw"):
        likelihood.predict(output_of(columns)[0], torch.ones(1))


def test_every_task_has_a_likelihood() -> None:
    assert isinstance(default_likelihood("classification"), Categorical)
    assert isinstance(default_likelihood("regression"), GaussianNoise)
    with pytest.raises(ValueError, match="task must be classification or regression, got 'ranking'"):
        default_likelihood("ranking")
