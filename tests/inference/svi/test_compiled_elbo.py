"""CompiledELBO: an ELBO of Pyro's SVI as a tensor program."""

import copy
import logging
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoLowRankMultivariateNormal, AutoNormal
from pyro.optim import SGD, Adam  # type: ignore[attr-defined]
from torch import Tensor, nn

from bnn_pyro.inference import SparseELBO
from bnn_pyro.inference.svi import compiled_elbo as compiled
from bnn_pyro.inference.svi.compiled_elbo import CompiledELBO
from bnn_pyro.tracing.noise import Noise
from guides import AutoSpikeSlab
from tests.models import DOUBLE, data, linear
from tests.recorded import assert_same, recorded

LOG = "bnn_pyro.tracing.engine"


def model(x: Tensor, y: Tensor | None = None, scale: float = 1.0) -> None:
    """Linear regression with learned noise."""
    noise = pyro.sample("noise", dist.LogNormal(x.new_zeros(()), 1.0))
    w = pyro.sample("w", dist.Normal(x.new_zeros(3), scale).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(x @ w, noise), obs=y)


def guide_function(x: Tensor, y: Tensor | None = None, scale: float = 1.0) -> None:
    """A guide with parameters in Pyro's store, one of them drawn at the first call."""
    loc = pyro.param("loc", lambda: torch.empty(3, dtype=DOUBLE).normal_())
    sd = pyro.param("sd", torch.full((3,), 0.1, dtype=DOUBLE), constraint=dist.constraints.positive)
    level = pyro.param("level", torch.zeros((), dtype=DOUBLE))
    pyro.sample("noise", dist.LogNormal(level, 0.1 * scale))
    pyro.sample("w", dist.Normal(loc, sd).to_event(1))


def gradients() -> dict[str, Tensor | None]:
    """Of what is in Pyro's store."""
    store: Any = pyro.get_param_store()
    return {name: None if p.grad is None else p.grad.clone() for name, p in store._params.items()}


def both(
    monkeypatch: pytest.MonkeyPatch, elbo: Any, guide: Any, *args: Any, program: Any = model, **kwargs: Any
) -> tuple[Any, Any]:
    """Loss and gradients in Pyro and as a program, on the same noise."""
    program_elbo = CompiledELBO(elbo, engine="traced")
    program_elbo.loss_and_grads(program, guide, *args, **kwargs)
    found = []
    store: Any = pyro.get_param_store()
    loss: float = 0.0
    noise: list[Tensor] = []
    for objective in (elbo, program_elbo):
        for parameter in store._params.values():
            parameter.grad = None
        with monkeypatch.context() as patch:
            patch.setattr(Noise, "draw", lambda self, noise=noise: noise)
            if objective is elbo:
                loss, noise = recorded(lambda: elbo.loss_and_grads(program, guide, *args, **kwargs))
            else:
                loss = program_elbo.loss_and_grads(program, guide, *args, **kwargs)
        found.append((torch.tensor(loss, dtype=DOUBLE), gradients()))
    return found[0], found[1]


ELBOS: list[Callable[[], Any]] = [
    SparseELBO,
    TraceMeanField_ELBO,
    lambda: Trace_ELBO(num_particles=2),
]


