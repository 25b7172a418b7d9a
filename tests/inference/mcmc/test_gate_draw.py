"""Gibbs draws of gates: what they change, and what they refuse."""

import pytest
import torch

from bnn_pyro.inference.mcmc.gate_draw import GateDraw
from bnn_pyro.inference.mcmc.potential.exact_gate_potential import SpikePotential
from bnn_pyro.inference.mcmc.pseudo_prior import PseudoPrior
from tests.models import DOUBLE, data, exact_inclusion, linear

PSEUDO = PseudoPrior(torch.full((3,), 0.3, dtype=DOUBLE), torch.full((3,), 0.8, dtype=DOUBLE))


def test_gates_alone_have_the_posterior() -> None:
    """Each has one weight, so its draw with a fresh weight is Gibbs on both; no HMC is needed."""
    torch.manual_seed(0)
    x, y = data(8)
    potential = SpikePotential(linear, x, y)
    draw, vectors, gates = GateDraw(potential, 8), potential.starts(64), []
    for _ in range(150):
        vectors = draw(vectors, PSEUDO)
        gates.append(vectors[:, potential.layout.gates] > 0)
    found = torch.stack(gates[30:]).double().mean((0, 1))
    torch.testing.assert_close(found, exact_inclusion(x, y), atol=0.03, rtol=0)


def test_closed_slabs_are_zero_and_nothing_else_moves() -> None:
    torch.manual_seed(0)
    potential = SpikePotential(linear, *data())
    layout, start = potential.layout, potential.starts(16)
    found = GateDraw(potential, 2)(start, PSEUDO)
    assert set(found[:, layout.gates].unique().tolist()) <= {-1.0, 1.0}
    closed = ~layout.is_open(found)
    assert closed.any() and torch.equal(found[:, layout.slabs] == 0, closed)
    others = torch.ones(start.shape[1], dtype=torch.bool)
    others[torch.cat([layout.gates, layout.slabs])] = False
    assert torch.equal(found[:, others], start[:, others])


def test_no_tries_are_refused() -> None:
    with pytest.raises(ValueError, match="tries must be at least 1, got 0"):
        GateDraw(SpikePotential(linear, *data()), 0)
