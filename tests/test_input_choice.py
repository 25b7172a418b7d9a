"""Inputs that the sampled network can do without."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from bnn_pyro.inference.mcmc import starts
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.training.ensemble import train_ensemble
from bnn_pyro.input_choice import InputChoice, Trial, choose_inputs, permutation_importance
from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.priors import Gaussian, SpikeSlab
from bnn_pyro.refinement import Refinement
from guides import AutoSpikeSlab
from tests.models import DOUBLE
from tests.pruning.masks import set_gates

ROWS, FEATURES = 120, 6
NEEDED = {1, 4}
PLAN = SamplingPlan(kernel="mclmc", chains=4, warmup=300, draws=20, thinning=10)
SETTINGS = Refinement(plan=PLAN, until=None)
Rows = tuple[Tensor, Tensor]


def problem(**options: Any) -> tuple[GuidePosterior, Rows, Rows]:
    """A guide that was not trained, of which one hidden node is closed; two of six inputs matter."""
    torch.manual_seed(0)
    x = torch.randn(ROWS + 80, FEATURES, dtype=DOUBLE)
    y = (2 * x[:, 1]).sin() + x[:, 4] + 0.1 * torch.randn(len(x), dtype=DOUBLE)
    prior = SpikeSlab(Gaussian(), inclusion=0.5)
    net = mlp(FEATURES, (6,), 1).double()
    model = SparseNetwork(net, x[:2], prior=prior, likelihood=GaussianNoise(), num_data=ROWS, **options)
    posterior = GuidePosterior(model, AutoSpikeSlab(model.prior))
    set_gates(posterior, {"hidden1": torch.arange(6) < 5, "inputs": torch.arange(FEATURES) != 0})
    return posterior, (x[:ROWS], y[:ROWS]), (x[ROWS:], y[ROWS:])


@pytest.fixture(autouse=True)
def short_ensembles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "train_ensemble", partial(train_ensemble, steps=600))


def chosen(**options: Any) -> InputChoice:
    posterior, train, held_out = problem(select_inputs=options.pop("select_inputs", False))
    return choose_inputs(posterior, train, held_out, SETTINGS, seed=0, progress=False, **options)


def numbers(inputs: Tensor) -> set[int]:
    return set(inputs.nonzero().flatten().tolist())


def test_the_inputs_that_matter_are_found() -> None:
    found = chosen()
    assert numbers(found.inputs) >= NEEDED and len(numbers(found.inputs)) <= 3
    assert set(found.importance.topk(2).indices.tolist()) == NEEDED
    assert found.refined.model.selection is not None
    assert set(found.refined.model.selection.tolist()) == numbers(found.inputs)
    assert 2 <= len(found.trials) <= 3 and all(len(trial.inputs) == FEATURES for trial in found.trials)
    _, _, (x, y) = problem()
    assert found.refined.evaluate(x, y)["rmse"] < 0.3
    shifted = torch.where(found.inputs, x, 5.0)
    torch.testing.assert_close(found.refined.predict(shifted), found.refined.predict(x))


def test_inputs_that_gates_have_dropped_stay_so_and_an_order_is_kept_to() -> None:
    """Of an order that has what matters first and last all inputs are needed."""
    order = torch.tensor([4, 0, 2, 3, 5, 1])
    found = chosen(select_inputs=True, order=order)
    assert numbers(found.inputs) == {1, 2, 3, 4, 5} and float(found.importance[0]) == 0
    assert all(numbers(trial.inputs) <= {2, 3, 4, 5} and not trial.is_harmless for trial in found.trials)


def test_importance_of_what_is_not_read_is_0() -> None:
    posterior, _, (x, y) = problem(select_inputs=True)
    found = permutation_importance(posterior.shrink(), x, y)
    assert float(found[0]) == 0 and (found[1:] != 0).all()


def test_harmless_is_a_loss_within_one_standard_error() -> None:
    inputs = torch.ones(2, dtype=torch.bool)
    assert [Trial(inputs, loss, 0.1).is_harmless for loss in (-0.2, 0.05, 0.2)] == [True, True, False]


def test_refuses() -> None:
    with pytest.raises(ValueError, match="order must have each of the numbers 0 to 5 once"):
        chosen(order=torch.tensor([0, 1, 2, 3, 4, 4]))
    posterior, train, (x, y) = problem()
    with pytest.raises(ValueError, match=r"held_out must have inputs of shape \(rows, features\)"):
        choose_inputs(posterior, train, (x.unsqueeze(1), y), SETTINGS)
