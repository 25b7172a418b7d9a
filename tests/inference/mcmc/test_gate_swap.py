"""Of two inputs that say the same, chains see both."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.exact_gates import ExactGates
from bnn_pyro.inference.mcmc.gate_swap import GateSwap
from bnn_pyro.inference.mcmc.potential.exact_gate_potential import SpikePotential
from bnn_pyro.posterior.diagnostics import r_hat
from bnn_pyro.priors import spike_slab_gaussian
from tests.inference.mcmc.test_exact_gates import SIGMA, assert_means, columns, drawn, enumerated
from tests.models import DOUBLE, NOISE

SPARSE = torch.tensor(0.01, dtype=DOUBLE)


def sparse(x: Tensor, y: Tensor) -> None:
    """Regression on four columns of which few are expected to matter."""
    w = spike_slab_gaussian("w", (4, 1), inclusion=SPARSE, sigma=SIGMA)
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(x @ w.flatten(), NOISE), obs=y)


def twins() -> tuple[Tensor, Tensor]:
    """The second column is nearly the first, which matters; the third matters a little."""
    x, y = columns(60, 1, 0.0, 0.0, 0.3, 0.0)
    x[:, 1] = x[:, 0] + 0.15 * x[:, 1]
    return x, y + 1.2 * x[:, 0]


def test_both_of_two_columns_that_say_the_same_are_seen() -> None:
    """By as many draws as all supports have it. Without swaps chains stay with the one that they have found."""
    torch.manual_seed(5)
    x, y = twins()
    inclusion, mean = enumerated(x, y, 4, lambda z: z, prior=SPARSE)
    assert 0.15 < inclusion[0] < 0.85 and abs(float(inclusion[0] + inclusion[1]) - 1) < 0.05
    sampler = ExactGates(SpikePotential(sparse, x, y), 16)
    draws = drawn(sampler, 40, 100)
    assert_means(draws["w.gate"], inclusion)
    assert_means(draws["w.weight"].flatten(2), mean)
    sampler._swaps = 0
    assert (r_hat(drawn(sampler, 0, 60)["w.gate"])[:2] > 1.5).all()


def test_chains_without_a_pair_stay() -> None:
    x, y = twins()
    potential = SpikePotential(sparse, x, y)
    sampler, gates = ExactGates(potential, 4), potential.layout.gates
    points = sampler.position.clone()
    points[:2, gates], points[2:, gates] = 1.0, -1.0
    points[2:, potential.layout.slabs] = 0.0
    swap = GateSwap(potential, 8)
    assert torch.equal(swap(points, sampler.pseudo_prior), points)
    points[0, gates[0]], points[0, potential.layout.slabs[0]] = -1.0, 0.0
    for _ in range(20):
        found = swap(points, sampler.pseudo_prior)
        assert (found[:, gates] > 0).sum(1).tolist() == [3, 4, 0, 0]
        assert (found[:, potential.layout.slabs][found[:, gates] < 0] == 0).all()


def test_there_must_be_a_try() -> None:
    with pytest.raises(ValueError, match="tries must be at least 1, got 0"):
        GateSwap(SpikePotential(sparse, *twins()), 0)
