"""Options travel as objects: no public call has many, and none is typed twice."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import bnn_pyro
import bnn_pyro.inference
from bnn_pyro import (
    Compute,
    LearningRates,
    OneShot,
    Refinement,
    SamplingPlan,
    Schedule,
    SparseELBO,
    fit,
    fit_sghmc,
    recipes,
    refine,
    sample,
    train_dense,
)

MOST = 17
CALLS: dict[str, Callable[..., Any]] = {
    name: call
    for package in (bnn_pyro, bnn_pyro.inference, recipes)
    for name in package.__all__
    if callable(call := getattr(package, name)) and call is not recipes.Recipe  # a record of a whole job
}


def options(call: Callable[..., Any]) -> set[str]:
    """What a call may be given by name, and need not be given."""
    empty = inspect.Parameter.empty
    return {name for name, given in inspect.signature(call).parameters.items() if given.default is not empty}


def test_the_calls_are_there() -> None:
    assert {"fit", "sample", "fit_sghmc", "train_dense", "prune", "SamplingPlan", "recipe"} <= CALLS.keys()


@pytest.mark.parametrize("name", CALLS)
def test_no_public_call_has_many_options(name: str) -> None:
    assert len(options(CALLS[name])) <= MOST


@pytest.mark.parametrize(
    ("call", "groups"),
    [
        (fit, (Schedule, LearningRates, Compute, SparseELBO)),
        (train_dense, (Compute,)),
        (sample, (SamplingPlan,)),
        (fit_sghmc, (OneShot,)),
        (refine, (Refinement,)),
        (recipes.Recipe, (Schedule, LearningRates)),
    ],
)
def test_no_option_is_typed_twice(call: Callable[..., Any], groups: tuple[Callable[..., Any], ...]) -> None:
    """But for the KL weight, which a SparseELBO has where Pyro's SVI uses it, and ``fit`` has anyway."""
    shared = {name for group in groups for name in options(group) & options(call)}
    assert shared <= {"kl_weight"}


@pytest.mark.parametrize("call", [fit, sample, fit_sghmc, train_dense])
def test_options_are_given_by_name(call: Callable[..., Any]) -> None:
    """After the model, the data and the plan."""
    parameters = inspect.signature(call).parameters
    positional = [name for name, given in parameters.items() if given.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert positional in (["model", "data"], ["model", "data", "plan"], ["net", "data"])
