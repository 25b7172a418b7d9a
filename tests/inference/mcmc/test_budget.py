"""How many transitions there are in a number of seconds, and how many chains make them."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from bnn_pyro.inference.mcmc.budget import ENOUGH, gradient_work, transitions_within, within
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.likelihoods import Categorical, GaussianNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.priors import Gaussian
from bnn_pyro.refinement import reading_only

PLAN = SamplingPlan(kernel="mclmc", chains=16, warmup=6000, draws=100, thinning=100)


def network(rows: int = 1000, width: int = 20, inputs: int = 9) -> SparseNetwork:
    x = torch.zeros(2, inputs)
    net = mlp(inputs, (width, width), 1)
    return SparseNetwork(net, x, prior=Gaussian(), likelihood=GaussianNoise(), num_data=rows)


def test_work_is_flops_and_nodes() -> None:
    assert gradient_work(network()) == 2 * (9 * 20 + 20 * 20 + 20) + 100 * (20 + 20 + 1)
    kept = torch.tensor([True] * 4 + [False] * 5)
    assert gradient_work(reading_only(network(), kept)) == 2 * (4 * 20 + 20 * 20 + 20) + 100 * 41


def test_work_of_a_convolution_counts_its_places() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 4 * 4, 5))
    x = torch.zeros(2, 1, 6, 6)
    model = SparseNetwork(net, x, prior=Gaussian(), likelihood=Categorical(), num_data=10)
    assert gradient_work(model) == 2 * (9 * 3 * 16 + 48 * 5) + 100 * (48 + 5)
    assert not net[0]._forward_hooks


def test_transitions_are_shared_by_chains_and_rows() -> None:
    model = network()
    of_one = transitions_within(model, replace(PLAN, chains=1), 60.0)
    assert of_one > 10_000
    assert transitions_within(model, PLAN, 120.0) == pytest.approx(of_one / 8, abs=1)
    assert transitions_within(network(rows=50_000), replace(PLAN, chains=1), 60.0) == pytest.approx(of_one / 50, abs=1)


def test_chains_are_left_out_until_the_others_make_enough_transitions() -> None:
    """As many stay as do, the least number at any rate; a short plan needs no more than it has."""
    found = [within(PLAN, network(rows), 120.0, least=4) for rows in (1000, 10_000, 30_000, 1_000_000)]
    chains = [plan.chains for plan in found]
    assert chains[0] == 16 and 16 > chains[1] > chains[2] > 4 and chains[3] == 4
    for rows, plan in zip((1000, 10_000, 30_000), found, strict=False):
        assert transitions_within(network(rows), plan, 120.0) >= ENOUGH
        more = replace(plan, chains=plan.chains + 1)
        assert plan.chains == 16 or transitions_within(network(rows), more, 120.0) < ENOUGH
        assert replace(plan, chains=16) == PLAN
    short = replace(PLAN, warmup=100, thinning=1)
    assert within(short, network(10_000), 120.0, least=4) == short


def test_what_stays_as_it_is() -> None:
    other = SamplingPlan(kernel="mams", chains=16)
    assert within(other, network(1_000_000), 1.0, least=4) == other
    few = replace(PLAN, chains=2)
    assert within(few, network(1_000_000), 1.0, least=4) == few
