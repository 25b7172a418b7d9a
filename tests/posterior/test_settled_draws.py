"""Draws of a network with BatchNorm, each with running statistics of its own."""

import pytest
import torch

from bnn_pyro.posterior.batch_norm import settle_batch_norm
from bnn_pyro.posterior.settled_draws import SettledDraws
from bnn_pyro.pruning.batch_norm import recompute_batch_norm
from tests.posterior.test_guide import posterior_of
from tests.test_network import inputs


def test_nodes_that_no_draw_has_are_left_out() -> None:
    posterior = posterior_of("residual convolutions")
    posterior.guide.logits.stem.gate.data[:2] = -30.0
    posterior.guide.logits.expand.gate.data[:] = -30.0  # a layer without a node
    settle_batch_norm(posterior, inputs(40), draws=5)
    assert posterior.settled is not None
    assert posterior.settled.keep["stem"].tolist()[:2] == [False, False]
    assert not posterior.settled.keep["expand"].any()
    small = posterior.settled.drawn.model.net
    assert small.get_parameter("stem.weight").shape[0] == int(posterior.settled.keep["stem"].sum())
    assert posterior.model.net.get_parameter("stem.weight").shape[0] == 4
    assert torch.isfinite(posterior.predict(inputs())).all()


def test_statistics_are_those_of_each_draw() -> None:
    posterior, x = posterior_of("residual convolutions"), inputs(40)
    found = SettledDraws.settled(posterior.model, posterior.draw_values(3), x).drawn
    for number in range(3):
        net = found.model.net
        net.load_state_dict({**net.state_dict(), **{name: value[number] for name, value in found.tensors.items()}})
        again = recompute_batch_norm(net, x).state_dict()
        for name, value in found.tensors.items():
            torch.testing.assert_close(again[name], value[number])
    assert any("running_mean" in name for name in found.tensors)


def test_draws_of_another_network_are_refused() -> None:
    posterior = posterior_of("residual convolutions")
    settle_batch_norm(posterior, inputs(40), draws=2)
    assert posterior.settled is not None
    keep, drawn = posterior.settled.keep, posterior.settled.drawn
    again = SettledDraws.of(posterior.model, keep, drawn.tensors, None)
    assert torch.equal(again.drawn.outputs(inputs(), 1024), drawn.outputs(inputs(), 1024))
    for name in ("norm.running_mean", "other"):
        with pytest.raises(ValueError, match=f"draws must be of the network's tensors, .* here, got '{name}' of shape"):
            SettledDraws.of(posterior.model, keep, {name: torch.zeros(2, 9)}, None)
