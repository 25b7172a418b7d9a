"""What a group of nodes says of itself."""

import torch

from bnn_pyro.nodes import Axis, Nodes, parameter_axes
from tests.nodes.nets import nodes_of


def test_index_stands_on_the_device_of_the_parameter_and_spreads_values() -> None:
    axis = Axis("weight", 1, torch.tensor([1, -1, 0]))
    assert axis.spread(torch.tensor([[2.0, 3.0], [4.0, 5.0]])).tolist() == [[3.0, 1.0, 2.0], [5.0, 1.0, 4.0]]
    assert axis.spread(torch.tensor([False, True])).tolist() == [True, True, False]


def test_parameter_axes_list_the_groups_of_each_dimension() -> None:
    net, _, nodes = nodes_of("concat")
    axes = parameter_axes(nodes.groups)
    assert [name for name, _ in axes["head.weight"][1]] == ["inputs", "a", "b"]
    assert [name for name, _ in axes["a.weight"][0]] == ["a"] and [name for name, _ in axes["a.weight"][1]] == [
        "inputs"
    ]
    assert set(axes) == {name for name, _ in net.named_parameters()} - {"head.bias"}


def test_inputs_are_the_group_without_writers_or_none() -> None:
    _, _, nodes = nodes_of("concat")
    assert nodes.inputs is not None and nodes.inputs.name == "inputs"
    rest = Nodes(tuple(group for group in nodes.groups if group.writers), {})
    assert rest.inputs is None
