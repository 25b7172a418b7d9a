"""Adam's steps in all engines: those of torch's Adam, with a state that is cut with the parameters."""

from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from bnn_pyro.inference import LearningRates, SparseELBO
from bnn_pyro.inference.svi.adam_step import AdamStep
from bnn_pyro.inference.svi.loss import Loss
from bnn_pyro.inference.svi.torch_step import TorchStep
from bnn_pyro.inference.training.micro_batches import Shares
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.guide import GuidePosterior, copies
from bnn_pyro.priors import Gaussian, GroupHorseshoe, SpikeSlab
from bnn_pyro.pruning.shrink import shrink
from bnn_pyro.tracing.engine import MANY, Plan
from bnn_pyro.tracing.noise import Noise
from guides import AutoSpikeSlab
from tests.inference.svi.test_fit import X, Y
from tests.models import perturbed
from tests.posterior.test_guide import posterior_of
from tests.recorded import assert_same, on, recorded
from tests.test_network import network
from tests.tracing.test_engine import fake_compile, needs_a_compiler


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
    step.loss.guide.gate_mode = mode
    step.loss.guide.temperature.fill_(0.3 + 0.5 * rate)
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
    return {**step.loss.guide.state_dict(), **step.loss.model.state_dict()}


def posterior_of_model(model: SparseNetwork) -> GuidePosterior:
    guide = perturbed(AutoSpikeSlab(model.prior, init_inclusion=0.5))
    return GuidePosterior(model, guide)


def named(model: Any, guide: Any) -> dict[str, nn.Parameter]:
    """What is trained, by name."""
    return {**dict(guide.named_parameters()), **{n: p for n, p in model.named_parameters() if p.requires_grad}}


def check_adam(monkeypatch: pytest.MonkeyPatch, engine: Any) -> Any:
    """Seven steps are those of torch.optim.Adam on eager Pyro's gradients, on the same noise."""
    posterior = posterior_of_model(batch_normed())
    rates = LearningRates(*(0.01, 0.02, 0.03, 0.04, 0.05))
    (model, guide), (twin, twin_guide) = (copies(posterior.model, posterior.guide) for _ in range(2))
    for net in (model.net, twin.net):
        net.train()
    reference = TorchStep(Loss(twin, twin_guide, SparseELBO()), rates, torch.optim.Adam, None, "eager")
    step = AdamStep(Loss(model, guide, SparseELBO()), rates, engine)
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
    values = [p.detach().clone() for p in step.loss.guide.parameters()]
    step.release()
    for flat in step.flats:
        flat.parameters.values.zero_()
    assert_same([p.detach() for p in step.loss.guide.parameters()], values, 0)


@pytest.mark.slow
@needs_a_compiler
def test_adams_steps_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam is a part of the compiled program; all that changes comes in from outside, so it is compiled once."""
    torch._dynamo.reset()
    counters.clear()
    step = check_adam(monkeypatch, "compiled")
    assert counters["stats"]["unique_graphs"] == 1 and step.compile_seconds > 0


def test_adams_state_is_cut_with_the_parameters() -> None:
    posterior = posterior_of("normed", prior=SpikeSlab(GroupHorseshoe(), inclusion=0.3), select_inputs=True)
    step = AdamStep(Loss(posterior.model, posterior.guide, SparseELBO()), LearningRates(), "eager")
    with pyro.validation_enabled(False):
        step(X, Y, 1.0, 1.0)
    before = {name: [m.clone() for m in pair] for flat in step.flats for name, pair in flat.state().items()}
    shrunk = shrink(posterior.model, posterior.guide, posterior.keep())
    new = step.moved_to(shrunk)
    cut = {f"guide.{name}": dims for name, dims in shrunk.guide_positions.items()}
    cut |= {f"model.net.{name}": dims for name, dims in shrunk.net_positions.items()}
    now = {name: pair for flat in new.flats for name, pair in flat.state().items()}
    assert all(flat.steps == 1 for flat in new.flats)
    for kind, parameter in named(shrunk.model, shrunk.guide).items():
        name = f"guide.{kind}" if kind in dict(shrunk.guide.named_parameters()) else f"model.{kind}"
        for value, expected in zip(now[name], before[name], strict=True):
            for dim, kept in cut.get(name, {}).items():
                expected = expected.index_select(dim, kept)
            assert torch.equal(value, expected) and value.shape == parameter.shape


def test_one_group_of_parameters_can_be_held_fixed() -> None:
    for engine in ("eager", "traced"):
        posterior = posterior_of()
        fixed = posterior.guide.parameter_groups()["slab_scales"]
        for parameter in fixed:
            parameter.requires_grad_(False)
        before = [p.detach().clone() for p in posterior.guide.parameters()]
        step = AdamStep(Loss(posterior.model, posterior.guide, SparseELBO()), LearningRates(), engine)
        run(step, "free", 1.0, 1.0)
        held = {id(p) for p in fixed}
        for parameter, value in zip(posterior.guide.parameters(), before, strict=True):
            assert torch.equal(parameter, value) == (id(parameter) in held)


def after(engine: Any, shares: Shares, steps: int) -> Any:
    """What has made some steps in each mode of the gates."""
    posterior = posterior_of()
    step = AdamStep(Loss(posterior.model, posterior.guide, SparseELBO()), LearningRates(), engine, shares)
    torch.manual_seed(3)
    for mode in ("open", "free", "frozen"):
        for _ in range(steps):
            run(step, mode, 1.0, 1.0)
    return step


@pytest.mark.parametrize("engine", ["eager", "traced"])
def test_parts_make_the_step_of_the_whole(engine: Any) -> None:
    """The update behind the sum of two parts is that inside the function; held gates do not count."""
    whole, parts = (after(engine, Shares(accumulate), 2) for accumulate in (1, 2))
    assert_same(everything(parts), everything(whole))
    for one, other in zip(parts.flats, whole.flats, strict=True):
        assert_same((one.mean, one.square), (other.mean, other.square))
        assert one.steps == other.steps == (2 if one.role == "gates" else 6)


def test_traced_is_one_program_with_the_update_in_it() -> None:
    """The step is a node of the graph, one a vector, in all modes of the gates; and nothing else is run."""
    step = after("traced", Shares(), 1)
    (way,) = step.whole._ways.values()
    updates = [node for node in way.traced.graph.graph.nodes if "adam_" in str(node.target)]
    assert len(updates) == len(step.flats) and not step.part._ways
