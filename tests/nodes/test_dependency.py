"""Which rows and columns are found to belong together."""

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from bnn_pyro.nodes import find_nodes, parameter_axes
from bnn_pyro.nodes.dependency import _IS_ELSEWHERE
from bnn_pyro.nodes.kinds import kind_of
from tests.nodes.nets import CASES, Net, axes_of, between, group_of, nodes_of


@pytest.mark.parametrize("name", CASES)
def test_each_row_is_written_by_one_node_or_its_layer_is_dense(name: str) -> None:
    net, _, nodes = nodes_of(name)
    axes = parameter_axes(nodes.groups)
    for layer, module in net.named_modules():
        kind = kind_of(module)
        for leaf, dim in () if kind is None or layer in nodes.dense else kind.writers:
            if getattr(module, leaf) is not None:
                parameter = next(n for n, p in net.named_parameters() if p is getattr(module, leaf))
                claims = torch.stack([axis.index >= 0 for _, axis in axes[parameter][dim]]).sum(0)
                assert claims.tolist() == [1] * net.get_parameter(parameter).shape[dim]


def test_index_of_a_residual_stream() -> None:
    """One group rules all layers that write into the stream, and all that read it."""
    _, _, nodes = nodes_of("residual")
    stream = group_of(nodes, "stem")
    same = list(range(6))
    assert axes_of(stream.writers) == {
        (f"{layer}.{leaf}", 0): same
        for layer in ("stem", "blocks.0.down", "blocks.1.down")
        for leaf in ("weight", "bias")
    }
    assert axes_of(stream.readers) == {(f"{layer}.weight", 1): same for layer in ("blocks.0.up", "blocks.1.up", "head")}


def test_index_of_a_concatenation() -> None:
    _, _, nodes = nodes_of("concat")
    read = {group.name: axes_of(group.readers)["head.weight", 1] for group in nodes.groups}
    assert read["a"] == [0, 1, 2, 3, *[-1] * 8]
    assert read["inputs"] == [*[-1] * 4, 0, 1, 2, 3, 4, *[-1] * 3]
    assert read["b"] == [*[-1] * 9, 0, 1, 2]
    assert axes_of(group_of(nodes, "b").writers) == {("b.weight", 0): [0, 1, 2]}


@pytest.mark.parametrize(
    ("name", "group", "side", "index"),
    [
        ("concat_plus_wide", "b", ("wide.bias", 0), [-1, -1, -1, -1, 0, 1, 2]),
        ("repeated_plus_wide", "wide", ("wide.weight", 0), [0, 1, 2, 0, 1, 2]),
        ("repeated_plus_wide", "wide", ("a.bias", 0), [0, 1, 2]),
        ("shared", "stem", ("square.weight", 0), [0, 1, 2, 3]),
        ("shared", "stem", ("square.weight", 1), [0, 1, 2, 3]),
        ("siamese", "branch", ("head.weight", 1), [0, 1, 2, 3] * 2),
        ("tied", "a", ("head.weight", 1), [0, 1, 2, 3] * 2),
        ("tied", "a", ("b.bias", 0), [0, 1, 2, 3]),
        ("gated_linear_unit", "both", ("both.weight", 0), [0, 1, 2, 3] * 2),
        ("gated_linear_unit", "both", ("head.weight", 1), [0, 1, 2, 3]),
        ("flattened", "0", ("3.weight", 1), [0, 1, 2, 3] * 3),
        ("flattened_inputs", "inputs", ("1.weight", 1), [0, 1, 2, 3, 4] * 3),
    ],
)
def test_index_where_nodes_are_tied_or_read_twice(
    name: str, group: str, side: tuple[str, int], index: list[int]
) -> None:
    found = group_of(nodes_of(name)[2], group)
    assert axes_of((*found.writers, *found.readers))[side] == index


def test_a_slope_for_all_channels_is_no_obstacle() -> None:
    net = between(lambda net, h: net.slope(h), slope=nn.PReLU())
    assert [group.size for group in find_nodes(net, torch.randn(7, 5)).groups] == [6]


def test_gating_by_a_mean_of_the_inputs_is_no_tie() -> None:
    """To Torch-Pruning the product ties hidden channels to the inputs; the trial knows better."""
    net = Net(lambda net, x: net.b(net.a(x) * x.mean(-1, keepdim=True)), a=nn.Linear(5, 6), b=nn.Linear(6, 2))
    assert [group.size for group in find_nodes(net, torch.randn(7, 5)).groups] == [6]


def test_only_the_channels_that_cannot_be_removed_stay_dense() -> None:
    """The first two of six channels are also returned."""

    def forward(net: Any, x: Tensor) -> Any:
        returned, hidden = net.first(x).split([2, 4], dim=-1)
        return torch.cat([returned, net.last(hidden.sigmoid())], dim=-1)

    nodes = find_nodes(Net(forward, first=nn.Linear(5, 6), last=nn.Linear(4, 2)), torch.randn(7, 5))
    assert nodes.groups == ()  # the split has fixed sizes
    assert nodes.dense["first"].startswith(
        "2 of its 6 channels: is the output of the net; 4 of its 6 channels: the net"
    )


def test_channels_that_are_led_astray_say_so() -> None:
    """Attention in windows: a reshaped tensor is taken for one with more channels; no layer's weight is at fault."""
    torch.manual_seed(0)
    sizes = {"stem_channels": 4, "partition_size": 2, "block_channels": [8], "block_layers": [1], "head_dim": 4}
    options: dict[str, Any] = {**sizes, "stochastic_depth_prob": 0.0, "num_classes": 3}
    nodes = find_nodes(torchvision.models.MaxVit(input_size=(8, 8), **options), torch.randn(2, 3, 8, 8))
    astray = {name: reason for name, reason in nodes.dense.items() if name.endswith("to_qkv")}
    assert len(astray) == 2 and set(astray.values()) == {_IS_ELSEWHERE}
    assert {group.name: group.size for group in nodes.groups}["stem.0.0"] == 4 and len(nodes.groups) == 7
