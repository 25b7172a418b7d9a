"""The steps of SVI: learning rates by role, clipping, and a state that is cut with the parameters."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from bnn_pyro import fit
from bnn_pyro.inference import LearningRates, SparseELBO
from bnn_pyro.inference.svi.schedule import Schedule
from bnn_pyro.inference.svi.steps import AdamStep, TorchStep, stepper
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.guide import GuidePosterior, copies
from bnn_pyro.priors import Gaussian, GroupHorseshoe, SpikeSlab
from bnn_pyro.pruning.shrink import shrink
from bnn_pyro.tracing.engine import MANY, Plan
from bnn_pyro.tracing.noise import Noise
from guides import AutoSpikeSlab
from tests.inference.svi.test_fit import STILL, X, Y, spy
from tests.models import perturbed
from tests.posterior.test_guide import posterior_of
from tests.recorded import assert_same, on, recorded
from tests.test_network import network
from tests.tracing.test_engine import fake_compile, needs_a_compiler


def test_learning_rates_by_role_and_their_decay() -> None:
    seen, factory = spy()
    rates = LearningRates(slab_locs=1e-3, slab_scales=2e-3, scales=3e-3, gates=4e-3, points=5e-3)
    model = network("normed", prior=SpikeSlab(GroupHorseshoe(), inclusion=0.3))
    fit(model, (X, Y), epochs=4, batch_size=6, schedule=Schedule(decay=0.5), rates=rates, optimizer=factory, seed=0)
    expected = {"slab_locs": 1e-3, "slab_scales": 2e-3, "scales": 3e-3, "gates": 4e-3, "points": 5e-3}
    factors = [1, 1, 1, 1, 1, *(0.5 * (1 + math.cos(math.pi * i / 4)) for i in (1, 2, 3))]
    for step, factor in zip(seen, factors, strict=True):
        assert step["rates"] == pytest.approx({role: rate * factor for role, rate in expected.items()})


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


# ---- Adam, in all engines --------------------------------------------------------------------------------------------


def batch_normed() -> SparseNetwork:
    """A net with Bayesian layers, and points and running statistics between them."""
    net = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.SiLU(), nn.Linear(4, 3))
    prior = SpikeSlab(Gaussian(), inclusion=0.3)
    return network(net.double(), prior=prior, select_inputs=True, bayesian=lambda name, _: not name.startswith("1."))


SCHEDULE: list[tuple[Any, float, float]] = [
    *[("open", 0.0, 1.0), ("open", 0.2, 1.0), ("free", 0.5, 0.9), ("free", 1.0, 0.7), ("free", 1.0, 0.4)],
    *[("frozen", 0.3, 0.2), ("frozen", 0.3, 0.1)],
]


def run(step: Any, mode: Any, kl_weight: float, rate: float, plan: Plan = MANY) -> float:
    """One step, with a parameter store of its own."""
    step.guide.gate_mode = mode
    step.guide.temperature.fill_(0.3 + 0.5 * rate)
    with pyro.get_param_store().scope(), pyro.validation_enabled(False):
        return float(step(X, Y, kl_weight, rate, plan))


def lent(noise: list[Tensor]) -> Callable[[Noise], list[Tensor]]:
    """What draws given noise, and any for gates that were not drawn."""

    def draw(self: Noise) -> list[Tensor]:
        normal, uniform = (iter([n for n in noise if is_uniform(n) == flag]) for flag in (False, True))
        spare = torch.full((64,), 0.4, dtype=torch.float64)
        return [
            next(normal) if part.law == "normal" else next(uniform, spare[: part.shape.numel()].view(part.shape))
            for part in self.parts
        ]

    return draw


def is_uniform(noise: Tensor) -> bool:
    return bool(((noise >= 0) & (noise < 1)).all())


def everything(step: Any) -> dict[str, Tensor]:
    """Parameters, buffers and all."""
    return {**step.guide.state_dict(), **step.model.state_dict()}


def check_adam(monkeypatch: pytest.MonkeyPatch, engine: Any) -> Any:
    """Seven steps are those of torch.optim.Adam on eager Pyro's gradients, on the same noise."""
    posterior = posterior_of_model(batch_normed())
    rates = LearningRates(*(0.01, 0.02, 0.03, 0.04, 0.05))
    (model, guide), (twin, twin_guide) = (copies(posterior.model, posterior.guide) for _ in range(2))
    for net in (model.net, twin.net):
        net.train()
    reference = TorchStep(twin, twin_guide, torch.optim.Adam, SparseELBO(), rates, None, "eager")
    step = AdamStep(model, guide, SparseELBO(), rates, engine)
    for mode, kl_weight, rate in SCHEDULE:
        gates = guide.logits.inputs.gate.detach().clone()
        expected, noise = recorded(lambda m=mode, k=kl_weight, r=rate: run(reference, m, k, r))
        if engine == "eager":
            found = on(noise, lambda m=mode, k=kl_weight, r=rate: run(step, m, k, r))
        else:
            with monkeypatch.context() as patch:
                patch.setattr(Noise, "draw", lent(noise))
                found = run(step, mode, kl_weight, rate)
        assert found == pytest.approx(expected, rel=1e-9)
        assert_same(everything(step), everything(reference))
        assert torch.equal(gates, guide.logits.inputs.gate) == (mode != "free")
    assert int(model.net.get_buffer("1.num_batches_tracked")) == len(SCHEDULE)
    return step


