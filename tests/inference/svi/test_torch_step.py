"""Steps of torch's optimisers: learning rates by role, clipping, and a state that is cut with the parameters."""

import copy
import math
from functools import partial
from typing import Any

import pyro
import pytest
import torch

from bnn_pyro import fit
from bnn_pyro.inference import LearningRates, Schedule, SparseELBO
from bnn_pyro.inference.svi.loss import Loss
from bnn_pyro.inference.svi.torch_step import TorchStep
from bnn_pyro.posterior.guide import copies
from bnn_pyro.priors import GroupHorseshoe, SpikeSlab
from bnn_pyro.pruning.shrink import shrink
from tests.inference.svi.test_adam_step import batch_normed, everything, named, posterior_of_model, run
from tests.inference.svi.test_fit import STILL, X, Y, spy
from tests.posterior.test_guide import posterior_of
from tests.recorded import assert_same, on, recorded
from tests.test_network import network


def test_learning_rates_by_role_and_their_decay() -> None:
    seen, factory = spy()
    rates = LearningRates(slab_locs=1e-3, slab_scales=2e-3, scales=3e-3, gates=4e-3, points=5e-3)
    model = network("normed", prior=SpikeSlab(GroupHorseshoe(), inclusion=0.3))
    fit(model, (X, Y), epochs=4, batch_size=6, schedule=Schedule(decay=0.5), rates=rates, optimizer=factory, seed=0)
    expected = {"slab_locs": 1e-3, "slab_scales": 2e-3, "scales": 3e-3, "gates": 4e-3, "points": 5e-3}
    factors = [1, 1, 1, 1, 1, *(0.5 * (1 + math.cos(math.pi * i / 4)) for i in (1, 2, 3))]
    for step, factor in zip(seen, factors, strict=True):
        assert step["rates"] == pytest.approx({role: rate * factor for role, rate in expected.items()})


def test_options_of_the_optimiser_are_told_by_role() -> None:
    posterior = posterior_of()
    step = TorchStep(Loss(posterior.model, posterior.guide, SparseELBO()), STILL, partial(torch.optim.Adam, eps=1e-3))
    found: Any = step.optimizer_settings
    assert found.keys() == {"slab_locs", "slab_scales", "gates"}
    assert found["gates"]["eps"] == 1e-3 and found["gates"]["lr"] == 0
    assert not {"params", "fused", "foreach"} & found["gates"].keys()


def test_the_gradient_is_clipped() -> None:
    norms = []
    for clip_norm in (None, 0.5):
        seen, factory = spy()
        options: dict[str, Any] = {"epochs": 1, "optimizer": factory, "rates": STILL, "seed": 0}
        fit(network(), (X, Y), clip_norm=clip_norm, **options)
        norms.append(seen[0]["norm"])
    assert norms[0] > 1 and norms[1] == pytest.approx(0.5, rel=1e-4)


def test_the_optimisers_state_is_cut_with_the_parameters() -> None:
    posterior = posterior_of("normed", prior=SpikeSlab(GroupHorseshoe(), inclusion=0.3), select_inputs=True)
    loss = Loss(posterior.model, posterior.guide, SparseELBO())
    step = TorchStep(loss, LearningRates(), torch.optim.Adam)
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


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_clipping_and_fused_kernels_get_gradients_that_they_can_read(clip_norm: float | None) -> None:
    """A gradient may be a transpose, or one number repeated; ten steps as with plain Adam on gradients of backward."""
    posterior = posterior_of_model(batch_normed())
    (model, guide), (twin, twin_guide) = (copies(posterior.model, posterior.guide) for _ in range(2))
    fused: Any = partial(torch.optim.Adam, fused=True)
    step = TorchStep(Loss(model, guide, SparseELBO()), LearningRates(), fused, clip_norm, "eager")
    parameters = [p for p in [*twin.parameters(), *twin_guide.parameters()] if p.requires_grad]
    reference = TorchStep(Loss(twin, twin_guide, SparseELBO()), LearningRates(), torch.optim.Adam)
    groups = reference.optimizer.param_groups
    plain = torch.optim.Adam(groups, fused=False, foreach=False)
    for _ in range(3):
        _, noise = recorded(lambda: run(step, "free", 1.0, 1.0))

        def loss() -> None:
            with pyro.get_param_store().scope(), pyro.validation_enabled(False):
                plain.zero_grad()
                (SparseELBO().differentiable_loss(twin, twin_guide, X, Y) / twin.num_data).backward()

        twin_guide.temperature.fill_(0.8)
        on(noise, loss)
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
        plain.step()
        assert_same(everything(step), {**twin_guide.state_dict(), **twin.state_dict()})


def test_the_state_is_taken_over() -> None:
    """Of two steps on the same parameters and noise, the one with the state of the other moves them alike."""
    posterior = posterior_of_model(batch_normed())
    pairs = [copies(posterior.model, posterior.guide) for _ in range(2)]
    steps = [TorchStep(Loss(*pair, SparseELBO()), LearningRates(), torch.optim.Adam, None, "eager") for pair in pairs]
    _, noise = recorded(lambda: run(steps[0], "free", 1.0, 1.0))
    steps[1].load_state(copy.deepcopy(steps[0].state()))
    steps[1].loss.guide.load_state_dict(steps[0].loss.guide.state_dict())
    steps[1].loss.model.load_state_dict(steps[0].loss.model.state_dict())
    for step in steps:
        on(noise, lambda step=step: run(step, "free", 1.0, 1.0))
    assert_same(everything(steps[1]), everything(steps[0]), 0)
