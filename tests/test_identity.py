"""What tells networks and options apart is found, and what does not is left out."""

import json
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.identity import described, differences, digest, is_short, network_identity, others
from bnn_pyro.likelihoods import Categorical, GaussianNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.priors import Gaussian, GroupHorseshoe, SpikeSlab
from tests.test_network import network


@dataclass(frozen=True)
class Inner:
    """An option of a class."""

    rate: float = 0.5
    sizes: tuple[int, ...] = (1, 2)


class Outer:
    """An object that is no dataclass, and holds itself."""

    def __init__(self, table: Tensor) -> None:
        self.inner, self.table, self.itself = Inner(), table, self


def test_a_digest_has_dtype_shape_and_content() -> None:
    x = torch.arange(6.0)
    assert digest((x, 3)) == digest([x.clone(), 3]) == digest({"any": x, "names": 3})
    changed = [x.double(), x.reshape(2, 3), x + torch.tensor([0, 0, 0, 0, 0, 1e-6]), x[:5]]
    assert len({digest(value) for value in (x, *changed)}) == 5
    assert digest(x.reshape(2, 3).T) == digest(x.reshape(2, 3).T.contiguous())
    assert digest(torch.zeros(0)) != digest(torch.zeros(0, 3)) and len(digest(None)) == 64


def test_options_become_plain_values() -> None:
    found = described("outer", Outer(torch.zeros(3)))
    assert found.pop("outer.table.content") == digest(torch.zeros(3))
    assert found == {
        "outer": "Outer",
        "outer.inner": "Inner",
        "outer.inner.rate": 0.5,
        "outer.inner.sizes": [1, 2],
        "outer.table": "float32 (3,)",
        "outer.itself": "Outer",
    }
    assert described("none", None) == {"none": None}
    assert described("f", torch.relu)["f"].__class__ is str and described("f", Inner) == {"f": "Inner"}
    assert described("f", partial(torch.optim.SGD, lr=0.1)) == {"f": "SGD", "f.args": [], "f.lr": 0.1}
    assert described("m", {"a": np.float64(1.5), "b": [Inner(), None]}) == {
        **{"m": ["a", "b"], "m.a": 1.5, "m.b": 2, "m.b.0": "Inner", "m.b.0.rate": 0.5, "m.b.0.sizes": [1, 2]},
        **{"m.b.1": None},
    }
    array = described("a", np.zeros((2, 3)))
    assert array["a"] == "float64 (2, 3)" and array != described("a", np.ones((2, 3)))
    assert described("n", nn.Linear(2, 3))["n"] == "Linear(in_features=2, out_features=3, bias=True)"
    others = {"s": {3, 1}, "d": torch.float64, "on": torch.device("cpu")}
    assert described("o", others) == {"o": ["s", "d", "on"], "o.s": ["1", "3"], "o.d": "torch.float64", "o.on": "cpu"}
    assert json.dumps(described("outer", Outer(torch.zeros(3))))


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "sigma": ({"prior": SpikeSlab(Gaussian(9.0), inclusion=0.3)}, "prior.slab.sigma"),
    "slab": ({"prior": SpikeSlab(GroupHorseshoe(), inclusion=0.3)}, "prior.slab"),
    "inclusion": ({"prior": SpikeSlab(Gaussian(), inclusion=0.4)}, "prior.inclusion.hidden1"),
    "temperature": ({"prior": SpikeSlab(Gaussian(), inclusion=0.3, temperature=0.1)}, "prior.temperature"),
    "no spike": ({"prior": Gaussian()}, "prior"),
    "likelihood": ({"likelihood": GaussianNoise()}, "likelihood"),
    "activation": ({"net": mlp(6, (4,), 1, activation=nn.Tanh)}, "network.activation1"),
    "width": ({"net": mlp(6, (5,), 1)}, "network.hidden1"),
    "inputs": ({"select_inputs": True}, "prior.inclusion"),
}


def one_output(**changes: Any) -> SparseNetwork:
    """A small network, or another one."""
    made = {"net": mlp(6, (4,), 1), "prior": SpikeSlab(Gaussian(), inclusion=0.3), "likelihood": Categorical()}
    given = {**made, **changes}
    return SparseNetwork(given.pop("net"), torch.zeros(2, 6), num_data=12, **given)


@pytest.mark.parametrize("name", CHANGES)
def test_another_network_is_told_from_this_one(name: str) -> None:
    changes, expected = CHANGES[name]
    assert expected == differences(network_identity(one_output()), network_identity(one_output(**changes)))[0]


@pytest.mark.parametrize("name", ["mlp", "normed", "residual convolutions", "transformer", "concat"])
def test_weights_and_dtype_are_no_part_of_it(name: str) -> None:
    torch.manual_seed(0)
    first = network_identity(network(name))
    torch.manual_seed(1)
    assert differences(first, network_identity(network(name).float())) == []
    assert json.dumps(first)


def test_functions_of_the_net_are_part_of_it() -> None:
    one, other = (one_output(net=mlp(6, (4,), 1)) for _ in range(2))
    for model, squash in ((one, torch.tanh), (other, torch.sigmoid)):
        layer: Any = model.net.get_submodule("output")
        layer.squash = squash
    assert differences(network_identity(one), network_identity(other)) == ["network.output.squash"]


def test_what_a_file_does_not_name_is_not_compared() -> None:
    here: dict[str, object] = {"a": 1, "b": (1, 2.0), "c": "x"}
    assert differences({}, here) == [] and differences({"b": [1, 2.0 * (1 + 1e-12)]}, here) == []
    assert differences({"a": 2, "b": [1, 3], "c": "x", "d": None}, here) == ["a", "b", "d"]
    assert differences({"a": float("nan")}, {"a": float("nan")}) == []


def test_messages_name_some_differences() -> None:
    assert is_short(0.5) and not is_short("0" * 64)
    assert others(["a"]) == "" and others(["a", "b"]) == " (different, too: b)"
    assert others(list("abcdefg")) == " (different, too: b, c, d, e, ...)"


def test_a_network_that_was_made_smaller_keeps_its_prior() -> None:
    whole = one_output()
    smaller = whole.replaced(whole.net, whole.nodes, None)
    assert network_identity(smaller) == network_identity(whole)
    other = SpikeSlab(replace(Gaussian(), sigma=2.0), inclusion=0.3)
    assert network_identity(one_output(prior=other)) != network_identity(whole)
