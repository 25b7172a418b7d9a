"""Networks from dense to sparse, scored on held-out rows."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from bnn_pyro.inference.mcmc import starts
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.training.ensemble import train_ensemble
from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.posterior.sampled import SampledPosterior
from bnn_pyro.priors import Gaussian, SpikeSlab
from bnn_pyro.refinement import Refinement
from bnn_pyro.sparsity_path import PathPoint, SparsityPath, sparsity_path
from guides import AutoSpikeSlab
from tests.models import DOUBLE
from tests.pruning.masks import set_gates

ROWS = 50
PLAN = SamplingPlan(kernel="mclmc", chains=4, warmup=200, draws=10, thinning=5)
REFINEMENT = Refinement(plan=PLAN, until=None)
KEPT = {0.03: 6, 0.3: 3, 1.0: 1, 2.0: 0}  # nodes at each KL weight


def network(prior: Any = None) -> tuple[SparseNetwork, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    x = torch.randn(ROWS, 2, dtype=DOUBLE)
    y = (2 * x[:, 0]).sin() + 0.1 * torch.randn(ROWS, dtype=DOUBLE)
    given = prior or SpikeSlab(Gaussian(), inclusion=0.5)
    net = mlp(2, (6,), 1).double()
    return SparseNetwork(net, x[:2], prior=given, likelihood=GaussianNoise(), num_data=ROWS), (x, y)


def fit_at(model: SparseNetwork, rows: tuple[Tensor, Tensor], kl_weight: float) -> GuidePosterior:
    """A guide that was not trained but keeps as many nodes as `KEPT` says."""
    assert model.num_data == len(rows[0])
    posterior = GuidePosterior(model, AutoSpikeSlab(model.prior), kl_weight=kl_weight)
    set_gates(posterior, {"hidden1": torch.arange(6) < KEPT[kl_weight]})
    return posterior


@pytest.fixture(autouse=True)
def short_ensembles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "train_ensemble", partial(train_ensemble, steps=300))


def path(**options: Any) -> SparsityPath:
    model, rows = network()
    given = {"kl_weights": (1.0, 0.03), "refinement": None, "seed": 0, "progress": False, **options}
    return sparsity_path(model, rows, fit_at, **given)


def point(weights: int, scores: list[float]) -> PathPoint:
    """A point with these scores, whose posteriors do not matter."""
    nothing: Any = None
    return PathPoint(float(weights), nothing, nothing, weights, {"hidden1": weights}, torch.tensor(scores))


# ---- which is chosen -------------------------------------------------------------------------------------------------
def test_the_smallest_within_one_standard_error_is_chosen() -> None:
    dense, middle, small = (
        point(9, [1.0, 2.0, 3.0, 2.0]),
        point(5, [1.2, 1.7, 3.1, 1.9]),
        point(1, [0.0, 1.0, 2.0, 1.0]),
    )
    found = SparsityPath((dense, middle, small))
    assert found.best_scores is dense.scores and found.chosen is middle
    loss, error = found.loss(middle)
    assert 0 < loss < error and found.loss(small)[0] == pytest.approx(1.0)
    assert "<- chosen" in str(found).splitlines()[2] and "weights" in str(found)


def test_a_bad_network_is_not_excused_by_its_own_error_and_the_better_of_one_size_is_taken() -> None:
    best, wild = point(5, [1.0, 1.2, 0.8, 1.0]), point(5, [1.3, 1.5, -90.0, 1.3])
    loss, error = SparsityPath((wild, best)).loss(wild)
    assert loss < error and SparsityPath((wild, best)).chosen is best
    near, far = point(3, [0.99, 1.19, 0.79, 0.99]), point(3, [0.98, 1.18, 0.78, 0.98])
    assert SparsityPath((best, far, near)).chosen is best and SparsityPath((far, near)).chosen is near


def test_the_best_is_chosen_where_a_better_whole_network_is_far() -> None:
    dense, small = point(9, [1.0, 2.0, 3.0]), point(1, [0.0, 1.0, 2.0])
    found = SparsityPath((dense, small), reference_scores=torch.tensor([5.0, 6.0, 7.0]))
    assert found.chosen is dense and found.loss(dense)[0] == pytest.approx(4.0)
    assert str(found).endswith("sampled: 6.0000")


# ---- what is on it ---------------------------------------------------------------------------------------------------
def test_points_are_scored_on_rows_that_were_held_out() -> None:
    found = path()
    assert [p.kl_weight for p in found.points] == [0.03, 1.0]
    assert [p.nodes for p in found.points] == [{"hidden1": 6}, {"hidden1": 1}]
    assert [p.weights for p in found.points] == [6 * 2 + 6 + 6 + 1, 2 + 1 + 1 + 1]
    assert all(p.scores.shape == (10,) and p.predictor is p.selected for p in found.points)
    assert torch.equal(found.points[0].scores, path().points[0].scores)
    model, rows = network()
    given = path(validation=(rows[0][:7], rows[1][:7]))
    assert given.points[0].scores.shape == (7,) and given.points[0].selected.model.num_data == ROWS


def test_refined_points_and_the_whole_network() -> None:
    found = path(kl_weights=(0.03, 0.3), refinement=REFINEMENT, reference=True)
    assert all(isinstance(p.predictor, SampledPosterior) for p in found.points)
    assert found.reference is not None and found.reference_scores is not None
    assert found.reference.keep() == {} and found.reference_scores.shape == (10,)
    scored = found.points[1].predictor.evaluate(*network()[1])
    assert scored["rmse"] < 0.6  # of an untrained guide's it would be about 1


def test_an_empty_network_is_scored_by_the_guide(caplog: pytest.LogCaptureFixture) -> None:
    found = path(kl_weights=(2.0,), refinement=REFINEMENT)
    assert found.points[0].predictor is found.points[0].selected and found.points[0].nodes == {"hidden1": 0}
    assert "at KL weight 2 no node of 'hidden1' is left" in caplog.text


def test_refuses() -> None:
    with pytest.raises(ValueError, match=r"kl_weights must be positive, and one at least, got \[\]"):
        path(kl_weights=())
    with pytest.raises(ValueError, match="kl_weights must be positive"):
        path(kl_weights=(0.0, 1.0))
    with pytest.raises(ValueError, match="validation must be rows to score"):
        path(validation=None)
    with pytest.raises(ValueError, match="reference needs a refinement"):
        path(reference=True)
    model, rows = network(Gaussian())
    with pytest.raises(ValueError, match="model must have a prior with gates"):
        sparsity_path(model, rows, fit_at)
