"""Jittered HMC: its steps, its jitter, what does not move, and a posterior without any adaptation."""

import pytest
import torch

from bnn_pyro.inference.mcmc.chees import ChEESWarmUp
from bnn_pyro.inference.mcmc.jittered_hmc import JitteredHMC
from bnn_pyro.inference.mcmc.potential.potential import Potential
from tests.inference.mcmc.test_chees import independent, warm_up
from tests.models import DOUBLE


def test_moments_of_independent_normals() -> None:
    """Given their scales, and no warm-up at all; fails by chance less than once in 10,000 seeds."""
    torch.manual_seed(0)
    sd = torch.logspace(-1, 1, 5, dtype=DOUBLE)
    sampler = JitteredHMC(Potential(independent), torch.zeros(64, 5, dtype=DOUBLE), step_size=0.3, length=1.6)
    sampler.scale = sd
    moves, found = [], []
    for _ in range(80):
        moves.append(sampler.transition())
        found.append(sampler.position)
    draws = torch.cat(found[10:])
    torch.testing.assert_close(draws.std(0) / sd, torch.ones(5, dtype=DOUBLE), atol=0.1, rtol=0)
    torch.testing.assert_close(draws.mean(0) / sd, torch.zeros(5, dtype=DOUBLE), atol=0.1, rtol=0)
    assert (sampler.step_size, sampler.length) == (0.3, 1.6) and sampler.scale is sd
    assert len({int(move.leapfrogs[0]) for move in moves}) > 3
    assert all(torch.equal(move.acceptance, (-move.energy_error).exp().clamp(max=1)) for move in moves)


def test_leapfrog_steps_are_reversible() -> None:
    torch.manual_seed(0)
    potential = Potential(independent)
    sampler = JitteredHMC(potential, potential.starts(4), step_size=0.05)
    start, momentum = sampler.position, torch.randn(4, 5, dtype=DOUBLE)
    sampler.position, sampler.energy, sampler.gradient, end = sampler._integrate(momentum, 7)
    back, *_, returned = sampler._integrate(-end, 7)
    torch.testing.assert_close((back, -returned), (start, momentum))


def test_transitions_stay_within_their_bound() -> None:
    torch.manual_seed(0)
    potential = Potential(independent)
    sampler = JitteredHMC(potential, potential.starts(4), max_leapfrogs=3)
    warm_up(ChEESWarmUp(sampler), 60)
    steps = torch.stack([sampler.transition().leapfrogs for _ in range(20)])
    assert steps.shape == (20, 4) and (steps >= 1).all() and (steps <= 3).all()


def test_a_trial_goes_back() -> None:
    torch.manual_seed(0)
    potential = Potential(independent)
    sampler = JitteredHMC(potential, potential.starts(4), step_size=0.01)
    before = sampler.state_dict()
    move = sampler.trial()
    assert all(value is before[name] for name, value in sampler.state_dict().items())
    assert move.leapfrogs.tolist() == [1] * 4 and not torch.equal(move.end, move.start)


def test_what_has_no_momentum_stays() -> None:
    """Where the gradient is 0."""
    torch.manual_seed(0)
    potential = Potential(independent)
    moving = torch.rand(4, 5) < 0.5
    start = potential.starts(4) * moving
    sampler = JitteredHMC(potential, start, step_size=0.05, length=0.5, moving=moving)
    assert torch.equal(sampler.transition().end == start, ~moving)


def test_an_energy_that_is_no_number_is_refused_as_infinite() -> None:
    torch.manual_seed(0)
    potential = Potential(independent)
    sampler = JitteredHMC(potential, potential.starts(4), step_size=1e200)
    start = sampler.position
    move = sampler.transition()
    assert move.diverged.all() and torch.isinf(move.energy_error).all() and not move.acceptance.any()
    assert torch.equal(sampler.position, start)


def test_one_vector_is_refused() -> None:
    with pytest.raises(ValueError, match=r"start must have shape \(chains, n\), got \(5,\)"):
        JitteredHMC(Potential(independent), torch.zeros(5, dtype=DOUBLE))
