"""The warm-up of exact gates: gates held at first, a pseudo-prior that follows, stopping and going on."""

import pytest
import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.exact_gates import ExactGates
from bnn_pyro.inference.mcmc.exact_gates_warmup import ExactGatesWarmUp, exact_gates_batch
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.exact_gate_potential import SpikePotential
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from tests.inference.mcmc.test_runs import plan_of
from tests.models import data, linear


def test_gates_stay_in_the_first_quarter_of_the_warm_up() -> None:
    sampler = ExactGates(SpikePotential(linear, *data()), 4)
    adaptation = ExactGatesWarmUp(sampler)
    first = sampler.position[:, :3]
    for number in range(1, 6):
        adaptation.adapt(number, 20)
        assert torch.equal(sampler.position[:, :3], first)
    for number in range(6, 21):
        adaptation.adapt(number, 20)
    assert not torch.equal(sampler.position[:, :3], first)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_given_pseudo_prior_stays_while_gates_are_held(at_once: bool) -> None:
    torch.manual_seed(0)
    sampler = ExactGates(SpikePotential(linear, *data()), 4)
    adaptation = ExactGatesWarmUp(sampler, follows_at_once=at_once)
    first = sampler.pseudo_prior
    for number in range(1, 11):
        adaptation.adapt(number, 20)
        if number == 5:
            assert (sampler.pseudo_prior is first) is not at_once
    assert sampler.pseudo_prior is not first


def test_goes_on_as_if_it_had_not_stopped() -> None:
    """From a state in the warm-up, in another kernel and warm-up, which have another random state."""
    x, y = data()
    potential = SpikePotential(linear, x, y)

    def go(sampler: ExactGates, adaptation: ExactGatesWarmUp, first: int) -> Tensor:
        for number in range(first, 21):
            adaptation.adapt(number, 20)
        sampler.transition()
        return sampler.position

    sampler = ExactGates(potential, 3)
    adaptation = ExactGatesWarmUp(sampler)
    for number in range(1, 13):
        adaptation.adapt(number, 20)
    states, random = (sampler.state_dict(), adaptation.state_dict()), torch.random.get_rng_state()
    expected = go(sampler, adaptation, 13)
    again = ExactGates(potential, 3)
    adapting = ExactGatesWarmUp(again)
    again.load_state_dict(states[0])
    adapting.load_state_dict(states[1])
    torch.random.set_rng_state(random)
    assert torch.equal(go(again, adapting, 13), expected)
    assert torch.equal(again.pseudo_prior.loc, sampler.pseudo_prior.loc)


def test_another_potential_is_refused() -> None:
    plan: SamplingPlan = plan_of("chees", gates="exact")
    with pytest.raises(ValueError, match="potential must be a SpikePotential for gates='exact', got Potential"):
        exact_gates_batch(plan, Potential(noncentered(linear), *data()), None, None)
