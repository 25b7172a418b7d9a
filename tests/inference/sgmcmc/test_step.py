"""A step of the sampler as one function of tensors: by autograd and as a program, against the optimiser's own."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.inference.sgmcmc.sghmc import SpikeSlabSGHMC
from bnn_pyro.inference.sgmcmc.step import SamplingStep
from bnn_pyro.inference.training.flat_parameters import ParameterVector
from bnn_pyro.networks import mlp
from bnn_pyro.tracing.engine import EngineName, Plan

ROWS = 50
OPTIONS: list[dict[str, Any]] = [{}, {"alpha": 1.0}, {"temperature": 1.0}, {"eta": 0.0}, {"betas": (0.4, 0.5)}]


class Setting:
    """A net with a parameter that the loss does not depend on, its step, and the same for the optimiser alone."""

    def __init__(self, engine: EngineName = "auto", **options: Any) -> None:
        torch.manual_seed(0)
        self.net = mlp(3, (4,), 1).double()
        self.net.register_parameter("unused", nn.Parameter(torch.ones(2, dtype=torch.float64)))
        self.trained = ParameterVector(dict(self.net.named_parameters()))
        self.optimizer = SpikeSlabSGHMC([self.trained.values], lr=0.3, num_data=ROWS, **options)
        self.step = SamplingStep(self.loss, self.trained, self.optimizer, engine)
        self.decay = torch.linspace(0, 0.5, len(self.trained.values), dtype=torch.float64)
        self.optimizer.weight_decays(self.trained.values, self.decay)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Squared error."""
        error: Tensor = (self.net(x).squeeze(-1) - y).square().mean()
        return error

    def by_hand(self, x: Tensor, y: Tensor) -> Tensor:
        """A step of the optimiser itself."""
        loss = self.loss(x, y)
        found = torch.autograd.grad(loss, list(self.net.parameters()), allow_unused=True, materialize_grads=True)
        self.trained.values.grad = torch.cat([gradient.flatten() for gradient in found])
        self.optimizer.step()
        return loss.detach()


def batch(rows: int = 6) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, 3, dtype=torch.float64), torch.randn(rows, dtype=torch.float64)


def check_same(one: Setting, other: Setting, rates: tuple[float, ...] = (0.3, 0.2, 0.1)) -> None:
    """Steps at changing rates, on batches of changing size, with the same noise; weights and state agree."""
    for rate, rows in zip(rates, (6, 4, 6), strict=True):
        x, y = batch(rows)
        losses = []
        for setting in (one, other):
            setting.optimizer.param_groups[0]["lr"] = rate
            with torch.random.fork_rng([]):
                is_ours = setting is other
                losses.append(setting.step(x, y, setting.decay).clone() if is_ours else setting.by_hand(x, y))
        torch.testing.assert_close(*losses)
        torch.testing.assert_close(one.trained.values, other.trained.values)
        for name in ("rho", "momentum", "noise"):
            states = [setting.optimizer.state[setting.trained.values][name] for setting in (one, other)]
            torch.testing.assert_close(*states)


@pytest.mark.parametrize("engine", ["eager", "traced"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_is_the_step_of_the_optimiser(options: dict[str, Any], engine: EngineName) -> None:
    check_same(Setting(**options), Setting(engine, **options))


@pytest.mark.slow
def test_compiled_is_the_same() -> None:
    check_same(Setting(), Setting("compiled"))


def test_is_chosen_anew_once_there_is_more_to_do() -> None:
    """Operation by operation where nothing is expected, as before a removal; then as a program."""
    setting = Setting()
    ways = setting.step.engine._ways
    x, y = batch()
    setting.step(x, y, setting.decay, Plan(0, 0))
    assert [way.choice for way in ways.values()] == ["eager"]
    setting.step(x, y, setting.decay, Plan(500, 500))
    assert [way.choice for way in ways.values()] == ["eager", "traced"]


@pytest.mark.parametrize("engine", ["eager", "traced"])
def test_runs_the_optimisers_own_update(engine: EngineName, monkeypatch: pytest.MonkeyPatch) -> None:
    """The method by which the optimiser moves a parameter by itself is the one in the function that is traced."""
    calls = []
    advance = SpikeSlabSGHMC.advance

    def counted(self: SpikeSlabSGHMC, *args: Any, **options: Any) -> None:
        calls.append(1)
        advance(self, *args, **options)

    monkeypatch.setattr(SpikeSlabSGHMC, "advance", counted)
    setting = Setting(engine)
    x, y = batch()
    setting.by_hand(x, y)
    assert len(calls) == 1
    setting.step(x, y, setting.decay)
    setting.step(x, y, setting.decay)
    assert len(calls) == (3 if engine == "eager" else 2)
