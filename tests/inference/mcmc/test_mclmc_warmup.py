"""The warm-up of MCLMC: step size by the energy error, scales by the draws."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from bnn_pyro.inference.mcmc.mclmc import MCLMC
from bnn_pyro.inference.mcmc.mclmc_warmup import MCLMCWarmUp, StepSizeByError
from bnn_pyro.inference.mcmc.potential.potential import Potential
from tests.models import DOUBLE

SCALES = torch.logspace(-1, 1, 8, dtype=DOUBLE)


def normals() -> None:
    x = pyro.sample("x", dist.Laplace(torch.zeros(8, dtype=DOUBLE), 1.0).to_event(1))
    pyro.factor("normal", (dist.Normal(0.0, SCALES).log_prob(x) - dist.Laplace(0.0, 1.0).log_prob(x)).sum())


def test_the_step_size_of_a_law_of_the_sixth_power_is_found() -> None:
    """Of an error of 3 eps^6 for each of 7 coordinates."""
    tuning, size = StepSizeByError(7), 0.01
    for _ in range(600):
        size = tuning.update(size, 7 * 3 * size**6, 0.0, 1e-3)
    assert size == pytest.approx((1e-3 / 3) ** (1 / 6), rel=0.02)


@pytest.mark.parametrize("part", [0.25, 0.75])
def test_chains_that_turn_back_shorten_the_steps(part: float) -> None:
    tuning, other = StepSizeByError(7), StepSizeByError(7)
    assert tuning.update(0.1, 1e-3, part, 1e-3) == pytest.approx(0.8**part * other.update(0.1, 1e-3, 0.0, 1e-3))


def test_steps_that_all_chains_turn_back_from_shorten_the_next_ones() -> None:
    tuning, size = StepSizeByError(7), 0.1
    assert tuning.update(size, 0.0, 1.0, 1e-3) == pytest.approx(0.08)  # before there was an error
    size = tuning.update(size, 1e-3, 0.0, 1e-3)
    for _ in range(3):
        size, before = tuning.update(size, 0.0, 1.0, 1e-3), size
        assert size == pytest.approx(0.8 * before)
    for _ in range(1000):
        size = tuning.update(size, 0.0, 1.0, 1e-3)
    assert size == 1e-10


@pytest.mark.parametrize("target", [1e-4, 1e-2])
def test_error_scale_and_length_adapt(target: float) -> None:
    """The error within a factor of 2.5 of its target, standard deviations within 35 %."""
    torch.manual_seed(0)
    potential = Potential(normals)
    kernel = MCLMC(potential, potential.starts(32), step_size=1.0, length=1.0)
    warmup = MCLMCWarmUp(kernel, target_error=target)
    for number in range(1, 1501):
        warmup.adapt(number, 1500)
    torch.testing.assert_close(kernel.scale, SCALES, rtol=0.35, atol=0)
    assert kernel.length == math.sqrt(8)
    errors = torch.stack([kernel.transition().energy_error for _ in range(200)])
    assert target / 2.5 < float(errors.square().mean()) / 8 < 2.5 * target
