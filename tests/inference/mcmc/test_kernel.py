"""Laws of all kernels that move a batch, and of their warm-ups: a row of the table is a row here."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bnn_pyro.inference.mcmc.kernel import BatchKernel, WarmUp
from bnn_pyro.inference.mcmc.potential.exact_gate_potential import SpikePotential
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.runs import BATCHES
from tests.inference.mcmc.test_runs import plan_of
from tests.models import data, linear

CHAINS, WARMUP = 3, 40
Made = Callable[[], tuple[BatchKernel, WarmUp]]


@pytest.fixture(params=BATCHES, ids=str)
def made(request: pytest.FixtureRequest) -> Made:
    """Makes a kernel and its warm-up."""
    kernel, gates = request.param
    torch.manual_seed(0)
    x, y = data()
    potential = SpikePotential(linear, x, y) if gates == "exact" else Potential(noncentered(linear), x, y)
    plan = plan_of(kernel, gates=gates, chains=CHAINS, warmup=WARMUP)
    return lambda: BATCHES[kernel, gates](plan, potential, None, None)


def warmed(made: Made, transitions: int) -> tuple[BatchKernel, WarmUp]:
    kernel, warmup = made()
    for number in range(1, transitions + 1):
        warmup.adapt(number, WARMUP)
    return kernel, warmup


def assert_same(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_a_transition_says_how_each_chain_went(made: Made) -> None:
    kernel, _ = warmed(made, 5)
    for _ in range(3):
        move = kernel.transition()
        numbers = (move.acceptance, move.diverged, move.leapfrogs, move.total_energy, move.energy_error)
        assert all(number.shape == (CHAINS,) for number in numbers)
        assert (move.acceptance >= 0).all() and (move.acceptance <= 1).all() and (move.leapfrogs >= 1).all()
        assert move.diverged.dtype == torch.bool and move.leapfrogs.dtype == torch.int64
        assert kernel.position.shape[0] == CHAINS and kernel.energy.shape == (CHAINS,)
        assert kernel.scale.shape == kernel.position.shape[1:] and kernel.step_size > 0


def test_a_kernel_does_not_adapt(made: Made) -> None:
    """What it is set to stays; the warm-up changes it."""
    kernel, warmup = warmed(made, WARMUP - 1)
    step_size = kernel.step_size
    warmup.adapt(WARMUP, WARMUP)
    assert kernel.step_size != step_size
    step_size, scale = kernel.step_size, kernel.scale
    for _ in range(5):
        kernel.transition()
    assert kernel.step_size == step_size and torch.equal(kernel.scale, scale)


@pytest.mark.parametrize("stop", [3, 10, 25, WARMUP])
def test_goes_on_from_the_states(made: Made, stop: int) -> None:
    """In another kernel and warm-up; the states do not change with what they are of."""
    kernel, warmup = warmed(made, stop)
    states, random = (kernel.state_dict(), warmup.state_dict()), torch.random.get_rng_state()

    def rest(kernel: BatchKernel, warmup: WarmUp) -> list[Any]:
        torch.random.set_rng_state(random)
        for number in range(stop + 1, WARMUP + 1):
            warmup.adapt(number, WARMUP)
        kernel.transition()
        return [kernel.state_dict(), warmup.state_dict()]

    before = repr(states)
    expected = rest(kernel, warmup)
    assert repr(states) == before
    again, adapting = made()
    again.load_state_dict(states[0])
    adapting.load_state_dict(states[1])
    assert_same(rest(again, adapting), expected)
