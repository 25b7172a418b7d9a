"""Runs are told apart by what decides them, also by what no name tells: functions, frozen weights, starting gates."""

import copy
from typing import Any

import pytest
import torch
from pyro.infer.autoguide import AutoLowRankMultivariateNormal, AutoNormal
from torch import Tensor, nn

from bnn_pyro.identity import differences
from bnn_pyro.inference.svi.elbo import SparseELBO
from bnn_pyro.inference.svi.run_identity import START, probe, run_identity, unlike
from bnn_pyro.network import SparseNetwork
from guides import AutoSpikeSlab
from tests.inference.svi.test_fit import X, Y
from tests.test_network import NETS, net_of, network


class Custom(nn.Module):
    """A net whose activation no module shows, with a table that is not trained."""

    def __init__(self, squash: Any = torch.tanh, table: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(6, 4), nn.Linear(4, 3)
        self.register_buffer("table", torch.full((), table))
        self._squash = squash

    def forward(self, x: Tensor) -> Tensor:
        """Squash in between."""
        return self.b(self._squash(self.a(x)) * self.table)  # type: ignore[no-any-return]


def identity(model: SparseNetwork, guide: Any = None, **options: Any) -> dict[str, object]:
    """The identity of a run."""
    return run_identity(model, guide or AutoSpikeSlab(model.prior), (X, Y), None, SparseELBO(**options))


def custom(*args: Any) -> SparseNetwork:
    """A Bayesian custom net."""
    return network(Custom(*args).double())


def numbers(model: SparseNetwork) -> dict[str, Tensor]:
    """The probe of a network with the usual guide."""
    return probe(model, AutoSpikeSlab(model.prior), X)


@pytest.mark.parametrize("name", NETS)
def test_the_same_run_has_the_same_identity(name: str) -> None:
    one, other = (network(net_of(name, seed)) for seed in (0, 1))
    assert differences(identity(one), identity(other)) == []
    assert unlike(numbers(one), numbers(network(name))) == [] and "network.outputs" in numbers(one)
    assert unlike(numbers(one), numbers(other)) == [START]


def test_tensors_that_are_not_trained_belong_to_it() -> None:
    assert differences(identity(custom()), identity(custom(torch.tanh, 2.0))) == ["network.fixed.content"]
    frozen, other = (net_of("normed", seed) for seed in (0, 1))
    for net in (frozen, other):
        net.get_submodule("1").requires_grad_(False)
    found = identity(network(frozen))
    assert found["network.fixed"] == ["1.weight", "1.bias"]
    assert differences(found, identity(network(other))) == ["network.fixed.content"]


def test_functions_are_told_by_what_they_compute() -> None:
    one, same, other = custom(), custom(lambda x: torch.tanh(x)), custom(torch.sigmoid)
    assert unlike(numbers(one), numbers(same)) == [] and unlike(numbers(one), numbers(other)) == ["network.outputs"]


def test_gates_that_start_elsewhere() -> None:
    model = network()
    guide = AutoSpikeSlab(model.prior)
    moved = copy.deepcopy(guide)
    for parameter in moved.parameter_groups()["gates"]:
        parameter.data[0] = -3.0
    assert unlike(probe(model, guide, X), probe(model, moved, X)) == ["guide.gates", START]
    assert unlike({}, probe(model, guide, X)) == []


def test_options_of_a_guide_of_pyro() -> None:
    model = network()
    one = identity(model, AutoNormal(model.prior, init_scale=0.1))
    assert one["guide"] == "AutoNormal" and one["guide.init_scale"] == 0.1
    assert differences(one, identity(model, AutoNormal(model.prior, init_scale=0.2))) == ["guide.init_scale"]
    low, lower = (AutoLowRankMultivariateNormal(model.prior, rank=rank) for rank in (3, 2))
    assert "guide.rank" in differences(identity(model, low), identity(model, lower))


def test_the_bound_belongs_to_it_but_for_its_kl_weight() -> None:
    model = network()
    assert differences(identity(model), identity(model, kl_weight=0.5)) == []
    assert differences(identity(model), identity(model, num_particles=2)) == ["elbo.num_particles"]


def test_a_probe_leaves_everything_as_it_was() -> None:
    model = network("convolutions")
    guide = AutoSpikeSlab(model.prior)
    state, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    found = probe(model, guide, X)
    assert torch.equal(torch.get_rng_state(), random) and model.net.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(value.dtype == torch.float64 and not value.requires_grad for value in found.values())


def test_a_net_that_refuses_the_weights_of_the_probe_has_no_outputs() -> None:
    def refuse(x: Tensor) -> Tensor:
        raise RuntimeError

    model = custom()
    net: Any = model.net
    net._squash = refuse
    assert numbers(model).keys() == {"guide.gates", START}
