"""Gates stand where the nodes of a group are, along the dimensions of parameters."""

import pytest
import torch

from bnn_pyro.gated_parameters import BayesianParameter, gate_site, layer_of, layer_sizes, multiplied, readings_of
from bnn_pyro.nodes import Axis, NodeGroup

GATES = {"a": torch.tensor([2.0, 3.0])}


def group(*readers: Axis) -> NodeGroup:
    return NodeGroup("a", 2, writers=(), readers=readers, buffers=(), can_be_empty=True)


def test_gates_multiply_the_positions_of_their_nodes() -> None:
    whole, part = torch.tensor([0, 1]), torch.tensor([-1, 1, 0])
    groups = [group(Axis("v", 1, whole), Axis("w", 0, part))]
    found = readings_of(groups, "readers", {"v": (3, 2), "w": (3, 2)})
    assert torch.equal(multiplied(torch.ones(3, 2), found["v"], GATES), GATES["a"].expand(3, 2))
    expected = torch.tensor([1.0, 3.0, 2.0]).unsqueeze(1).expand(3, 2)
    assert torch.equal(multiplied(torch.ones(3, 2), found["w"], GATES), expected)


def test_hints_name_every_gate_at_either_end() -> None:
    axis = Axis("w", 1, torch.tensor([0, 1]))
    (reading,) = readings_of([group(axis)], "readers", {"w": (2, 2)})["w"]
    once = BayesianParameter("w", "net", (2, 2), (), (reading,))
    twice = BayesianParameter("w", "net", (2, 2), (reading,), (reading,))
    assert once.hints() == {gate_site("a"): -1} and twice.hints() == {gate_site("a"): [-1, -1]}


@pytest.mark.parametrize(
    ("parameter", "layer"),
    [
        ("hidden.weight", "hidden"),
        ("weight", "net"),
        ("body.rnn.weight_hh_l1_reverse", "body.rnn.l1_reverse"),
        ("bias_ih_l0", "net.l0"),
        ("cell.weight_ih", "cell"),
    ],
)
def test_layers_of_parameters(parameter: str, layer: str) -> None:
    assert layer_of(parameter) == layer


def test_sizes_of_layers() -> None:
    weight, bias = (BayesianParameter(f"l.{leaf}", "l", shape, (), ()) for leaf, shape in (("w", (4, 3)), ("b", (4,))))
    assert layer_sizes([weight, bias]) == {"l": (4, 4)}
    odd = BayesianParameter("l.odd", "l", (3,), (), ())
    with pytest.raises(ValueError, match=r"bayesian must choose .*'l.odd' has shape \(3,\) where others of 'l' have 4"):
        layer_sizes([weight, odd])
