"""The steps of SVI: learning rates by role, clipping, and a state that is cut with the parameters."""

import math
from typing import Any

import pyro
import pytest
import torch
from torch import nn

from bnn_pyro import fit
from bnn_pyro.inference import LearningRates, SparseELBO
from bnn_pyro.inference.steps import stepper
from bnn_pyro.priors import GroupHorseshoe, SpikeSlab
from bnn_pyro.pruning import shrink
from tests.inference.test_svi import STILL, X, Y, spy
from tests.test_network import network
from tests.test_posterior import posterior_of


def test_learning_rates_by_role_and_their_decay() -> None:
    seen, factory = spy()
    rates = LearningRates(slab_locs=1e-3, slab_scales=2e-3, scales=3e-3, gates=4e-3, points=5e-3)
    model = network("normed", prior=SpikeSlab(GroupHorseshoe(), inclusion=0.3))
    fit(model, (X, Y), epochs=4, batch_size=6, decay=0.5, learning_rates=rates, optimizer=factory, seed=0)
    expected = {"slab_locs": 1e-3, "slab_scales": 2e-3, "scales": 3e-3, "gates": 4e-3, "points": 5e-3}
    factors = [1, 1, 1, 1, 1, *(0.5 * (1 + math.cos(math.pi * i / 4)) for i in (1, 2, 3))]
    for step, factor in zip(seen, factors, strict=True):
        assert step["rates"] == pytest.approx({role: rate * factor for role, rate in expected.items()})


def test_the_gradient_is_clipped() -> None:
    norms = []
    for clip_norm in (None, 0.5):
        seen, factory = spy()
        options: dict[str, Any] = {"epochs": 1, "optimizer": factory, "learning_rates": STILL, "seed": 0}
        fit(network(), (X, Y), clip_norm=clip_norm, **options)
        norms.append(seen[0]["norm"])
    assert norms[0] > 1 and norms[1] == pytest.approx(0.5, rel=1e-4)


def test_the_optimisers_state_is_cut_with_the_parameters() -> None:
    posterior = posterior_of("normed", prior=SpikeSlab(GroupHorseshoe(), inclusion=0.3), select_inputs=True)
    factory: Any = torch.optim.Adam
    step: Any = stepper(posterior.model, posterior.guide, factory, SparseELBO(), LearningRates(), None)
    step(X, Y, 1.0, 1.0)
    shrunk = shrink(posterior.model, posterior.guide, posterior.keep())
    new = step.moved_to(shrunk)
    old = {name: step.optimizer.state[p] for name, p in named(posterior.model, posterior.guide).items()}
    cut = {**shrunk.guide_positions, **{f"net.{name}": dims for name, dims in shrunk.net_positions.items()}}
    for name, parameter in named(shrunk.model, shrunk.guide).items():
        assert new.optimizer.state[parameter]["step"] == 1
        for key in ("exp_avg", "exp_avg_sq"):
            expected = old[name][key]
            for dim, kept in cut.get(name, {}).items():
                expected = expected.index_select(dim, kept)
            assert torch.equal(new.optimizer.state[parameter][key], expected) and expected.shape == parameter.shape
    before = {name: p.detach().clone() for name, p in named(shrunk.model, shrunk.guide).items()}
    pyro.clear_param_store()
    new(X, Y, 1.0, 1.0)
    moved = [name for name, p in named(shrunk.model, shrunk.guide).items() if not torch.equal(p, before[name])]
    assert len(moved) == len(before)


def named(model: Any, guide: Any) -> dict[str, nn.Parameter]:
    """What is trained, by name."""
    return {**dict(guide.named_parameters()), **{n: p for n, p in model.named_parameters() if p.requires_grad}}
