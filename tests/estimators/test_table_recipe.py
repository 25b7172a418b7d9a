"""An estimator's parameters as a recipe."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bnn_pyro.estimators.table_recipe import table_recipe
from bnn_pyro.recipes import recipe
from bnn_pyro.refinement import Refinement


def test_without_parameters_it_is_that_of_the_command_line() -> None:
    assert table_recipe("regression", 500) == recipe("any.csv", "ss-ghs", "regression", rows=500)
    one_input = recipe("any.csv", "ss-ghs", "regression", rows=500, inputs=1)
    assert table_recipe("regression", 500, inputs=1) == one_input != table_recipe("regression", 500)
    usual = recipe("any.csv", "ss-ghs", "classification", rows=500)
    assert table_recipe("classification", 500) == usual
    assert table_recipe("classification", 500, refine="no") == replace(usual, refinement=None, refine_if_worth=False)


def test_parameters_take_the_place_of_defaults() -> None:
    """Also those of a grid of numpy's numbers."""
    grid: dict[str, Any] = {"hidden": np.int64(7), "kl_weight": np.float32(0.5)}
    found = table_recipe("regression", 500, prior="ss-gl", select_inputs=True, **grid)
    assert (found.prior, found.hidden, found.kl_weight, found.select_inputs) == ("ss-gl", (7,), 0.5, True)
    assert found.schedule.frozen_kl_weight is None and found.least_kl_weight is None
    assert table_recipe("regression", 500, hidden=[9, 8]).hidden == (9, 8)


@pytest.mark.parametrize("steps", [1, 100, 4_000])
def test_steps_are_as_many_in_both_trainings_up_to_an_epoch(steps: int) -> None:
    found = table_recipe("regression", 500, steps=steps)
    for epochs, size in ((found.epochs, found.batch_size), (found.dense.epochs, found.dense.batch_size)):
        batches = -(-500 // size)
        assert abs(epochs * batches - steps) <= max(batches / 2, batches - steps)
    assert found.schedule.hold + found.schedule.freeze <= found.epochs


def test_refining_is_asked_for_in_words_bools_or_by_settings() -> None:
    own, usual = Refinement(until=None), recipe("any.csv", rows=500).refinement
    wanted: list[tuple[Any, Refinement | None, bool]] = [
        ("auto", usual, True),
        ("yes", usual, False),
        (True, usual, False),
        ("no", None, False),
        (False, None, False),
        (own, own, False),
    ]
    for refine, refinement, if_worth in wanted:
        found = table_recipe("regression", 500, refine=refine)
        assert (found.refinement, found.refine_if_worth) == (refinement, if_worth)


@pytest.mark.parametrize(
    ("parameters", "kind", "message"),
    [
        ({"prior": "ghost"}, ValueError, "prior must be one of .*, got 'ghost'"),
        ({"prior": None}, TypeError, "prior must be the name of a prior, got None"),
        ({"prior": "ghs", "select_inputs": True}, ValueError, "select_inputs and inclusion need a prior with gates"),
        ({"hidden": "50,50"}, TypeError, "hidden must be a whole number or a sequence of them, or None, got '50,50'"),
        ({"hidden": ()}, TypeError, r"hidden must be a whole number .*, got \(\)"),
        ({"hidden": 2.5}, TypeError, "hidden must be a whole number .*, got 2.5"),
        ({"hidden": 0}, ValueError, "0"),
        ({"kl_weight": 0}, ValueError, "kl_weight must be positive and finite, got 0.0"),
        ({"kl_weight": "1"}, TypeError, "kl_weight must be a number or None, got '1'"),
        ({"refine": "maybe"}, ValueError, "refine must be auto, no, yes, a bool or a Refinement, got 'maybe'"),
        ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
        ({"steps": 10.0}, TypeError, "steps must be a whole number or None, got 10.0"),
    ],
)
def test_what_is_wrong_is_named(parameters: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        table_recipe("regression", 500, **parameters)
