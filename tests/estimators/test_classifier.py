"""SparseBayesClassifier as scikit-learn asks, and what it predicts."""

import doctest
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.metrics import log_loss
from sklearn.utils.estimator_checks import parametrize_with_checks

import bnn_pyro.estimators.classifier
from bnn_pyro.estimators import SparseBayesClassifier
from tests.estimators.tables import LEARNING, NOT_PASSED, TINY, names


@parametrize_with_checks([SparseBayesClassifier(**TINY)], expected_failed_checks=lambda _: NOT_PASSED)  # type: ignore[untyped-decorator]
def test_it_is_an_estimator_of_scikit_learn(estimator: SparseBayesClassifier, check: Callable[..., Any]) -> None:
    """But for those of `NOT_PASSED` no check is left out; that of what is learnt has the steps to learn it in."""
    if check.func.__name__ == "check_classifiers_train":  # type: ignore[attr-defined]
        estimator.set_params(**LEARNING)
    check(estimator)


def test_the_example_runs() -> None:
    assert doctest.testmod(bnn_pyro.estimators.classifier).failed == 0


def test_probabilities_are_of_the_classes_in_their_order() -> None:
    x, y = names()
    model = SparseBayesClassifier(**LEARNING).fit(x, y)
    assert model.classes_.tolist() == ["down", "up"]
    probabilities = model.predict_proba(x)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (probabilities[:, 1] > 0.5).tolist() == (model.predict(x) == "up").tolist()
    assert model.score(x, y) > 0.9
    assert log_loss(y, probabilities) < 0.4
    pruned = model.classes_[model.prune()(torch.from_numpy(x)).argmax(1)]
    assert (pruned == model.predict(x)).mean() > 0.95


def test_three_classes_of_a_frame() -> None:
    x, y = load_iris(return_X_y=True, as_frame=True)
    model = SparseBayesClassifier(**LEARNING).fit(x, y)
    assert model.feature_names_in_.tolist() == list(x.columns)
    assert model.predict_proba(x).shape == (150, 3)
    assert model.score(x, y) > 0.8


@pytest.mark.parametrize(
    ("targets", "message"),
    [(["one"] * 120, "at least two classes .* got one class"), (np.linspace(0, 1, 120), "Unknown label type")],
)
def test_targets_that_are_no_classes_are_refused(targets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SparseBayesClassifier(**TINY).fit(names()[0], targets)
