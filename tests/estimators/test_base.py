"""What both estimators do: one world left alone, warnings, copies, plain modules, refining."""

import copy
import pickle
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from bnn_pyro import LearningRates, Refinement, SamplingPlan, Schedule
from bnn_pyro.estimators import SparseBayesClassifier, SparseBayesRegressor, base
from bnn_pyro.estimators.table_recipe import table_recipe
from bnn_pyro.inference.mcmc import starts
from bnn_pyro.inference.training.ensemble import train_ensemble
from bnn_pyro.likelihoods import RowWeights
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.recipes import Recipe
from tests.estimators.tables import LEARNING, TINY, names, numbers, tiny, tiny_classifier

X, Y = numbers()


def test_the_same_seed_gives_the_same_result_and_the_world_is_left_alone() -> None:
    states = torch.get_rng_state(), np.random.get_state(legacy=False)
    first, second, other = tiny(), tiny(), tiny(random_state=1)
    generator = tiny(random_state=np.random.RandomState(0))
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_equal(np.random.get_state(legacy=False), states[1])
    assert len(pyro.get_param_store()) == 0
    expected = first.predict(X)
    np.testing.assert_array_equal(second.predict(X), expected)
    np.testing.assert_array_equal(generator.predict(X), expected)
    np.testing.assert_array_equal(first.predict(X), expected)
    assert not np.array_equal(other.predict(X), expected)


def test_without_a_seed_every_fit_is_another() -> None:
    first, second = (tiny(random_state=None).predict(X) for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("copied", [lambda model: pickle.loads(pickle.dumps(model)), copy.deepcopy])
def test_copies_predict_alike_and_a_clone_is_not_fitted(copied: Any) -> None:
    model = tiny()
    again = copied(model)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert isinstance(again.posterior_, GuidePosterior) and again.posterior_ is not model.posterior_
    assert again.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        clone(model).predict(X)


def test_a_fit_that_fails_leaves_nothing_that_is_fitted() -> None:
    model = SparseBayesClassifier(**{**TINY, "steps": 0})
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        model.fit(*names())
    with pytest.raises(NotFittedError):
        model.predict(X)
    with pytest.raises(ValueError, match="device must be cpu or cuda, got 'abacus'"):
        model.set_params(steps=1, device="abacus").fit(*names())


def test_names_of_columns_are_kept_and_checked() -> None:
    table = pd.DataFrame(X, columns=["size", "age", "price"])
    model = tiny().fit(table, Y)
    assert model.feature_names_in_.tolist() == model.get_feature_names_out().tolist() == ["size", "age", "price"]
    np.testing.assert_allclose(model.predict(table), tiny().predict(X), rtol=1e-12)
    with pytest.raises(ValueError, match="input_features is not equal to feature_names_in_"):
        model.get_feature_names_out(["a", "b", "c"])
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(table[["age", "size", "price"]])


def test_text_is_refused_with_what_to_do() -> None:
    table = pd.DataFrame(X, columns=["size", "age", "price"]).assign(town="Rome", kind=pd.Categorical(["a"] * len(X)))
    with pytest.raises(ValueError, match="another kind: town, kind: .*by a OneHotEncoder in a ColumnTransformer"):
        SparseBayesRegressor(**TINY).fit(table, Y)
    with pytest.raises(ValueError, match="X must hold numbers: .*'Rome'.*OneHotEncoder"):
        SparseBayesRegressor(**TINY).fit(table.to_numpy(), Y)
    table["size"] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        SparseBayesRegressor(**TINY).fit(table[["size", "age"]], Y)


def with_fast_gates(*arguments: Any, **parameters: Any) -> Recipe:
    """The recipe of an estimator whose gates take a few steps to close."""
    settings = table_recipe(*arguments, **parameters)
    return replace(settings, rates=LearningRates(gates=1.0), schedule=Schedule())


def test_a_layer_without_nodes_is_warned_of_and_predicts_a_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "table_recipe", with_fast_gates)
    model = SparseBayesRegressor(steps=20, hidden=4, kl_weight=1e6, refine="yes", random_state=0)
    with pytest.warns(ConvergenceWarning) as warned:
        model.fit(X, Y)
    first, second = (str(each.message) for each in warned)
    assert first.startswith(
        "the pruned network is a constant: no node of 'hidden1' is left. Use a kl_weight below 1e+06"
    )
    assert second == f"the pruned network is not refined: {model.not_refined_}"
    assert "posterior must keep a node of every group to be sampled, got none of 'hidden1'" in second
    assert warned[0].filename == warned[1].filename == __file__
    assert not model.get_support().any()
    assert model.prune()(torch.from_numpy(X)).std() < 1e-9
    assert np.isfinite(model.predict(X, return_std=True)).all()


@pytest.mark.parametrize("select_inputs", [False, True])
def test_the_pruned_module_is_the_median_model_in_original_units(select_inputs: bool) -> None:
    raw = torch.from_numpy(X)
    scaled = torch.from_numpy((X - X.mean(0)) / X.std(0)).float()
    model = tiny(select_inputs=select_inputs)
    expected = model.posterior_.median_model()(scaled)[:, 0] * Y.std() + Y.mean()
    torch.testing.assert_close(model.prune()(raw), expected.double(), rtol=1e-6, atol=1e-3)
    classes = tiny_classifier(select_inputs=select_inputs)
    torch.testing.assert_close(classes.prune()(raw), classes.posterior_.median_model()(scaled), rtol=1e-4, atol=1e-5)


