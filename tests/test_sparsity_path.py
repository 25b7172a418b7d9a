"""Networks from dense to sparse, scored on held-out rows."""

import importlib
import json
import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from bnn_pyro.inference.mcmc import starts
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.svi.schedule import LearningRates, Schedule
from bnn_pyro.inference.training.compute import Compute
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
FINE = [0.01 * step for step in range(1, 9)]
KEPT = {**dict.fromkeys(FINE, 4), 0.03: 6, 0.3: 3, 1.0: 1, 2.0: 0}  # nodes at each KL weight


def network(prior: Any = None) -> tuple[SparseNetwork, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    x = torch.randn(ROWS, 2, dtype=DOUBLE)
    y = (2 * x[:, 0]).sin() + 0.1 * torch.randn(ROWS, dtype=DOUBLE)
    given = prior or SpikeSlab(Gaussian(), inclusion=0.5)
    net = mlp(2, (6,), 1).double()
    return SparseNetwork(net, x[:2], prior=given, likelihood=GaussianNoise(), num_data=ROWS), (x, y)


class Fits:
    """In place of ``fit``: guides that were not trained but keep as many nodes as `KEPT` says."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.results: list[GuidePosterior] = []

    def __call__(self, model: SparseNetwork, rows: tuple[Tensor, Tensor], **options: Any) -> GuidePosterior:
        assert model.num_data == len(rows[0])
        self.calls.append({"model": model, "rows": len(rows[0]), **options})
        posterior = GuidePosterior(model, AutoSpikeSlab(model.prior), kl_weight=options["kl_weight"])
        set_gates(posterior, {"hidden1": torch.arange(6) < KEPT[options["kl_weight"]]})
        self.results.append(posterior)
        return posterior


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Fits:
    found = Fits()
    monkeypatch.setattr(importlib.import_module("bnn_pyro.sparsity_path"), "fit", found)
    return found


@pytest.fixture(autouse=True)
def short_ensembles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "train_ensemble", partial(train_ensemble, steps=300))


def path(**options: Any) -> SparsityPath:
    model, rows = network()
    given = {"kl_weights": (1.0, 0.03), "seed": 0, "progress": False, **options}
    return sparsity_path(model, rows, **given)


def point(weights: int, scores: list[float]) -> PathPoint:
    """A point with these scores, whose posteriors do not matter."""
    selected: Any = SimpleNamespace(kl_weight=float(weights))
    return PathPoint(float(weights), selected, selected, weights, {"hidden1": weights}, torch.tensor(scores))


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
def test_points_are_scored_on_rows_that_were_held_out(fits: Fits) -> None:
    found = path()
    assert [p.kl_weight for p in found.points] == [0.03, 1.0]
    assert [p.nodes for p in found.points] == [{"hidden1": 6}, {"hidden1": 1}]
    assert [p.weights for p in found.points] == [6 * 2 + 6 + 6 + 1, 2 + 1 + 1 + 1]
    assert all(p.scores.shape == (10,) and p.predictor is p.selected for p in found.points)
    assert torch.equal(found.points[0].scores, path().points[0].scores)
    model, rows = network()
    given = path(validation=(rows[0][:7], rows[1][:7]))
    assert given.points[0].scores.shape == (7,) and given.points[0].selected.model.num_data == ROWS


def test_refined_points_and_the_whole_network(fits: Fits) -> None:
    found = path(kl_weights=(0.03, 0.3), refinement=REFINEMENT, reference=True)
    assert all(isinstance(p.predictor, SampledPosterior) for p in found.points)
    assert found.reference is not None and found.reference_scores is not None
    assert found.reference.keep() == {} and found.reference_scores.shape == (10,)
    scored = found.points[1].predictor.evaluate(*network()[1])
    assert scored["rmse"] < 0.6  # of an untrained guide's it would be about 1


def test_an_empty_network_is_scored_by_the_guide(fits: Fits, caplog: pytest.LogCaptureFixture) -> None:
    found = path(kl_weights=(2.0,), refinement=REFINEMENT)
    assert found.points[0].predictor is found.points[0].selected and found.points[0].nodes == {"hidden1": 0}
    assert "at KL weight 2 no node of 'hidden1' is left" in caplog.text


# ---- how it is fitted ------------------------------------------------------------------------------------------------
def test_each_fit_starts_where_the_one_before_has_ended(fits: Fits) -> None:
    schedule = Schedule(hold=10, freeze=8, kl_warmup=5.0, temperature=(0.5, 0.1), shrink_below=0.03)
    found = path(kl_weights=(1.0, 0.3, 0.03), epochs=80, batch_size=7, schedule=schedule)
    first, *others = fits.calls
    assert [call["kl_weight"] for call in fits.calls] == [0.03, 0.3, 1.0]
    assert (first["epochs"], first["schedule"], first["guide"]) == (80, schedule, None)
    for call, before in zip(others, fits.results, strict=False):
        assert call["epochs"] == 40 and call["batch_size"] == 7 and call["rows"] == 40
        shorter = Schedule(freeze=4, temperature=0.1, shrink_below=0.03)
        assert call["schedule"] == shorter
        # gates as they are, but none further open than where a fit begins; of those fits they were at 1/(1 + exp(-4))
        kept = before.inclusion()["hidden1"] > 0.5
        begun = call["guide"].inclusion()["hidden1.gate"]
        assert torch.equal(begun > 0.5, kept) and float(begun.max()) == pytest.approx(0.95)
        assert float(before.inclusion()["hidden1"].max()) > 0.96
        assert call["model"] is not before.model
        assert torch.equal(call["guide"].median()["output.weight"], before.guide.median()["output.weight"])
    assert [p.selected for p in found.points] == fits.results


def test_a_finer_path_costs_no_more(fits: Fits) -> None:
    path(kl_weights=[0.03] * 3, epochs=80)
    assert [call["epochs"] for call in fits.calls] == [80]
    path(kl_weights=FINE, epochs=80)
    assert [call["epochs"] for call in fits.calls[1:]] == [80, *[11] * 7]


def test_a_path_of_real_fits() -> None:
    rates = LearningRates(slab_locs=0.02, slab_scales=0.02, scales=0.02, gates=1.0)
    options: dict[str, Any] = {"epochs": 20, "batch_size": 20, "rates": rates, "compute": Compute(engine="eager")}
    model, rows = network()
    before = torch.get_rng_state()
    found, again = (sparsity_path(model, rows, kl_weights=(0.01, 20.0), seed=0, **options) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before) and model.num_data == ROWS
    dense, sparse = found.points
    assert dense.nodes["hidden1"] > sparse.nodes["hidden1"]
    assert all(torch.equal(one.scores, two.scores) for one, two in zip(found.points, again.points, strict=True))
    assert [len(p.selected.history) for p in found.points] == [20, 10]
    assert {"validation_nll", "validation_rmse"} <= dense.selected.history[0].keys()
    assert dense.selected.tempered and not sparse.selected.tempered


# ---- as values and as text -------------------------------------------------------------------------------------------
def test_records_are_json_values_on_the_original_scale() -> None:
    dense, small = point(9, [1.0, 2.0, 3.0, 2.0]), point(1, [0.9, 2.1, 3.0, 1.9])
    one, two = json.loads(json.dumps(SparsityPath((dense, small)).records(y_std=10.0)))
    assert one.keys() == two.keys() and (one["kl_weight"], one["weights"], one["nodes"]) == (9.0, 9, {"hidden1": 9})
    assert one["nll"] == pytest.approx(math.log(10) - 2.0) and one["loss"] == 0 and not one["refined"]
    assert one["nll_error"] == two["nll_error"] == pytest.approx(math.sqrt(2 / 3 / 4))
    assert (two["loss"], two["loss_error"]) == pytest.approx(SparsityPath((dense, small)).loss(small))
    assert (one["chosen"], two["chosen"]) == (False, True)
    (alone,) = SparsityPath((point(9, [1.0]),)).records()
    assert alone["nll_error"] is alone["loss_error"] is None


def test_a_tempered_choice_is_called_so(fits: Fits) -> None:
    found = path(kl_weights=(0.3,))
    assert found.chosen.tempering == "tempered (cold) posterior, KL weight 0.3"
    assert str(found).endswith("the chosen nodes were selected by a tempered (cold) posterior, KL weight 0.3")
    assert "tempered" not in str(path(kl_weights=(1.0,)))


def test_refuses() -> None:
    with pytest.raises(ValueError, match=r"kl_weights must be positive and finite, and one at least, got \[\]"):
        path(kl_weights=())
    with pytest.raises(ValueError, match="kl_weights must be positive and finite"):
        path(kl_weights=(0.0, 1.0))
    with pytest.raises(ValueError, match="validation must be rows to score"):
        path(validation=None)
    with pytest.raises(ValueError, match="reference needs a refinement"):
        path(reference=True)
    model, rows = network(Gaussian())
    with pytest.raises(ValueError, match="model must have a prior with gates"):
        sparsity_path(model, rows)
