"""The spike potential: where gates and slabs lie, and the energy of the true spike-and-slab model."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from bnn_pyro.gated_parameters import gate_site
from bnn_pyro.inference.mcmc.potential.exact_gate_potential import SpikePotential
from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.priors import GroupLasso, SpikeSlab, gate, slab
from guides.sites import gate_product
from tests.models import DOUBLE, NOISE, data, linear, traced


def test_energy_is_that_of_the_true_spike_and_slab() -> None:
    """Gates as coordinates, of which the sign counts; closed slabs have no term."""
    x, y = data()
    potential = SpikePotential(linear, x, y)
    assert list(potential.latents) == ["w.gate_logit", "w.weight_decentered"]
    vector = torch.tensor([1.0, -1.0, 1.0, 0.3, 7.0, -0.4], dtype=DOUBLE)
    z, u = (vector[:3] > 0).to(DOUBLE), vector[3:]
    inclusion = torch.tensor([0.3, 0.7, 0.3], dtype=DOUBLE)
    expected = inclusion.log().sum() + dist.Normal(0, 1).log_prob(u[[0, 2]]).sum()
    expected = expected + dist.Normal(x @ (z * u), NOISE).log_prob(y).sum()
    energy, gradient = potential.value_and_gradient(vector)
    torch.testing.assert_close(energy, -expected)
    assert gradient[:3].tolist() == [0, 0, 0] and gradient[4] == 0 and gradient[3] != 0
    values = potential.unflatten(vector.repeat(2, 1))
    assert values.keys() == {"w.gate", "w.weight"} and torch.equal(values["w.gate"][1], z)


def network(x: Tensor) -> SparseNetwork:
    prior = SpikeSlab(GroupLasso(), inclusion=0.4)
    options: Any = {"likelihood": GaussianNoise(NOISE), "num_data": len(x), "select_inputs": True}
    return SparseNetwork(mlp(x.shape[1], (4, 2), 1).double(), x[:2], prior=prior, **options).eval()


def test_layout_of_a_network_is_that_of_the_guides() -> None:
    """A weight is closed where either of its ends is, with gates drawn at random."""
    x, y = data()
    model = network(x)
    potential = SpikePotential(model, x, y)
    layout = potential.layout
    assert len(layout.gates) == 3 + 4 + 2 and "output.bias" not in layout.shapes
    vectors = torch.randn(20, potential.size, dtype=DOUBLE)
    values = potential.unflatten(vectors)
    expected = []
    for parameter in model.bayesian:
        fn = traced(model.prior)().nodes[parameter.name]["fn"]
        gates = {gate_site(name): values[gate_site(name)] for name in model.groups}
        rows = [gate_product(parameter.hints(), {n: g[i] for n, g in gates.items()}, fn) for i in range(20)]
        if parameter.hints():
            expected.append(torch.stack([row.expand(parameter.shape).flatten() for row in rows if row is not None]))
    assert torch.equal(layout.is_open(vectors), torch.cat(expected, 1) > 0)
    moving = layout.moving(vectors)
    assert moving[:, layout.slabs].equal(layout.is_open(vectors)) and not moving[:, layout.gates].any()
    others = torch.ones(potential.size, dtype=torch.bool)
    others[layout.gates] = others[layout.slabs] = False
    assert moving[:, others].all()
    _, gradient = potential.value_and_gradient(vectors)
    assert (gradient[~moving] == 0).all() and (gradient[moving] != 0).double().mean() > 0.9
    for number, entries in enumerate(layout.owned):
        assert torch.equal(entries, (layout.owners == layout.gates[number]).any(-1).nonzero().flatten())


def test_slab_prior_is_that_of_the_scales() -> None:
    x, y = data()
    potential = SpikePotential(network(x), x, y)
    vectors = potential.starts(5)
    loc, scale = potential.slab_prior(vectors)
    values = potential.unflatten(vectors)
    rows = values["hidden1.tau_squared"].sqrt()  # each for the node's weights and its bias
    first = list(potential.layout.shapes).index("hidden1.weight")
    assert first == 0 and not loc.any()
    torch.testing.assert_close(scale[:, : 4 * 3], rows.repeat_interleave(3, 1))


def test_starts_are_open_and_closed_in_turn() -> None:
    potential = SpikePotential(linear, *data())
    starts, layout = potential.starts(5), potential.layout
    assert torch.equal(
        starts[:, layout.gates], torch.tensor([[1.0], [-1.0], [1.0], [-1.0], [1.0]]).expand(5, 3).double()
    )
    assert not starts[1::2, layout.slabs].any() and starts[::2, layout.slabs].all()


def test_a_gate_that_multiplies_everything_or_nothing() -> None:
    def model() -> None:
        whole, alone = gate("whole", 0.5), gate("alone", 0.5)
        w = slab("w", (2,), gates={"whole": -1})
        pyro.sample("y", dist.Normal(whole * w.sum() + alone, 1.0), obs=torch.tensor(1.0))

    layout = SpikePotential(model).layout
    assert layout.owners.tolist() == [[0], [0]] and [entries.tolist() for entries in layout.owned] == [[0, 1], []]


def test_a_model_without_gates_is_refused() -> None:
    def model() -> None:
        pyro.sample("x", dist.Normal(0.0, 1.0))

    with pytest.raises(ValueError, match="model must have a gate"):
        SpikePotential(model)


def test_draws_of_the_prior() -> None:
    x, y = data()
    model = network(x)
    draw = SpikePotential(model, x, y).prior_draw()
    assert set(potential_sites(model)) <= set(draw) and all(torch.isfinite(value).all() for value in draw.values())


def potential_sites(model: SparseNetwork) -> list[str]:
    return [p.name for p in model.bayesian]