def test_it_shows_itself() -> None:
    model = SparseBayesRegressor(hidden=(20, 20), steps=100)
    assert repr(model) == "SparseBayesRegressor(hidden=(20, 20), steps=100)"
    assert "SparseBayesRegressor" in model._repr_html_()


def test_progress_is_shown_on_demand(capfd: pytest.CaptureFixture[str]) -> None:
    tiny()
    assert capfd.readouterr().err == ""
    tiny(verbose=1)
    assert "dense" in capfd.readouterr().err


# ---- weights of rows -------------------------------------------------------------------------------------------------


def test_rows_of_weight_zero_are_left_out_and_weights_of_one_are_none() -> None:
    counts = np.arange(len(X)) % 3 != 0
    weighted, fewer = tiny().fit(X, Y, sample_weight=counts), tiny().fit(X[counts], Y[counts])
    np.testing.assert_array_equal(weighted.predict(X), fewer.predict(X))
    same = SparseBayesRegressor(**TINY).fit(X, Y, sample_weight=np.ones(len(X)))
    np.testing.assert_array_equal(same.predict(X), tiny().predict(X))


def test_heavy_rows_decide() -> None:
    """Rows that contradict each other: predictions follow those of the larger weight."""
    x, y = np.tile(np.linspace(-1, 1, 60)[:, None], (2, 1)), np.repeat([1.0, -1.0], 60)
    weight = np.where(y > 0, 1.9, 0.1)
    model = SparseBayesRegressor(**LEARNING).fit(x, y, sample_weight=weight)
    assert model.predict(x).mean() == pytest.approx(0.9, abs=0.15)
    assert abs(SparseBayesRegressor(**LEARNING).fit(x, y).predict(x).mean()) < 0.15
    classes = SparseBayesClassifier(**LEARNING).fit(x, y > 0, sample_weight=weight)
    assert classes.predict_proba(x)[:, 1].mean() == pytest.approx(0.95, abs=0.05)
    assert classes.score(x, y > 0, sample_weight=weight) == pytest.approx(0.95)


@pytest.mark.usefixtures("short_ensembles")
@pytest.mark.filterwarnings("ignore:the chains of the refined network")
def test_a_weighted_fit_is_refined_with_its_weights() -> None:
    x, y = np.tile(np.linspace(-1, 1, 60)[:, None], (2, 1)), np.repeat([1.0, -1.0], 60)
    model = tiny(refine=SHORT, steps=50).fit(x, y, sample_weight=np.where(y > 0, 1.9, 0.1))
    assert model.refined_ is not None and isinstance(model.refined_.model.likelihood, RowWeights)
    assert model.predict(x).mean() > 0.4
    assert model.feature_importances_.shape == (1,)


def test_weights_are_checked() -> None:
    for weight, message in (
        (np.full(len(X), -1.0), "Negative values"),
        (np.r_[1.0, np.zeros(len(X) - 1)], "sample_weight must be positive in at least 2 rows, got 1"),
        (np.ones(3), "inconsistent numbers of samples|sample_weight.shape"),
    ):
        with pytest.raises(ValueError, match=message):
            SparseBayesRegressor(**TINY).fit(X, Y, sample_weight=weight)
    with pytest.warns(UserWarning, match="sample_weight sums to 1 for 120 rows, which then count as so few: divide it"):
        SparseBayesRegressor(**TINY).fit(X, Y, sample_weight=np.full(len(X), 1 / len(X)))


def test_a_class_without_weight_is_none() -> None:
    x, y = names()
    model = SparseBayesClassifier(**TINY).fit(x, np.r_[["other"], y[1:]], sample_weight=np.r_[0.0, np.ones(len(x) - 1)])
    assert model.classes_.tolist() == ["down", "up"]


# ---- refined ---------------------------------------------------------------------------------------------------------
SHORT = Refinement(plan=SamplingPlan(kernel="mclmc", chains=3, warmup=40, draws=6, thinning=2), until=None)


@pytest.fixture
def short_ensembles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "train_ensemble", partial(train_ensemble, steps=200))


@pytest.mark.usefixtures("short_ensembles")
def test_predictions_are_of_the_refined_posterior_where_there_is_one() -> None:
    with pytest.warns(ConvergenceWarning, match="chains of the refined network have not mixed: R-hat .* refine='no'"):
        model = tiny(refine=SHORT)
    assert model.refined_ is not None and model.refined_.num_draws == 18 and model.not_refined_ == ""
    scaled = torch.from_numpy((X - X.mean(0)) / X.std(0)).float()
    expected = model.refined_.predict(scaled).numpy() * Y.std() + Y.mean()
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-5)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert again.refined_.num_draws == 18


def test_what_is_not_refined_says_why() -> None:
    assert tiny().refined_ is None
    assert tiny().not_refined_ == "refine='no'"
    many = SparseBayesRegressor(**{**TINY, "refine": "auto"}).fit(*numbers(6_000))
    assert "less than 0.01: their uncertainty is small beside the noise" in many.not_refined_
