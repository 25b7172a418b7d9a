"""Small tables, and estimators that are fitted to them in a second."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnn_pyro.estimators import SparseBayesClassifier, SparseBayesRegressor

TINY: dict[str, Any] = {"steps": 1, "refine": "no", "hidden": 8, "random_state": 0}
"""Parameters of a fit that learns nothing."""

LEARNING: dict[str, Any] = {"steps": 50, "refine": "no", "hidden": 300, "random_state": 0}
"""Parameters of a fit that learns what is easy: wide networks do so in few steps."""

NOT_PASSED = {
    name: "batches are drawn of rows: a row of weight 2 is in one of them, and a row given twice may be in two"
    for name in ("check_sample_weight_equivalence_on_dense_data",)
}
"""Checks of scikit-learn that are left out, and why."""

Rows = tuple[NDArray[np.float64], NDArray[np.float64]]


def numbers(rows: int = 120) -> Rows:
    """A target of the first of three inputs, in units far from those of the network."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 3)) * [1.0, 100.0, 0.01] + [0.0, 1_000.0, 5.0]
    return x, 500.0 + 20.0 * x[:, 0] + rng.normal(size=rows)


def names(rows: int = 120) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Two classes with names, by the sign of the first of three inputs."""
    x, _ = numbers(rows)
    return x, np.where(x[:, 0] > 0, "up", "down")


def tiny(**changes: Any) -> SparseBayesRegressor:
    """A regressor that is fitted by a single step."""
    return SparseBayesRegressor(**{**TINY, **changes}).fit(*numbers())


def tiny_classifier(**changes: Any) -> SparseBayesClassifier:
    """A classifier that is fitted by a single step."""
    return SparseBayesClassifier(**{**TINY, **changes}).fit(*names())
