"""Steps of Pyro's own SVI: those of an SVI by hand, and an optimiser's state that can be taken over."""

import copy
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI
from pyro.optim import Adam  # type: ignore[attr-defined]

from bnn_pyro.inference import SparseELBO
from bnn_pyro.inference.svi.loss import Loss
from bnn_pyro.inference.svi.pyro_step import PyroStep
from bnn_pyro.posterior.guide import GuidePosterior, copies
from bnn_pyro.pruning.shrink import shrink
from tests.inference.svi.test_fit import X, Y, is_same, state
from tests.posterior.test_guide import posterior_of


def steps(posterior: GuidePosterior, seeds: range, saved: Any = None) -> Any:
    """Steps on a posterior, whose parameters move, with a state of the optimiser to begin with; returns the step."""
    with pyro.get_param_store().scope(), pyro.validation_enabled(False):
        step = PyroStep(Loss(posterior.model, posterior.guide, SparseELBO()), Adam({"lr": 0.05}))
        if saved is not None:
            step.load_state(saved)
        for seed in seeds:
            torch.manual_seed(seed)
            step(X, Y, 0.7, 1.0)
        return copy.deepcopy(step.state())


def test_is_a_step_of_svi_at_the_weight() -> None:
    posterior = posterior_of()
    ours, theirs = (GuidePosterior(*copies(posterior.model, posterior.guide)) for _ in range(2))
    steps(ours, range(3))
    with pyro.get_param_store().scope(), pyro.validation_enabled(False):
        svi = SVI(theirs.model, theirs.guide, Adam({"lr": 0.05}), SparseELBO(kl_weight=0.7))
        for seed in range(3):
            torch.manual_seed(seed)
            svi.step(X, Y)
    assert is_same(state(ours), state(theirs))


def test_the_state_is_taken_over() -> None:
    """Four steps are two, and two more by another step with the state of the first; not so without it."""
    posterior = posterior_of()
    whole, parts, without = (GuidePosterior(*copies(posterior.model, posterior.guide)) for _ in range(3))
    steps(whole, range(4))
    steps(parts, range(2, 4), steps(parts, range(2)))
    steps(without, range(2))
    steps(without, range(2, 4))
    assert is_same(state(parts), state(whole)) and not is_same(state(without), state(whole))


def test_refuses_to_be_cut() -> None:
    posterior = posterior_of()
    step = PyroStep(Loss(posterior.model, posterior.guide, SparseELBO()), Adam({"lr": 0.05}))
    with pytest.raises(ValueError, match="shrink_below needs a torch optimiser"):
        step.moved_to(shrink(posterior.model, posterior.guide, posterior.keep()))