@pytest.mark.parametrize("elbo", ELBOS, ids=["ours", "mean-field", "trace"])
@pytest.mark.parametrize("guide", [AutoNormal, guide_function], ids=["AutoNormal", "function"])
def test_loss_and_gradients_are_those_of_pyro(elbo: Any, guide: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Pyro's validation on, as it is by default."""
    answer = guide_function if guide is guide_function else guide(model)
    eager, ours = both(monkeypatch, elbo(), answer, *data())
    assert_same(ours, eager)
    assert len(ours[1]) == (3 if answer is guide_function else 4)
    assert all(value is not None and value.any() for value in ours[1].values())


def test_a_guide_of_low_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    eager, ours = both(monkeypatch, Trace_ELBO(), AutoLowRankMultivariateNormal(model), *data())
    assert_same(ours, eager)


def test_our_guide(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = data()
    eager, ours = both(monkeypatch, SparseELBO(kl_weight=0.3), AutoSpikeSlab(linear, x, y), x, y, program=linear)
    assert_same(ours, eager)


def test_layouts_of_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """By position and name, in a dict or a list, with numbers and None between them."""

    def nested(batch: dict[str, Any], *rest: Any, weight: float = 1.0, flag: str | None = None) -> None:
        model(batch["x"] * (2 if flag else 1), rest[0][0] if rest else batch["y"], weight)

    x, y = data()
    guide = AutoNormal(nested)
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (({"x": x, "y": y},), {}),
        (({"x": x}, [y]), {"weight": 2.0}),
        (({"x": x}, [y]), {"weight": 3.0, "flag": "doubled"}),
        (({"x": x[:5], "y": y[:5]},), {"flag": None}),
    ]
    for args, kwargs in calls:
        eager, ours = both(monkeypatch, TraceMeanField_ELBO(), guide, *args, program=nested, **kwargs)
        assert_same(ours, eager)


def test_programs_are_told_apart() -> None:
    """One object keeps programs of several models, layouts and numbers; 1 and True are not the same."""
    seen: list[Any] = []

    def watched(x: Tensor, y: Tensor, flag: Any = None) -> None:
        seen.append(flag)
        model(x, y)

    x, y = data()
    guide, elbo = AutoNormal(watched), CompiledELBO(engine="traced")
    for _ in range(2):
        for args in ((), (1,), (True,)):
            elbo.loss_and_grads(watched, guide, x, y, *args)
    assert sorted(set(map(repr, seen))) == ["1", "None", "True"]
    calls = len(seen)
    elbo.loss_and_grads(watched, guide, x, y, 1)
    assert len(seen) == calls


def test_no_arguments_at_all() -> None:
    x, y = data()

    def closed() -> None:
        model(x, y)

    svi = SVI(closed, AutoNormal(closed), Adam({"lr": 0.05}), CompiledELBO(TraceMeanField_ELBO(), engine="traced"))
    losses = [svi.step() for _ in range(40)]
    assert sum(losses[-5:]) < sum(losses[:5]) and len(set(losses)) == 40


# ---- in pyro.infer.SVI -----------------------------------------------------------------------------------------------


def test_it_trains_as_pyro_does() -> None:
    """The same steps of an optimiser on the same noise give the same parameters."""
    x, y = data(40)
    ends = []
    for wrap in (lambda elbo: elbo, lambda elbo: CompiledELBO(elbo, engine="traced")):
        pyro.clear_param_store()
        pyro.set_rng_seed(1)
        guide = AutoNormal(model, init_scale=1e-6)
        svi = SVI(model, guide, SGD({"lr": 1e-3}), wrap(TraceMeanField_ELBO()))
        for _ in range(60):
            loss = svi.step(x, y)
        assert isinstance(loss, float) and isinstance(svi.evaluate_loss(x, y), float)
        ends.append({name: p.detach().clone() for name, p in guide.named_parameters() if "locs" in name})
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=0, atol=0.03)


def test_gradients_add_up() -> None:
    x, y = data()
    guide, elbo = AutoNormal(model, init_scale=1e-9), CompiledELBO(TraceMeanField_ELBO(), engine="traced")
    elbo.loss_and_grads(model, guide, x, y)
    once = gradients()
    elbo.loss_and_grads(model, guide, x, y)
    for name, value in gradients().items():
        first = once[name]
        assert value is not None and first is not None
        if "locs" in name:
            torch.testing.assert_close(value, 2 * first, rtol=1e-4, atol=1e-4)


def test_a_cleared_store() -> None:
    """A new run with the same object trains the new parameters."""
    x, y = data()
    elbo = CompiledELBO(TraceMeanField_ELBO(), engine="traced")
    for _ in range(2):
        pyro.clear_param_store()
        svi = SVI(model, guide_function, Adam({"lr": 0.1}), elbo)
        svi.step(x, y)
        before = pyro.param("loc").detach().clone()
        svi.step(x, y)
        assert ((pyro.param("loc") - before).abs() > 1e-3).all()


def test_parameters_that_modules_keep() -> None:
    x, y = data()
    with pyro.settings.context(module_local_params=True):
        guide = AutoNormal(model)
        svi = SVI(model, guide, Adam({"lr": 0.1}), CompiledELBO(TraceMeanField_ELBO(), engine="traced"))
        svi.step(x, y)
        before = guide.get_parameter("locs.w").detach().clone()
        svi.step(x, y)
        assert ((guide.get_parameter("locs.w") - before).abs() > 1e-3).all()
    assert list(pyro.get_param_store()) == []


