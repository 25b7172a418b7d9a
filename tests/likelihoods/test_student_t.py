"""StudentT: its density; an outlier pulls less than under normal noise."""

import math

import pytest
import torch
from scipy.stats import t as student

from bnn_pyro.likelihoods import GaussianNoise, StudentT

F = torch.linspace(-2, 2, 5, dtype=torch.float64).unsqueeze(1)
Y = torch.tensor([0.0, 1.0, 0.5, 3.0, 9.0], dtype=torch.float64)
SCALE = torch.tensor(0.7, dtype=torch.float64)


def test_density() -> None:
    wanted = student.logpdf(Y.numpy(), df=4, loc=F[:, 0].numpy(), scale=0.7)
    found = StudentT().distribution(F, SCALE)
    torch.testing.assert_close(found.log_prob(Y), torch.from_numpy(wanted))
    torch.testing.assert_close(found.variance, torch.full_like(Y, 0.49 * 2))


def test_draws_have_the_spread_of_the_density() -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        draws = StudentT(df=9.0).distribution(F, SCALE).rsample(torch.Size([40_000]))
    below = (draws[:, 0] < F[0, 0] + 0.5).double().mean()
    assert float(below) == pytest.approx(student.cdf(0.5 / 0.7, df=9), abs=0.01)
    torch.testing.assert_close(draws.var(0), torch.full_like(Y, 0.49 * 9 / 7), rtol=0.05, atol=0.0)


def test_an_outlier_pulls_less() -> None:
    f = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    far = torch.tensor([50.0], dtype=torch.float64)
    robust, normal = (
        torch.autograd.grad(likelihood.distribution(f, SCALE).log_prob(far).sum(), f)[0]
        for likelihood in (StudentT(), GaussianNoise())
    )
    assert 0 < float(robust) < 0.01 * float(normal)


def test_errors_and_densities_are_in_the_unit_of_the_targets() -> None:
    found = StudentT().predict(torch.stack([F, F + 1]), torch.tensor([0.5, 1.0], dtype=torch.float64))
    scaled = found.scaled(mean=5.0, std=2.0)
    torch.testing.assert_close(scaled.log_prob(2 * Y + 5), found.log_prob(Y) - math.log(2))
    assert scaled.scores(2 * Y + 5)["rmse"] == pytest.approx(2 * found.scores(Y)["rmse"])


@pytest.mark.parametrize("df", [2.0, math.inf, math.nan])
def test_there_is_a_variance(df: float) -> None:
    with pytest.raises(ValueError, match="df must be above 2 and finite"):
        StudentT(df=df)
    with pytest.raises(ValueError, match="y must hold real targets"):
        StudentT().check(F, torch.arange(5))
