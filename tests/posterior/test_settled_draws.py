"""Draws with statistics of their own, in a network of the nodes that one of them has at least."""

import pytest
import torch

from bnn_pyro.posterior.batch_norm import settle_batch_norm
from bnn_pyro.posterior.settled_draws import SettledDraws
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
