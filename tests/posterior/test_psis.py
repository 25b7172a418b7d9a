"""Pareto-smoothed importance sampling, against ArviZ and against leave-one-out densities that are known."""

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from bnn_pyro.posterior import psis
from bnn_pyro.posterior.psis import psis_loo
from tests.models import DOUBLE


def normal_draws(draws: int, rows: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Log-likelihoods of rows in draws of the posterior of a mean with a flat prior, and the exact LOO densities."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(rows, generator=generator, dtype=DOUBLE)
    mean = y.mean() + torch.randn(draws, 1, generator=generator, dtype=DOUBLE) / math.sqrt(rows)
    others = (y.sum() - y) / (rows - 1)
    exact = torch.distributions.Normal(others, math.sqrt(1 + 1 / (rows - 1))).log_prob(y)
    return torch.distributions.Normal(mean, torch.ones((), dtype=DOUBLE)).log_prob(y), exact


def arvizs(log_likelihood: Tensor) -> tuple[Tensor, Tensor]:
    """What ArviZ finds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arviz: Any = pytest.importorskip("arviz")
        if not hasattr(arviz, "psislw"):
            pytest.skip("ArviZ has its psislw elsewhere")
        weights, k = arviz.psislw(-log_likelihood.t().numpy())
    return (torch.from_numpy(weights).t() + log_likelihood).logsumexp(0), torch.from_numpy(k)


@pytest.mark.parametrize("draws", [30, 100, 101, 1000])
@pytest.mark.parametrize("spread", [0.3, 1.0, 4.0], ids=["light", "medium", "heavy"])
def test_it_is_that_of_arviz(draws: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(draws)
    log_likelihood = -spread * torch.randn(draws, 40, generator=generator, dtype=DOUBLE).square()
    expected, shape = arvizs(log_likelihood)
    elpd, k = psis_loo(log_likelihood)
    torch.testing.assert_close(elpd, expected)
    torch.testing.assert_close(k, shape)


def test_draws_that_are_alike_are_that_of_arviz() -> None:
    """Ties shorten the tail, each row's by another number."""
    generator = torch.Generator().manual_seed(1)
    log_likelihood = (2 * torch.randn(200, 30, generator=generator, dtype=DOUBLE)).round()
    log_likelihood[:, :10] = (log_likelihood[:, :10] / 8).round()  # of which few are below 0
    expected, shape = arvizs(log_likelihood)
    elpd, k = psis_loo(log_likelihood)
    assert len(k[shape.isfinite()].unique()) > 5 and bool((shape == math.inf).any())
    torch.testing.assert_close(elpd, expected)
    torch.testing.assert_close(k[shape.isfinite()], shape[shape.isfinite()])


def test_it_is_the_exact_density_of_a_normal_mean() -> None:
    log_likelihood, exact = normal_draws(4000, 30)
    elpd, k = psis_loo(log_likelihood)
    assert (elpd - exact).abs().max() < 0.02 and bool((k < 0.5).all())
    in_sample = log_likelihood.logsumexp(0) - math.log(4000)
    assert (elpd - exact).abs().mean() < 0.2 * (in_sample - exact).abs().mean()


def test_rows_in_blocks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    log_likelihood, _ = normal_draws(50, 23)
    whole = psis_loo(log_likelihood)
    monkeypatch.setattr(psis, "_BLOCK", 5)
    for part, expected in zip(psis_loo(log_likelihood), whole, strict=True):
        torch.testing.assert_close(part, expected)


def test_rows_that_all_draws_agree_on_are_exact() -> None:
    """So are those with few draws, whose shape nobody knows."""
    elpd, k = psis_loo(torch.full((100, 2), -1.5))
    torch.testing.assert_close(elpd, torch.full((2,), -1.5, dtype=DOUBLE))
    assert (k == -math.inf).all()
    few = torch.tensor([[-1.0], [-2.0], [-1.5]], dtype=DOUBLE)
    elpd, k = psis_loo(few)
    torch.testing.assert_close(elpd, math.log(3) - (-few).logsumexp(0))
    assert (k == math.inf).all()
    assert float(psis_loo(few[:1])[0]) == -1.0


@pytest.mark.parametrize("bad", [-math.inf, math.nan])
def test_a_draw_without_a_density_leaves_none(bad: float) -> None:
    log_likelihood, _ = normal_draws(100, 4)
    log_likelihood[7, 2] = bad
    elpd, k = psis_loo(log_likelihood)
    assert elpd[2] < -1e8 and not elpd.isnan().any() and not k.isnan().any()
    expected, _ = psis_loo(normal_draws(100, 4)[0])
    torch.testing.assert_close(elpd[[0, 1, 3]], expected[[0, 1, 3]])


def test_too_few_draws_or_none_that_is_a_number_are_not_reliable() -> None:
    assert bool((psis_loo(torch.randn(1, 3, dtype=DOUBLE))[1] == math.inf).all())
    values = torch.randn(40, 2, dtype=DOUBLE)
    values[:, 1] = math.nan
    shape = psis_loo(values)[1]
    assert math.isfinite(float(shape[0])) and float(shape[1]) == math.inf


def test_other_shapes_are_refused() -> None:
    for shape in ((3,), (2, 3, 4), (0, 4)):
        with pytest.raises(ValueError, match=r"log_likelihood must have shape \(draws, rows\) and a draw, got"):
            psis_loo(torch.zeros(shape))
