"""SparseBayesRegressor as scikit-learn asks, and what it predicts."""

import doctest
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import bnn_pyro.estimators.regressor
from bnn_pyro.estimators import SparseBayesRegressor
from tests.estimators.tables import LEARNING, NOT_PASSED, TINY, numbers


@parametrize_with_checks([SparseBayesRegressor(**TINY)], expected_failed_checks=lambda _: NOT_PASSED)  # type: ignore[untyped-decorator]
def test_it_is_an_estimator_of_scikit_learn(estimator: SparseBayesRegressor, check: Callable[..., Any]) -> None:
    """But for those of `NOT_PASSED` no check is left out; that of what is learnt has the steps to learn it in."""
    if check.func.__name__ == "check_regressors_train":  # type: ignore[attr-defined]
        estimator.set_params(**LEARNING)
    check(estimator)


def test_the_example_runs() -> None:
    assert doctest.testmod(bnn_pyro.estimators.regressor).failed == 0


def test_it_learns_in_cross_validation() -> None:
    x, y = load_diabetes(return_X_y=True)
    scores = cross_val_score(SparseBayesRegressor(**LEARNING), x, y, cv=2)
    assert scores.min() > 0.3  # linear regression has .44


def test_weights_of_the_divergence_are_searched_in_a_pipeline() -> None:
    x, y = numbers()
    pipeline = make_pipeline(StandardScaler(), SparseBayesRegressor(**TINY))
    search = GridSearchCV(pipeline, {"sparsebayesregressor__kl_weight": [0.1, 1.0]}, cv=2).fit(x, y)
    best = search.best_estimator_[-1]
    assert best.posterior_.kl_weight == search.best_params_["sparsebayesregressor__kl_weight"]
    assert search.predict(x).shape == (120,)
    assert search.best_estimator_.get_feature_names_out(["a", "b", "c"]).tolist() == ["a", "b", "c"]


@pytest.fixture(scope="module")
def fitted() -> SparseBayesRegressor:
    return SparseBayesRegressor(**LEARNING).fit(*numbers())


def test_the_standard_deviation_is_that_of_the_quantiles(fitted: SparseBayesRegressor) -> None:
    """By quadrature over levels; it knows the noise, and grows where there were no rows."""
    x, y = numbers()
    mean, std = fitted.predict(x, return_std=True)
    levels = (np.arange(4_000) + 0.5) / 4_000
    quantiles = fitted.predict_quantiles(x[:10], levels)
    assert quantiles.shape == (10, 4_000)
    np.testing.assert_allclose(quantiles.mean(1), mean[:10], rtol=1e-4)
    np.testing.assert_allclose(quantiles.std(1), std[:10], rtol=1e-2)
    assert (np.diff(quantiles) >= 0).all()
    np.testing.assert_array_equal(fitted.predict(x), mean)
    assert np.corrcoef(mean, y)[0, 1] > 0.9
    assert fitted.score(x, y) > 0.8
    far = np.array([[30.0, 1_000.0, 5.0]])
    assert fitted.predict(far, return_std=True)[1] > 2 * std.mean()


def test_a_level_may_be_one_or_several(fitted: SparseBayesRegressor) -> None:
    x, y = numbers()
    low, middle, high = fitted.predict_quantiles(x).T
    assert (low < middle).all() and (middle < high).all()
    assert 0.8 < ((low < y) & (y < high)).mean() <= 1
    np.testing.assert_array_equal(fitted.predict_quantiles(x, 0.5), middle)
    np.testing.assert_array_equal(fitted.predict_quantiles(x, [0.5]), middle[:, None])
    for wrong in (0.0, 1.0, [0.5, 2.0], [], [[0.5]], float("nan")):
        with pytest.raises(ValueError, match=r"q must be one or several levels in \(0, 1\), got "):
            fitted.predict_quantiles(x, wrong)
    with pytest.raises(NotFittedError):
        SparseBayesRegressor().predict_quantiles(x, 0.5)


def test_a_constant_target_is_predicted() -> None:
    x, _ = numbers()
    model = SparseBayesRegressor(**TINY).fit(x, np.full(len(x), 1e5))
    np.testing.assert_allclose(model.predict(x), 1e5, atol=5)
