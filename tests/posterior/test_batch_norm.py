"""A fitted posterior's BatchNorms have the statistics of the networks it predicts with."""

import copy
import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro import prune
from bnn_pyro.posterior.batch_norm import settle_batch_norm
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.posterior.predictive_net import predictive_net
from bnn_pyro.priors import Gaussian
from bnn_pyro.pruning.batch_norm import recompute_batch_norm
from tests.posterior.test_guide import posterior_of
from tests.pruning.test_batch_norm import buffers
from tests.test_network import inputs


def settled(net: str | nn.Module = "residual convolutions", draws: int = 5, **options: Any) -> GuidePosterior:
    """A posterior with draws that have statistics of their own."""
    posterior = posterior_of(net, **options)
    settle_batch_norm(posterior, inputs(40), draws=draws)
    return posterior


def by_hand(posterior: GuidePosterior, values: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """What the whole network gives with the values of one draw: with statistics of its own, and in training mode."""
    model = copy.deepcopy(posterior.model)
    gates = {name: values[f"{name}.gate"] for name in model.groups}
    for name, value in model.assemble(values, gates).items():
        model.net.get_parameter(name).data.copy_(value)
    fresh = recompute_batch_norm(model.net.eval(), x)
    return fresh(x).detach(), model.net.train()(x).detach()


NETS: dict[str, Any] = {
    "residual convolutions": {"net": "residual convolutions"},
    "with inputs": {
        "net": nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Sigmoid(), nn.Linear(8, 3)).double(),
        "select_inputs": True,
    },
}


@pytest.mark.parametrize("name", NETS)
def test_each_draw_has_the_statistics_of_its_own_weights(name: str) -> None:
    posterior, x = posterior_of(**NETS[name]), inputs(40)
    state = torch.get_rng_state()
    settle_batch_norm(posterior, x, draws=5)
    torch.set_rng_state(state)
    values = posterior.draw_values(5)
    each = [by_hand(posterior, {site: value[i] for site, value in values.items()}, x) for i in range(5)]
    settled, in_training = (torch.stack(outputs) for outputs in zip(*each, strict=True))
    (drawn,) = posterior.network_draws()
    torch.testing.assert_close(drawn.outputs(x, 1024), settled, rtol=0, atol=1e-10)
    torch.testing.assert_close(posterior.predict(x), settled.softmax(-1).mean(0), rtol=0, atol=1e-10)
    posterior.settled = None
    torch.set_rng_state(state)
    (unsettled,) = posterior.network_draws(num_samples=5)
    error = (drawn.outputs(x, 1024) - in_training).abs().max()  # the variances of batches are biased
    assert error < (unsettled.outputs(x, 1024) - in_training).abs().max() / 5


def test_predictions_are_of_the_draws_that_are_held() -> None:
    posterior, x = settled(), inputs()
    assert posterior.num_draws == 5
    drawn: Any = posterior.predict(x, return_draws=True)
    assert drawn.draws.shape == (5, 12, 3)
    torch.testing.assert_close(posterior.predict(x, num_samples=2), drawn.draws[:2].mean(0))
    torch.testing.assert_close(posterior.predict(x, num_samples=99), drawn.draws.mean(0))
    torch.testing.assert_close(posterior.predict(x, batch_size=5), drawn.draws.mean(0))
    torch.testing.assert_close(predictive_net(posterior, draws=5)(x), drawn.draws.mean(0))
    assert (drawn.draws[0] - drawn.draws[1]).abs().max() > 1e-3  # no two draws are one


def test_few_draws_are_kept_of_a_large_network(monkeypatch: pytest.MonkeyPatch) -> None:
    posterior = posterior_of("residual convolutions")
    one = sum(posterior.model.net.get_parameter(p.name).numel() for p in posterior.model.bayesian) * 8
    monkeypatch.setattr("bnn_pyro.posterior.memory._HELD_BYTES", 3 * one)
    settle_batch_norm(posterior, inputs(40))
    assert posterior.num_draws == 3


def test_draws_without_statistics_of_their_own_are_told(caplog: pytest.LogCaptureFixture) -> None:
    posterior = posterior_of("residual convolutions")
    with caplog.at_level(logging.WARNING):
        posterior.predict(inputs(), num_samples=2)
        posterior.predict(inputs(), num_samples=2)
    assert [record.getMessage()[:47] for record in caplog.records] == [
        "the draws of this network with BatchNorm have t"
    ]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        settled().predict(inputs())
        posterior_of().predict(inputs(), num_samples=2)
    assert not caplog.records


def test_a_shrunk_posterior_makes_draws_afresh() -> None:
    posterior = settled()
    assert posterior.shrink().settled is None


def test_frozen_statistics_stay() -> None:
    """Draws then have the statistics that the network was fitted with."""
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Sigmoid(), nn.Linear(8, 3)).double()
    net[:2].requires_grad_(False).eval()
    posterior = posterior_of(net, bayesian=lambda name, parameter: name.startswith("3"), prior=Gaussian())
    before = buffers(posterior.model.net)
    settle_batch_norm(posterior, inputs(40))
    assert posterior.settled is None
    assert all(torch.equal(value, before[name]) for name, value in buffers(posterior.model.net).items())


def test_refusals() -> None:
    posterior = posterior_of("residual convolutions")
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        settle_batch_norm(posterior, inputs(), draws=0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        settle_batch_norm(posterior, inputs(), batch_size=0)


@pytest.mark.parametrize("shrunk", [False, True])
def test_a_posterior_is_settled_in_place(shrunk: bool) -> None:
    posterior = posterior_of("residual convolutions")
    posterior = posterior.shrink() if shrunk else posterior
    before, x = buffers(posterior.model.net), inputs(40)
    settle_batch_norm(posterior, x, batch_size=20)
    after = buffers(posterior.model.net)
    assert not any(torch.equal(after[name], before[name]) for name in before)
    expected = recompute_batch_norm(posterior.median_model(), x, batch_size=20)
    torch.testing.assert_close(prune(posterior)(x), expected(x), rtol=0, atol=1e-12)


def test_a_posterior_that_has_lost_inputs_is_settled() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Sigmoid(), nn.Linear(8, 3)).double()
    posterior = posterior_of(net, select_inputs=True)
    small = posterior.shrink(keep={"inputs": torch.arange(6) != 2, "0": torch.arange(8) < 5})
    assert small.model.selection is not None
    settle_batch_norm(small, inputs(40))
    hidden = small.model.net.get_submodule("1")
    first = small.median_model().get_submodule("network.0")
    expected = first(inputs(40)[:, small.model.selection]).mean(0)
    torch.testing.assert_close(hidden.running_mean, expected)


def test_a_posterior_without_batch_norms_is_left_alone() -> None:
    posterior = posterior_of()
    state = copy.deepcopy(posterior.model.state_dict())
    settle_batch_norm(posterior, inputs())
    assert all(torch.equal(value, state[name]) for name, value in posterior.model.state_dict().items())
