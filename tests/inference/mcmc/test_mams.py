"""MAMS: exact posteriors, and trajectories that are accepted by their energy errors."""

from dataclasses import replace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.mams import MAMS
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.posterior.diagnostics import r_hat
from tests.inference.mcmc.test_sample import assert_conjugate, assert_moments, correlated, exact, funnel, regression
from tests.models import DOUBLE

PLAN = SamplingPlan(kernel="mams", chains=16, warmup=150, draws=100)
GIVEN: Any = {"seed": 3, "progress": False, "engine": "traced"}


def normal(factor: Tensor) -> None:
    """A Normal whose covariance has a given Cholesky factor."""
    pyro.sample("x", dist.MultivariateNormal(factor.new_zeros(len(factor)), scale_tril=factor))


def test_conjugate_posterior() -> None:
    """Mean and covariance; fails by chance less than once in 10,000 seeds."""
    x, y = correlated()
    draws = sample(regression, (x, y), PLAN, **GIVEN)
    assert_conjugate(draws, x, y)
    assert (r_hat(draws.values["w"]) < 1.1).all() and (draws.leapfrogs % MAMS.gradients_per_step == 0).all()


def test_funnel() -> None:
    draws = sample(funnel, (), replace(PLAN, warmup=200), **GIVEN)
    assert_moments(draws, "v", torch.zeros((), dtype=DOUBLE), torch.tensor(3.0, dtype=DOUBLE))


def test_large_steps_are_refused_as_often_as_their_errors_say() -> None:
    """The mean acceptance probability is the share of the trajectories that are accepted."""
    x, y = correlated()
    potential = Potential(noncentered(regression), x, y)
    torch.manual_seed(0)
    mean, covariance = exact(x, y)
    start = mean + covariance.diag().sqrt() * torch.randn(64, len(mean), dtype=DOUBLE)
    kernel = MAMS(potential, start, step_size=1.4, length=1.4)
    kernel.scale = covariance.diag().sqrt()
    accepted, moved = [], []
    for _ in range(60):
        before = kernel.position
        move = kernel.transition()
        accepted.append(move.acceptance)
        moved.append((kernel.position != before).any(-1).double())
        torch.testing.assert_close(move.acceptance, (-move.energy_error).exp().clamp(max=1))
    share, expected = float(torch.stack(moved).mean()), float(torch.stack(accepted).mean())
    assert 0.1 < expected < 0.98
    assert abs(share - expected) < 4 * (expected * (1 - expected) / (60 * 64)) ** 0.5


def test_a_trial_goes_back() -> None:
    x, y = correlated()
    potential = Potential(noncentered(regression), x, y)
    kernel = MAMS(potential, potential.starts(4))
    before = kernel.position, kernel.energy, kernel.gradient
    assert kernel.trial().acceptance.shape == (4,)
    assert all(
        one is other for one, other in zip(before, (kernel.position, kernel.energy, kernel.gradient), strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["mams", "chees"])
def test_compiled_trajectories_where_the_gradient_is_not_contiguous(kernel: Any) -> None:
    """As that of a Normal with a covariance, which a program returns transposed and the next step reads."""
    factor = torch.linalg.cholesky(0.5 * (torch.eye(40, dtype=DOUBLE) + 1))
    plan = replace(PLAN, kernel=kernel, chains=64, warmup=3, draws=3)
    traced = sample(normal, (factor,), plan, **GIVEN)
    compiled = sample(normal, (factor,), plan, **{**GIVEN, "engine": "compiled"})
    torch.testing.assert_close(compiled.vectors, traced.vectors)


def test_points_of_another_shape_are_refused() -> None:
    x, y = correlated()
    potential = Potential(noncentered(regression), x, y)
    with pytest.raises(ValueError, match=r"start must have shape \(chains, n\)"):
        MAMS(potential, potential.starts(4)[0])
