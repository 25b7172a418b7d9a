"""Which step an optimiser gets."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyro.optim import Adam  # type: ignore[attr-defined]

from bnn_pyro.inference import LearningRates, SparseELBO
from bnn_pyro.inference.svi.steps import Step, stepper
from bnn_pyro.priors import SpikeSlab
from guides import AutoSpikeSlab
from tests.inference.svi.test_fit import X, Y
from tests.test_network import network


def made(optimizer: Any, clip_norm: float | None = None) -> Step:
    """The step of a small network."""
    model = network(prior=SpikeSlab(inclusion=0.3))
    return stepper(model, AutoSpikeSlab(model.prior), optimizer, SparseELBO(), LearningRates(), clip_norm, "eager")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: made(None), "AdamStep"),
        (lambda: made(None, 1.0), "Adam"),
        (lambda: made(partial(torch.optim.SGD, lr=0.1)), "SGD"),
        (lambda: made(Adam({"lr": 0.1})), "PyroStep"),
    ],
)
def test_every_step_does_what_a_run_asks_of_it(make: Callable[[], Step], name: str) -> None:
    step = make()
    with pyro.get_param_store().scope(), pyro.validation_enabled(False):
        assert step(X, Y, 1.0, 1.0).shape == ()
        assert step.optimizer_name == name and step.compile_seconds == 0 and not step.is_switched
        step.load_state(step.state())
        assert step(X, Y, 1.0, 1.0).isfinite()
        step.release()


def test_disarm_needs_our_elbo() -> None:
    model = network(prior=SpikeSlab(inclusion=0.3))
    guide = AutoSpikeSlab(model.prior, gate_gradient="disarm")
    with pytest.raises(ValueError, match="elbo must be a SparseELBO for a guide with gate_gradient='disarm'"):
        stepper(model, guide, None, Trace_ELBO(), LearningRates(), None)
