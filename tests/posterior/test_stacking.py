"""Weights of chains by stacking: what they maximise, and the draws that chains give by them."""

import math

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from bnn_pyro.posterior.psis import psis_loo
from bnn_pyro.posterior.stacking import Stacking, shares, stack, stacking_weights
from tests.models import DOUBLE


def log_densities(chains: int, rows: int, *, seed: int = 0) -> Tensor:
    return 2 * torch.randn(chains, rows, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def mean_score(weights: Tensor, elpd: Tensor) -> float:
    return float((weights.log().unsqueeze(1) + elpd).logsumexp(0).mean())


# ---- weights ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("chains", "rows"), [(3, 200), (16, 50), (16, 500)])
def test_they_are_what_a_general_optimiser_finds(chains: int, rows: int) -> None:
    elpd = log_densities(chains, rows)
    elpd[0] += 0.5
    weights = stacking_weights(elpd)
    found = minimize(
        lambda w: -mean_score(torch.from_numpy(w).clamp(min=1e-300), elpd),
        [1 / chains] * chains,
        method="SLSQP",
        bounds=[(0, 1)] * chains,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-10, "maxiter": 1000},
    )
    assert mean_score(weights, elpd) > -found.fun - 2e-5
    assert float(weights.sum()) == pytest.approx(1) and weights.dtype == DOUBLE
    assert (weights - torch.from_numpy(found.x)).abs().max() < 0.02


def test_two_components_get_their_shares() -> None:
    """Rows of which one chain knows three quarters for certain, and the other the rest."""
    elpd = torch.full((2, 400), -60.0)
    elpd[0, :300], elpd[1, 300:] = 0.0, 1.0
    torch.testing.assert_close(stacking_weights(elpd), torch.tensor([0.75, 0.25], dtype=DOUBLE), atol=1e-4, rtol=0)


def test_a_chain_that_is_worse_everywhere_gets_nothing() -> None:
    elpd = log_densities(1, 100).repeat(3, 1)
    elpd[1] -= 1.0
    elpd[2] = -math.inf
    assert stacking_weights(elpd).tolist() == pytest.approx([1.0, 0.0, 0.0], abs=2e-5)


def test_chains_that_are_alike_weigh_the_same() -> None:
    elpd = log_densities(1, 100).repeat(4, 1)
    assert stacking_weights(elpd).tolist() == [0.25] * 4
    assert stacking_weights(torch.full((4, 7), -math.inf)).tolist() == [0.25] * 4


def test_rows_that_no_chain_knows_do_not_count() -> None:
    elpd = log_densities(3, 50)
    with_others = torch.cat([elpd, torch.full((3, 2), -math.inf)], 1)
    torch.testing.assert_close(stacking_weights(with_others), stacking_weights(elpd))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_no_log_density_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="elpd must be log densities, got NaN or infinitely large ones"):
        stacking_weights(torch.tensor([[0.0, bad]]))


def test_stack_leaves_out_each_row_within_each_chain() -> None:
    """The chain that has learned the rows by heart looks best on them, and is not chosen."""
    generator = torch.Generator().manual_seed(0)
    honest = -0.5 + 0.1 * torch.randn(200, 60, generator=generator, dtype=DOUBLE)
    by_heart = 0.5 - 2 * torch.randn(200, 60, generator=generator, dtype=DOUBLE).square()
    log_likelihood = torch.stack([honest, by_heart])
    in_sample = log_likelihood.logsumexp(1).mean(1)
    found = stack(log_likelihood)
    assert in_sample[0] < in_sample[1] and found.weights[0] > 0.99
    for chain in (0, 1):
        elpd, k = psis_loo(log_likelihood[chain])
        assert torch.equal(found.elpd[chain], elpd) and torch.equal(found.pareto_k[chain], k)


def test_all_chains_share_a_part_equally() -> None:
    log_likelihood = log_densities(3 * 20, 40).reshape(3, 20, 40)
    alone = stack(log_likelihood).weights
    for share in (0.3, 1.0):
        found = stack(log_likelihood, equal_share=share).weights
        torch.testing.assert_close(found, (1 - share) * alone + share / 3)
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="equal_share must be from 0 to 1, got"):
            stack(log_likelihood, equal_share=bad)


def test_rows_are_unreliable_where_most_of_the_weight_is() -> None:
    shapes = torch.tensor([[0.8, 0.2, 0.71, math.inf], [0.2, 0.8, 0.9, math.nan], [0.1, 0.3, 0.6, -math.inf]])
    weights = torch.tensor([0.6, 0.3, 0.1])
    assert Stacking(weights, torch.zeros(3, 4), shapes).unreliable == 3
    assert Stacking(torch.tensor([0.3, 0.6, 0.1]), torch.zeros(3, 4), shapes).unreliable == 3
    assert Stacking(torch.tensor([0.1, 0.3, 0.6]), torch.zeros(3, 4), shapes).unreliable == 0


def test_other_shapes_are_refused() -> None:
    for shape in ((3, 4), (2, 0, 4), (0, 2, 3)):
        with pytest.raises(ValueError, match=r"log_likelihood must have shape \(chains, draws, rows\) and an entry"):
            stack(torch.zeros(shape))


# ---- draws -----------------------------------------------------------------------------------------------------------
def test_shares_are_less_than_one_draw_off() -> None:
    weights = torch.softmax(log_densities(1, 16)[0], 0)
    for count in (1, 7, 100, 1601):
        found = shares(weights, count)
        assert sum(found) == count
        assert all(abs(share - float(weight) * count) < 1 for share, weight in zip(found, weights, strict=True))


def test_shares_of_equal_chains_are_equal() -> None:
    assert shares(torch.full((3,), 1 / 3), 30) == [10, 10, 10]
    assert shares(torch.full((3,), 1 / 3), 31) == [11, 10, 10]
    assert shares(torch.tensor([0.0, 1.0]), 5) == [0, 5]
