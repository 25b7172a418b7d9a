"""Bad outputs and targets are refused with a reason."""

import math

import pytest
import torch

from bnn_pyro.likelihoods import GaussianNoise, HeteroscedasticNoise, Likelihood
from tests.likelihoods.targets import ROWS, every_likelihood, output_of, targets_of


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


@every_likelihood
def test_predictions_need_a_dimension_of_draws(likelihood: Likelihood, columns: int) -> None:
    with pytest.raises(ValueError, match="with at least one draw"):
        likelihood.predict(output_of(columns).expand(0, -1, -1), torch.ones(0))
    with pytest.raises(ValueError, match="with at least one draw"):
        likelihood.predict(output_of(columns)[0], torch.ones(1))
