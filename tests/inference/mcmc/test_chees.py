"""ChEES: exact posteriors, the criterion's slope, jitter, masses, what it adapts to."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.chees import ChEESWarmUp, criterion_slope
from bnn_pyro.inference.mcmc.jittered_hmc import JitteredHMC
from bnn_pyro.inference.mcmc.kernel import WarmUp
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.diagnostics import r_hat
from bnn_pyro.priors import Gaussian, SpikeSlab
from tests.inference.mcmc.test_sample import assert_conjugate, assert_moments, correlated, funnel, regression
from tests.models import DOUBLE, data

SHORT = SamplingPlan(kernel="chees", chains=3, warmup=10, draws=6)
GIVEN: Any = {"seed": 3, "progress": False}


def independent() -> None:
    """Normals whose standard deviations span a factor of 100."""
    x = pyro.sample("x", dist.Laplace(torch.zeros(5, dtype=DOUBLE), 1.0).to_event(1))
    sd = torch.logspace(-1, 1, 5, dtype=DOUBLE)
    pyro.factor("normal", (dist.Normal(0.0, sd).log_prob(x) - dist.Laplace(0.0, 1.0).log_prob(x)).sum())


def wide_and_narrow() -> None:
    """Two Normals far apart, one a hundred times as narrow as the other."""
    x = pyro.sample("x", dist.Laplace(torch.zeros((), dtype=DOUBLE), 1.0))
    both = dist.Normal(torch.tensor([0.0, 9.0], dtype=DOUBLE), torch.tensor([1.0, 0.01], dtype=DOUBLE))
    pyro.factor("mixture", both.log_prob(x).logsumexp(-1) - dist.Laplace(0.0, 1.0).log_prob(x))


def warm_up(adaptation: WarmUp, transitions: int) -> None:
    """Makes all transitions of a warm-up."""
    for number in range(1, transitions + 1):
        adaptation.adapt(number, transitions)


def adapted(potential: Potential, start: Tensor, transitions: int, **options: float) -> JitteredHMC:
    """A kernel after its warm-up."""
    kernel = JitteredHMC(potential, start)
    warm_up(ChEESWarmUp(kernel, **options), transitions)
    return kernel


# ---- exact posteriors ------------------------------------------------------------------------------------------------


def test_conjugate_posterior() -> None:
    """Mean and covariance; fails by chance less than once in 10,000 seeds."""
    x, y = correlated()
    draws = sample(regression, (x, y), replace(SHORT, chains=16, warmup=150, draws=100), **GIVEN)
    assert_conjugate(draws, x, y)
    assert (r_hat(draws.values["w"]) < 1.1).all() and (draws.summary()["w"]["ess_tail"] > 400).all()
    torch.testing.assert_close(draws.energy[0], Potential(noncentered(regression), x, y)(draws.vectors[0]))


def test_funnel() -> None:
    draws = sample(funnel, (), replace(SHORT, chains=16, warmup=100, draws=80), **GIVEN)
    assert_moments(draws, "v", torch.zeros((), dtype=DOUBLE), torch.tensor(3.0, dtype=DOUBLE))


def narrow() -> None:
    """Normals far narrower than the cube that chains start in."""
    x = pyro.sample("x", dist.Laplace(torch.zeros(3, dtype=DOUBLE), 1.0).to_event(1))
    pyro.factor("normal", (dist.Normal(0.5, 0.03).log_prob(x) - dist.Laplace(0.0, 1.0).log_prob(x)).sum())


def test_trajectories_of_a_narrow_posterior_are_short() -> None:
    """A quarter of a period is 1.6; a length that was right on the way from far away was 40 in its units."""
    torch.manual_seed(0)
    potential = Potential(narrow)
    kernel = adapted(potential, potential.starts(16), 150)
    assert 0.5 < kernel.length < 4


def test_masses_and_length_adapt() -> None:
    """Standard deviations within 30 %, and a trajectory that goes across the widest of them."""
    torch.manual_seed(0)
    potential = Potential(independent)
    sampler = JitteredHMC(potential, potential.starts(32))
    adaptation = ChEESWarmUp(sampler)
    first = sampler.step_size
    warm_up(adaptation, 200)
    torch.testing.assert_close(sampler.scale, torch.logspace(-1, 1, 5, dtype=DOUBLE), rtol=0.3, atol=0)
    assert sampler.step_size > 2 * first and 1 < sampler.length < 4


def test_length_begins_at_a_quarter_of_a_period_within_some_steps() -> None:
    potential = Potential(independent)
    sampler = JitteredHMC(potential, potential.starts(4))
    ChEESWarmUp(sampler)
    assert sampler.length == min(math.pi / 2, 64 * sampler.step_size)


def test_a_chain_in_a_narrow_place_shortens_the_steps_of_all() -> None:
    """It alone accepts nothing of steps that suit the others, whose trajectories stay long."""
    torch.manual_seed(0)
    start = torch.cat([torch.randn(15, 1, dtype=DOUBLE), torch.full((1, 1), 9.0, dtype=DOUBLE)])
    sampler = adapted(Potential(wide_and_narrow), start, 200)
    assert abs(float(sampler.position[-1]) - 9) < 0.1
    assert sampler.step_size * sampler.scale < 0.03
    assert sampler.length * sampler.scale > 0.5


def test_step_size_reaches_the_acceptance_that_it_is_told() -> None:
    found = {}
    for target in (0.6, 0.95):
        torch.manual_seed(0)
        potential = Potential(independent)
        sampler = adapted(potential, potential.starts(16), 300, target_accept=target)
        moves = [sampler.transition() for _ in range(50)]
        found[target] = float(torch.stack([m.acceptance.mean() for m in moves]).mean())
    assert abs(found[0.95] - 0.95) < 0.04 and abs(found[0.6] - 0.6) < 0.2


def test_network() -> None:
    x, y = data()
    prior = SpikeSlab(Gaussian(), inclusion=0.5)
    net = mlp(x.shape[1], (3,), 1).double()
    model = SparseNetwork(net, x, prior=prior, likelihood=GaussianNoise(0.3), num_data=len(x))
    draws = sample(model, (x, y), SHORT, **GIVEN).draws
    assert all(value.shape[:2] == (3, 6) and value.dtype == DOUBLE for value in draws.values.values())
    assert draws.inverse_mass.shape == draws.vectors[:, 0].shape
    assert torch.equal(draws.leapfrogs, draws.leapfrogs[:1].expand(3, 6)) and (draws.leapfrogs >= 1).all()


# ---- parts -----------------------------------------------------------------------------------------------------------


def test_slope_is_that_of_the_criterion_for_its_cost() -> None:
    """Times the square of the time, and where all chains count alike and the momenta have mean 0."""
    start, end, momentum = torch.randn(3, 8, 4, dtype=DOUBLE)
    momentum = momentum - momentum.mean(0)

    def criterion(time: Tensor) -> Tensor:
        moved = end + (time - 2) * momentum
        gain = (moved - moved.mean(0)).square().sum(-1) - (start - start.mean(0)).square().sum(-1)
        value: Tensor = gain.square().mean() / 4 / time
        return value

    slope: Callable[..., Tensor] = torch.func.grad(criterion)
    found = criterion_slope(start, end, momentum, torch.ones(8, dtype=DOUBLE), 2.0)
    torch.testing.assert_close(found, 4 * slope(torch.tensor(2.0, dtype=DOUBLE)))


def test_chains_that_diverged_do_not_count() -> None:
    start, end, momentum = torch.randn(3, 8, 4, dtype=DOUBLE)
    acceptance = torch.rand(8, dtype=DOUBLE)
    acceptance[3] = 0
    found = criterion_slope(start, end, momentum, acceptance, 0.5)
    end[3], momentum[3] = torch.nan, torch.inf
    torch.testing.assert_close(criterion_slope(start, end, momentum, acceptance, 0.5), found)
    assert float(criterion_slope(start, end, momentum, torch.zeros(8, dtype=DOUBLE), 0.5)) == 0


# ---- randomness, and what is refused ---------------------------------------------------------------------------------


def test_seed_decides_and_the_global_state_stays() -> None:
    x, y = data()
    state = torch.random.get_rng_state()
    one, two, other = (sample(regression, (x, y), SHORT, **{**GIVEN, "seed": seed}).vectors for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_thinning_keeps_every_so_manyth_draw() -> None:
    x, y = data()
    plans = (replace(SHORT, draws=6), replace(SHORT, draws=2, thinning=3))
    every, third = (sample(regression, (x, y), plan, **GIVEN) for plan in plans)
    assert torch.equal(every.vectors[:, 2::3], third.vectors)


def test_start_is_left_as_it_is() -> None:
    x, y = data()
    start = torch.zeros(3, x.shape[1], dtype=DOUBLE)
    sample(regression, (x, y), SHORT, start=start, **GIVEN)
    assert not start.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chains": 1}, "chains must be at least 2 for kernel='chees', got 1"),
        ({"dense_mass": True}, "dense_mass is of kernel='nuts', 'hmc' and 'mclmc', got it with kernel='chees'"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(regression, data(), replace(SHORT, **options), **GIVEN)


def test_one_chain_is_refused() -> None:
    potential = Potential(noncentered(regression), *data())
    with pytest.raises(ValueError, match="chains must be at least 2"):
        ChEESWarmUp(JitteredHMC(potential, potential.starts(1)))