def test_a_parameter_that_is_held_fixed() -> None:
    x, y = data()
    guide = AutoNormal(model)
    guide(x, y)
    guide.get_parameter("locs.w").requires_grad_(False)
    elbo = CompiledELBO(TraceMeanField_ELBO(), engine="traced")
    for _ in range(2):
        elbo.loss_and_grads(model, guide, x, y)
    assert guide.get_parameter("locs.w").grad is None and guide.get_parameter("locs.noise").grad is not None


@pytest.mark.parametrize("engine", ["traced", "eager"])
def test_statistics_of_a_batch_norm(engine: Any) -> None:
    """They move once a step, also at the first."""
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).double()

    def deep(x: Tensor, y: Tensor) -> None:
        pyro.module("net", net)
        noise = pyro.sample("noise", dist.LogNormal(x.new_zeros(()), 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(net(x).squeeze(-1), noise), obs=y)

    twin = copy.deepcopy(net)
    x, y = data()
    svi = SVI(deep, AutoNormal(deep), SGD({"lr": 0.0}), CompiledELBO(TraceMeanField_ELBO(), engine=engine))
    svi.guide(x, y)  # which runs the model for its sites
    net.load_state_dict(twin.state_dict())
    for _ in range(3):
        svi.step(x, y)
        twin(x)
    assert_same(dict(net.named_buffers()), dict(twin.named_buffers()))


def test_the_guide_can_be_copied_and_pickled() -> None:
    x, y = data()
    guide = AutoNormal(model)
    svi = SVI(model, guide, Adam({"lr": 0.1}), CompiledELBO(TraceMeanField_ELBO(), engine="traced"))
    for _ in range(2):
        svi.step(x, y)
    again = pickle.loads(pickle.dumps(guide.state_dict()))
    assert_same(again, guide.state_dict(), 0)
    assert_same(copy.deepcopy(guide.state_dict()), guide.state_dict(), 0)


# ---- falling back ----------------------------------------------------------------------------------------------------


def test_a_branch_on_a_value(caplog: pytest.LogCaptureFixture) -> None:
    """The loss is right on both sides of the branch, and it is said once."""

    def branching(x: Tensor, y: Tensor) -> None:
        model(x, y) if x.mean() > 0 else model(x, 100 + y)

    x, y = data()
    x = x - x.mean() + 1
    guide = AutoNormal(branching, init_scale=1e-6)
    elbo = CompiledELBO(TraceMeanField_ELBO())
    with caplog.at_level(logging.INFO, LOG):
        losses = [elbo.loss_and_grads(branching, guide, sign * x, y) for sign in (1, -1, 1, -1)]
    for loss, sign in zip(losses, (1, -1, 1, -1), strict=True):
        expected = TraceMeanField_ELBO().loss(branching, guide, sign * x, y)
        assert loss == pytest.approx(expected, abs=15)  # a divergence is estimated at the draw
    assert abs(losses[0] - losses[1]) > 1000
    assert [r.message.split(":")[0] for r in caplog.records if "eager" in r.message] == [
        "the step runs eagerly, as it cannot be traced"
    ]


def test_an_argument_that_is_no_tensor_runs_in_pyro() -> None:
    """Two arrays may look alike and differ."""

    def with_array(x: Tensor, y: Any) -> None:
        model(x, torch.from_numpy(y))

    x, y = data(2000)
    guide = AutoNormal(with_array, init_scale=1e-9)
    other = y.numpy().copy()
    other[900:1000] += 50
    elbo = CompiledELBO(TraceMeanField_ELBO())
    assert repr(other) == repr(y.numpy())
    losses = [elbo.loss_and_grads(with_array, guide, x, array) for array in (y.numpy(), other)]
    assert losses[1] > losses[0] + 100 and isinstance(np.float64(losses[0]), float)


def test_a_number_that_changes_at_every_step(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = data()
    guide = AutoNormal(model)
    elbo = CompiledELBO(TraceMeanField_ELBO(), engine="traced")
    monkeypatch.setattr(compiled, "_MOST", 2)
    with caplog.at_level(logging.WARNING, LOG):
        for step in range(6):
            assert elbo.loss_and_grads(model, guide, x, y, 1.0 + step) > 0
    assert [record.message.split(",")[0] for record in caplog.records] == ["steps run in Pyro"]


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="engine must be one of auto, compiled, traced, eager, got 'jit'"):
        CompiledELBO(engine="jit")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="elbo must have a differentiable_loss, got int"):
        CompiledELBO(3)  # type: ignore[arg-type]
