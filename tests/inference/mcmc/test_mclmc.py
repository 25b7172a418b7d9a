"""MCLMC: the posterior up to the error of its steps, chains that turn back, and programs that agree."""

from dataclasses import replace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch

from bnn_pyro.inference.mcmc.mclmc import GRADIENTS, MCLMC
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.sample import sample
from tests.inference.mcmc.test_sample import assert_moments, correlated, exact, regression
from tests.models import DOUBLE

PLAN = SamplingPlan(kernel="mclmc", chains=16, warmup=600, draws=100, thinning=10)
GIVEN: Any = {"seed": 3, "progress": False, "engine": "traced"}


def box() -> None:
    """Normals inside of a square, without a density outside."""
    x = pyro.sample("x", dist.Normal(torch.zeros(2, dtype=DOUBLE), 1.0).to_event(1))
    pyro.factor("walls", torch.where(x.abs().amax() < 1, 0.0, -torch.inf))


@pytest.mark.parametrize("dense_mass", [False, True])
def test_conjugate_posterior(dense_mass: bool) -> None:
    """Mean and variance; the error of the steps is below that of so many draws."""
    x, y = correlated()
    draws = sample(regression, (x, y), replace(PLAN, dense_mass=dense_mass), **GIVEN)
    mean, covariance = exact(x, y)
    assert_moments(draws, "w", mean, covariance.diagonal().sqrt())
    assert not int(draws.diverged.sum()) and (draws.leapfrogs == GRADIENTS * PLAN.thinning).all()
    torch.testing.assert_close(draws.energy[0], Potential(noncentered(regression), x, y)(draws.vectors[0]))


def test_a_dense_mass_is_the_covariance_of_a_normal_and_takes_longer_steps() -> None:
    x, y = correlated()
    short = {flag: replace(PLAN, warmup=300, draws=4, dense_mass=flag) for flag in (False, True)}
    diagonal, full = (sample(regression, (x, y), short[flag], **GIVEN) for flag in (False, True))
    _, covariance = exact(x, y)
    torch.testing.assert_close(full.inverse_mass[0], covariance, rtol=0.3, atol=4e-3)
    assert full.step_size[0] > diagonal.step_size[0]


def test_chains_turn_back_at_walls_and_say_how_often() -> None:
    """No chain stays where it is, and the variance is that of Normals cut at 1, .291, within 20 %."""
    draws = sample(box, (), replace(PLAN, warmup=300, draws=300, thinning=2), **GIVEN)
    assert (draws.values["x"].abs() < 1).all() and int(draws.diverged.sum()) > 0
    assert (draws.vectors[:, -50:].std(1) > 0).all()
    assert float(draws.diverged.double().mean()) / 2 < 0.1
    assert (draws.values["x"].var((0, 1)) / 0.2911 - 1).abs().max() < 0.2
    assert (draws.acceptance <= 1).all() and float(draws.acceptance.mean()) < 1
    assert any("diverged" in problem for problem in draws.problems())


@pytest.mark.parametrize("full", [False, True])
def test_blocks_of_chains_move_as_all_at_once(full: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = correlated()
    scale = torch.rand(2, 2, 16, dtype=DOUBLE)
    found = []
    for block in (4, 16):
        potential = Potential(noncentered(regression), x, y)
        monkeypatch.setattr(potential, "block", lambda chains, block=block: block)
        torch.manual_seed(0)
        kernel = MCLMC(potential, potential.starts(16), step_size=0.5, length=2.0)
        kernel.scale = scale if full else kernel.scale
        kernel.transition()
        found.append(kernel.position)
    torch.testing.assert_close(*found)


def test_models_that_cannot_be_traced_move_too() -> None:
    x, y = correlated()
    plan = replace(PLAN, chains=3, warmup=3, draws=2, thinning=1)
    traced = sample(regression, (x, y), plan, **GIVEN)
    eager = sample(regression, (x, y), plan, **{**GIVEN, "engine": "eager"})
    torch.testing.assert_close(traced.vectors, eager.vectors)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["mclmc", "mams"])
def test_compiled_steps_are_the_traced_ones(kernel: Any) -> None:
    x, y = correlated()
    plan = SamplingPlan(kernel=kernel, chains=4, warmup=2, draws=3)
    traced = sample(regression, (x, y), plan, **GIVEN)
    compiled = sample(regression, (x, y), plan, **{**GIVEN, "engine": "compiled"})
    torch.testing.assert_close(compiled.vectors, traced.vectors)


def test_one_coordinate_is_refused() -> None:
    def one() -> None:
        pyro.sample("x", dist.Normal(torch.zeros((), dtype=DOUBLE), 1.0))

    potential = Potential(one)
    with pytest.raises(ValueError, match=r"start must have shape \(chains, n\) with n of 2 or more, got \(4, 1\)"):
        MCLMC(potential, potential.starts(4), step_size=1.0, length=1.0)