@pytest.mark.parametrize("engine", ["eager", "traced", "compiled"])
def test_adams_steps(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled runs uncompiled here, the step of Adam with it."""
    assert len(fake_compile(monkeypatch)) == 0
    step = check_adam(monkeypatch, engine)
    values = [p.detach().clone() for p in step.guide.parameters()]
    step.release()
    for flat in step.flats:
        flat.values.zero_()
    assert_same([p.detach() for p in step.guide.parameters()], values, 0)


@pytest.mark.slow
@needs_a_compiler
def test_adams_steps_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam is a part of the compiled program; all that changes comes in from outside, so it is compiled once."""
    torch._dynamo.reset()
    counters.clear()
    step = check_adam(monkeypatch, "compiled")
    assert counters["stats"]["unique_graphs"] == 1 and step.engine.compile_seconds > 0


def test_adams_state_is_cut_with_the_parameters() -> None:
    posterior = posterior_of("normed", prior=SpikeSlab(GroupHorseshoe(), inclusion=0.3), select_inputs=True)
    step = AdamStep(posterior.model, posterior.guide, SparseELBO(), LearningRates(), "eager")
    with pyro.validation_enabled(False):
        step(X, Y, 1.0, 1.0)
    old = {id(p): [m.clone() for m in moments] for flat in step.flats for p, moments in flat.state().items()}
    before = {name: old[id(p)] for name, p in named(posterior.model, posterior.guide).items()}
    shrunk = shrink(posterior.model, posterior.guide, posterior.keep())
    new = step.moved_to(shrunk)
    cut = {**shrunk.guide_positions, **{f"net.{name}": dims for name, dims in shrunk.net_positions.items()}}
    now = {id(p): moments for flat in new.flats for p, moments in flat.state().items()}
    assert all(flat.steps == 1 for flat in new.flats)
    for name, parameter in named(shrunk.model, shrunk.guide).items():
        for value, expected in zip(now[id(parameter)], before[name], strict=True):
            for dim, kept in cut.get(name, {}).items():
                expected = expected.index_select(dim, kept)
            assert torch.equal(value, expected) and value.shape == parameter.shape


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_clipping_and_fused_kernels_get_gradients_that_they_can_read(clip_norm: float | None) -> None:
    """A gradient may be a transpose, or one number repeated; ten steps as with plain Adam on gradients of backward."""
    posterior = posterior_of_model(batch_normed())
    (model, guide), (twin, twin_guide) = (copies(posterior.model, posterior.guide) for _ in range(2))
    fused: Any = partial(torch.optim.Adam, fused=True)
    step = TorchStep(model, guide, fused, SparseELBO(), LearningRates(), clip_norm, "eager")
    parameters = [p for p in [*twin.parameters(), *twin_guide.parameters()] if p.requires_grad]
    groups = TorchStep(twin, twin_guide, torch.optim.Adam, SparseELBO(), LearningRates(), None).optimizer.param_groups
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


def test_one_group_of_parameters_can_be_held_fixed() -> None:
    for engine in ("eager", "traced"):
        posterior = posterior_of()
        fixed = posterior.guide.parameter_groups()["slab_scales"]
        for parameter in fixed:
            parameter.requires_grad_(False)
        before = [p.detach().clone() for p in posterior.guide.parameters()]
        step = AdamStep(posterior.model, posterior.guide, SparseELBO(), LearningRates(), engine)
        run(step, "free", 1.0, 1.0)
        held = {id(p) for p in fixed}
        for parameter, value in zip(posterior.guide.parameters(), before, strict=True):
            assert torch.equal(parameter, value) == (id(parameter) in held)


def posterior_of_model(model: SparseNetwork) -> GuidePosterior:
    guide = perturbed(AutoSpikeSlab(model.prior, init_inclusion=0.5))
    return GuidePosterior(model, guide)


def named(model: Any, guide: Any) -> dict[str, nn.Parameter]:
    """What is trained, by name."""
    return {**dict(guide.named_parameters()), **{n: p for n, p in model.named_parameters() if p.requires_grad}}
