"""R-hat and effective sample sizes: against ArviZ, and on chains whose answers are known."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bnn_pyro.posterior.diagnostics import e_bfmi, ess_bulk, ess_tail, r_hat, r_hat_summary

TAIL = {"method": "tail", "prob": (0.05, 0.95)}  # from version 1.0 on ArviZ has other quantiles of its own
BOTH = pytest.mark.parametrize("function", [ess_bulk, ess_tail], ids=["bulk", "tail"])


def autoregressive(coefficient: float, chains: int = 4, draws: int = 1000, *shape: int) -> Tensor:
    """Chains whose autocorrelation at lag k is the coefficient to the k."""
    noise = torch.randn(draws, chains, *shape, dtype=torch.float64)
    for i in range(1, draws):
        noise[i] = coefficient * noise[i - 1] + (1 - coefficient**2) ** 0.5 * noise[i]
    return noise.transpose(0, 1)


CHAINS = {
    "independent": lambda: torch.randn(4, 200, 3).double(),
    "sticky": lambda: autoregressive(0.9, 4, 301, 3),
    "antithetic": lambda: autoregressive(-0.5, 3, 200, 3),
    "one chain": lambda: autoregressive(0.5, 1, 100, 3),
    "apart": lambda: torch.randn(4, 100, 3).double() + torch.arange(4).double().reshape(4, 1, 1),
    "heavy tails": lambda: torch.randn(4, 100, 3).double() / torch.rand(4, 100, 3).double(),
    "ties": lambda: autoregressive(0.5, 4, 100, 3).round().clamp(-1, 1),
    "few": lambda: torch.randn(2, 5, 3).double(),
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of ArviZ, at its import
@pytest.mark.parametrize("name", CHAINS)
def test_equals_arviz(name: str) -> None:
    arviz = pytest.importorskip("arviz")
    draws = CHAINS[name]()
    columns = [column.numpy() for column in draws.unbind(-1)]
    given: list[tuple[Callable[[Tensor], Tensor], Any]] = [(ess_bulk, {"method": "bulk"}), (ess_tail, TAIL)]
    for function, options in given:
        expected = torch.tensor([float(arviz.ess(column, **options)) for column in columns]).double()
        torch.testing.assert_close(function(draws), expected, rtol=1e-5, atol=0)
    if len(draws) > 1:
        expected = torch.tensor([float(arviz.rhat(column, method="rank")) for column in columns]).double()
        torch.testing.assert_close(r_hat(draws), expected, rtol=1e-5, atol=0)


@BOTH
def test_independent_draws_count_as_many_as_there_are(function: Callable[[Tensor], Tensor]) -> None:
    """Within 20 % on average over 50 quantities: its error is 2 %."""
    assert abs(float(function(torch.randn(4, 500, 50)).mean()) / 2000 - 1) < 0.2


def test_autocorrelated_draws_count_as_theory_says() -> None:
    """(1 - a) / (1 + a) of them, the mean over 20 quantities within 15 %: its error is 3 %."""
    found = ess_bulk(autoregressive(0.8, 4, 2000, 20)).mean()
    assert abs(float(found) / (8000 * 0.2 / 1.8) - 1) < 0.15


def test_r_hat_finds_chains_that_differ_in_place_or_in_width() -> None:
    alike, tags = torch.randn(4, 500, 1), torch.arange(4).reshape(4, 1, 1)
    assert float(r_hat(alike)) < 1.01
    assert float(r_hat(alike + 0.3 * tags)) > 1.03
    assert float(r_hat(alike * (1 + tags))) > 1.1


def test_shape_and_constants() -> None:
    draws = torch.randn(2, 50, 3, 4)
    draws[..., 0, 0] = 1
    for function in (ess_bulk, ess_tail):
        assert function(draws).shape == (3, 4) and float(function(draws)[0, 0]) == 100
    assert torch.isnan(r_hat(draws)[0, 0]) and torch.isfinite(r_hat(draws)[1:]).all()
    assert ess_bulk(draws[..., 1, 1]).shape == ()


@pytest.mark.parametrize("values", [(0.0, 1.0), (0.0, 0.0, 1.0), (0.0,) * 8 + (1.0,) * 8])
def test_r_hat_of_chains_that_are_stuck_in_different_places_is_infinite(values: tuple[float, ...]) -> None:
    stuck = torch.tensor(values).unsqueeze(1).expand(-1, 20)
    assert float(r_hat(stuck)) == math.inf
    one_moves = stuck.clone()
    one_moves[0, :3] = 1.0
    assert 1.5 < float(r_hat(one_moves)) < math.inf


@pytest.mark.parametrize("function", [ess_bulk, ess_tail, r_hat])
def test_draws_that_are_not_finite_give_nan(function: Callable[[Tensor], Tensor]) -> None:
    draws = torch.randn(2, 50, 3)
    draws[0, 3, 1] = torch.inf
    assert torch.isnan(function(draws)).tolist() == [False, True, False]


@pytest.mark.parametrize("shape", [(10,), (4, 3), (4, 3, 2)], ids=str)
def test_too_few_draws_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="draws must have shape"):
        r_hat(torch.zeros(shape))


def test_summary_leaves_out_what_no_draw_differs_in() -> None:
    assert r_hat_summary(torch.tensor([math.nan, 1.5])) == (1.5, 1.5)
    assert r_hat_summary(torch.tensor([math.nan])) == (math.inf, math.inf)
    assert r_hat_summary(torch.arange(101.0)) == (50.0, 95.0)
    assert r_hat_summary(torch.tensor([1.0, 1.0, 1.0, math.inf, math.inf])) == (1.0, math.inf)
    assert r_hat_summary(torch.tensor([math.inf, math.inf])) == (math.inf, math.inf)


# ---- energy ----------------------------------------------------------------------------------------------------------


def test_e_bfmi_of_independent_energies_and_of_a_random_walk() -> None:
    """2 (1 - a) for autocorrelation a, within 20 %: its error is 3 %; n / sum of squares for steps of one."""
    assert abs(float(e_bfmi(torch.randn(1, 2000))) / 2 - 1) < 0.2
    assert abs(float(e_bfmi(autoregressive(0.9, 1, 4000))) / 0.2 - 1) < 0.2
    torch.testing.assert_close(e_bfmi(torch.arange(5.0).repeat(2, 1)), torch.tensor([0.4, 0.4], dtype=torch.float64))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of ArviZ, at its import
def test_e_bfmi_equals_arviz() -> None:
    arviz = pytest.importorskip("arviz")
    energy = autoregressive(0.5, 3, 50)
    expected = torch.as_tensor(arviz.bfmi(energy.numpy())).double()
    torch.testing.assert_close(e_bfmi(energy), expected, rtol=0.05, atol=0)  # it divides the two sums by n - 1 and n
