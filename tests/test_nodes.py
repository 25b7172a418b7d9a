"""What `find_nodes` finds in nets of many shapes, what it refuses, and that it leaves the net alone."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnn_pyro.nodes import Axis, NodeGroup, Nodes, find_nodes, parameter_axes


class Net(nn.Module):
    """A net written as one function of its modules and its input."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Any:
        """Call the function."""
        return self.function(self, x)


def mlp() -> nn.Module:
    """An MLP with an activation that is not zero at zero, dropout and a layer without bias."""
    return nn.Sequential(
        *(nn.Linear(5, 6), nn.Sigmoid(), nn.Dropout(0.5), nn.Linear(6, 4, bias=False), nn.Softplus(), nn.Linear(4, 2))
    )


class ResidualMLP(nn.Module):
    """A stem, two residual blocks with nested names, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(5, 6)
        self.blocks = nn.ModuleList(nn.ModuleDict({"up": nn.Linear(6, 7), "down": nn.Linear(7, 6)}) for _ in range(2))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Add each block's output to the stream."""
        stream = self.stem(x)
        for block in self.blocks:
            stream = stream + block["down"](torch.sigmoid(block["up"](stream)))  # type: ignore[index]
        return self.head(F.softplus(stream))  # type: ignore[no-any-return]


def concat() -> nn.Module:
    """Two hidden layers and the inputs, read side by side."""
    return Net(
        lambda net, x: net.head(torch.cat([net.a(x).sigmoid(), x, F.softplus(net.b(x))], dim=-1)),
        a=nn.Linear(5, 4),
        b=nn.Linear(5, 3, bias=False),
        head=nn.Linear(12, 2),
    )


def concat_plus_wide() -> nn.Module:
    """A layer whose channels are tied to two others: the first four to one, the last three to the other."""
    return Net(
        lambda net, x: net.head(net.wide(x) + torch.cat([net.a(x).sigmoid(), net.b(x).sigmoid()], dim=-1)),
        a=nn.Linear(5, 4),
        b=nn.Linear(5, 3),
        wide=nn.Linear(5, 7),
        head=nn.Linear(7, 2),
    )


def repeated_plus_wide() -> nn.Module:
    """A layer of which channels 0 and 3, 1 and 4, 2 and 5 are tied, because each is added to the same channel."""
    return Net(
        lambda net, x: net.head(net.wide(x) + torch.cat([net.a(x).sigmoid()] * 2, dim=-1)),
        wide=nn.Linear(5, 6),
        a=nn.Linear(5, 3),
        head=nn.Linear(6, 2),
    )


def heads() -> nn.Module:
    """Two heads on one trunk, one of them with a hidden layer of its own."""

    def forward(net: Any, x: Tensor) -> Any:
        trunk = net.trunk(x).sigmoid()
        return torch.cat([net.mean(trunk), F.softplus(net.scale(net.hidden(trunk).sigmoid()))], dim=-1)

    parts = {"trunk": nn.Linear(5, 6), "mean": nn.Linear(6, 2), "hidden": nn.Linear(6, 4), "scale": nn.Linear(4, 1)}
    return Net(forward, **parts)


def shared() -> nn.Module:
    """A square layer that is used twice: it reads what it writes."""
    return Net(
        lambda net, x: net.head(net.square(net.square(net.stem(x).sigmoid()).sigmoid()).sigmoid()),
        stem=nn.Linear(5, 4),
        square=nn.Linear(4, 4),
        head=nn.Linear(4, 2),
    )


def siamese() -> nn.Module:
    """One layer on two views of the input, both read side by side."""
    return Net(
        lambda net, x: net.head(torch.cat([net.branch(x).sigmoid(), net.branch(-x).sigmoid()], dim=-1)),
        branch=nn.Linear(5, 4),
        head=nn.Linear(8, 2),
    )


def tied() -> nn.Module:
    """Two layers with one weight, and each its own bias."""
    a, b = nn.Linear(5, 4), nn.Linear(5, 4)
    b.weight = a.weight
    return Net(
        lambda net, x: net.head(torch.cat([net.a(x).sigmoid(), net.b(-x).sigmoid()], dim=-1)),
        a=a,
        b=b,
        head=nn.Linear(8, 2),
    )


def gated_linear_unit() -> nn.Module:
    """Halves of one layer that gate each other, so that channels i and i + 4 are one node."""

    def forward(net: Any, x: Tensor) -> Any:
        value, gate = net.both(x).chunk(2, dim=-1)
        return net.head(value * gate.sigmoid())

    return Net(forward, both=nn.Linear(5, 8), head=nn.Linear(4, 2))


def flattened() -> nn.Module:
    """A layer on each of three positions, all read by the next one."""
    return nn.Sequential(nn.Linear(5, 4), nn.Sigmoid(), nn.Flatten(), nn.Linear(12, 2))


def squeezed() -> nn.Module:
    """A regression net whose output has no channel dimension left."""
    return nn.Sequential(nn.Linear(5, 4), nn.Sigmoid(), nn.Linear(4, 1), nn.Flatten(0))


@dataclass(frozen=True)
class Case:
    """A net, and the nodes that it has."""

    net: Callable[[], nn.Module]
    sizes: dict[str, int]
    dense: tuple[str, ...]
    shape: tuple[int, ...] = (7, 5)


CASES = {
    "mlp": Case(mlp, {"inputs": 5, "0": 6, "3": 4}, ("5",)),
    "residual": Case(ResidualMLP, {"inputs": 5, "stem": 6, "blocks.0.up": 7, "blocks.1.up": 7}, ("head",)),
    "concat": Case(concat, {"inputs": 5, "a": 4, "b": 3}, ("head",)),
    "concat_plus_wide": Case(concat_plus_wide, {"inputs": 5, "a": 4, "b": 3}, ("head",)),
    "repeated_plus_wide": Case(repeated_plus_wide, {"inputs": 5, "wide": 3}, ("head",)),
    "heads": Case(heads, {"inputs": 5, "trunk": 6, "hidden": 4}, ("mean", "scale")),
    "shared": Case(shared, {"inputs": 5, "stem": 4}, ("head",)),
    "siamese": Case(siamese, {"inputs": 5, "branch": 4}, ("head",)),
    "tied": Case(tied, {"inputs": 5, "a": 4}, ("head",)),
    "gated_linear_unit": Case(gated_linear_unit, {"inputs": 5, "both": 4}, ("head",)),
    "flattened": Case(flattened, {"inputs": 5, "0": 4}, ("3",), shape=(7, 3, 5)),
    "flattened_inputs": Case(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(15, 4), nn.Sigmoid(), nn.Linear(4, 2)),
        {"inputs": 5, "1": 4},
        ("3",),
        shape=(7, 3, 5),
    ),
    "squeezed": Case(squeezed, {"inputs": 5, "0": 4}, ("2",)),
    "batch_of_one": Case(mlp, {"inputs": 5, "0": 6, "3": 4}, ("5",), shape=(1, 5)),
    "no_batch": Case(mlp, {"inputs": 5, "0": 6, "3": 4}, ("5",), shape=(5,)),
    "more_batch_dimensions": Case(concat, {"inputs": 5, "a": 4, "b": 3}, ("head",), shape=(2, 3, 5)),
    "linear": Case(lambda: nn.Linear(5, 2), {"inputs": 5}, ("",)),
}


def example(case: Case) -> Tensor:
    """A batch for the net of a case."""
    return torch.randn(case.shape, dtype=torch.float64)


def nodes_of(name: str) -> tuple[nn.Module, Tensor, Nodes]:
    """The net of a case in float64, a batch, and its nodes with the inputs."""
    case = CASES[name]
    net, x = case.net().double().eval(), example(case)
    return net, x, find_nodes(net, x, inputs=True)


def without_readers(net: nn.Module, groups: Sequence[NodeGroup], keep: dict[str, Tensor]) -> nn.Module:
    """A copy of the net with zeros in the columns that read nodes which are not kept."""
    masked = copy.deepcopy(net)
    parameters = dict(masked.named_parameters())
    with torch.no_grad():
        for group in groups:
            for axis in group.readers:
                for position, node in enumerate(axis.index.tolist()):
                    if node >= 0 and not keep[group.name][node]:
                        parameters[axis.parameter].select(axis.dim, position).zero_()
    return masked


def random_masks(groups: Sequence[NodeGroup], seed: int) -> dict[str, Tensor]:
    """Keep about half of the nodes of each group."""
    generator = torch.Generator().manual_seed(seed)
    return {group.name: torch.rand(group.size, generator=generator) < 0.5 for group in groups}


def axes_of(axes: Sequence[Axis]) -> dict[tuple[str, int], list[int]]:
    """The index of each side, as lists."""
    return {(axis.parameter, axis.dim): axis.index.tolist() for axis in axes}


def group_of(nodes: Nodes, name: str) -> NodeGroup:
    """The group of that name."""
    return next(group for group in nodes.groups if group.name == name)


@pytest.mark.parametrize("name", CASES)
def test_groups_have_the_names_and_sizes_of_the_layers(name: str) -> None:
    _, _, nodes = nodes_of(name)
    assert {group.name: group.size for group in nodes.groups} == CASES[name].sizes
    assert tuple(nodes.dense) == CASES[name].dense
    assert set(nodes.dense.values()) == {"is the output of the net"}


@pytest.mark.parametrize("name", CASES)
def test_inputs_are_a_group_only_on_request_and_change_nothing_else(name: str) -> None:
    net, x, with_inputs = nodes_of(name)
    nodes = find_nodes(net, x)
    assert [group.name for group in nodes.groups] == [group.name for group in with_inputs.groups[1:]]
    for group, same in zip(nodes.groups, with_inputs.groups[1:], strict=True):
        assert axes_of(group.writers) == axes_of(same.writers) and axes_of(group.readers) == axes_of(same.readers)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(2))
def test_nobody_else_reads_a_node(name: str, seed: int) -> None:
    """With the readers' columns at zero, the output does not depend on the writers at all."""
    net, x, nodes = nodes_of(name)
    keep = random_masks(nodes.groups, seed)
    masked = without_readers(net, nodes.groups, keep)
    expected = masked(x)
    parameters = dict(masked.named_parameters())
    with torch.no_grad():
        for group in nodes.groups:
            for axis in group.writers:
                closed = ~axis.spread(keep[group.name])
                rows = parameters[axis.parameter].movedim(axis.dim, 0)
                rows[closed] = torch.randn_like(rows[closed])
        x = torch.where(keep["inputs"], x, torch.randn_like(x))
    torch.testing.assert_close(masked(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_each_node_matters(name: str) -> None:
    """The readers of a node are columns that it is read by: without any one node the output changes."""
    net, x, nodes = nodes_of(name)
    for group in nodes.groups:
        for node in range(group.size):
            keep = {other.name: torch.ones(other.size, dtype=torch.bool) for other in nodes.groups}
            keep[group.name][node] = False
            assert (without_readers(net, nodes.groups, keep)(x) - net(x)).abs().max() > 1e-6


@pytest.mark.parametrize("name", CASES)
def test_each_row_is_written_by_one_node_or_its_layer_is_dense(name: str) -> None:
    net, _, nodes = nodes_of(name)
    axes = parameter_axes(nodes.groups)
    for layer, module in net.named_modules():
        if isinstance(module, nn.Linear) and layer not in nodes.dense:
            for leaf in ("weight", "bias") if module.bias is not None else ("weight",):
                weight = next(n for n, p in net.named_parameters() if p is getattr(module, leaf))
                claims = torch.stack([axis.index >= 0 for _, axis in axes[weight][0]]).sum(0)
                assert claims.tolist() == [1] * module.out_features


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


def between(middle: Callable[[Any, Tensor], Any], **parts: nn.Module | nn.Parameter) -> nn.Module:
    """A net with something between two linear layers."""
    return Net(lambda net, x: net.last(middle(net, net.first(x))), first=nn.Linear(5, 6), last=nn.Linear(6, 2), **parts)


MIXED, NEEDED, SEEN = "mixed before they are read", "does not run without some", "sees no way from it"


@pytest.mark.parametrize(
    ("net", "layer", "reason"),
    [
        (between(lambda _, h: h.softmax(-1)), "first", MIXED),
        (between(lambda _, h: h - h.mean(-1, keepdim=True)), "first", MIXED),
        (between(lambda _, h: F.layer_norm(h, (6,))), "first", MIXED),
        (between(lambda _, h: h + h.flip(-1)), "first", MIXED),
        (between(lambda _, h: h / h.norm()), "first", MIXED),
        (between(lambda _, h: h + h.detach().roll(1, -1)), "first", MIXED),
        (between(lambda net, h: net.norm(h), norm=nn.LayerNorm(6)), "first", "through 'norm' (LayerNorm)"),
        (between(lambda net, h: net.norm(h), norm=nn.BatchNorm1d(6)), "first", "through 'norm' (BatchNorm1d)"),
        (between(lambda net, h: net.slope(h), slope=nn.PReLU(6)), "first", "through 'slope' (PReLU)"),
        (between(lambda net, h: net.gain * h, gain=nn.Parameter(torch.ones(6))), "first", "through 'gain' (Parameter)"),
        (between(lambda _, h: h + torch.ones(6)), "first", NEEDED),
        (between(lambda _, h: h.reshape(7, 2, 3).sigmoid().flatten(1)), "first", NEEDED),
        (between(lambda _, h: h / h.shape[-1]), "first", "computes something else"),
        (between(lambda _, h: h.detach()), "first", SEEN),
        (between(lambda _, h: h.sigmoid(), unused=nn.Linear(2, 2)), "unused", SEEN),
        (
            Net(lambda net, x: net.b(x + net.a(x)), a=nn.Linear(5, 5), b=nn.Linear(5, 2)),
            "a",
            "ties its channels to the inputs",
        ),
        (
            Net(lambda net, x: torch.cat([net.a(x), net.b(net.a(x))], -1), a=nn.Linear(5, 3), b=nn.Linear(3, 1)),
            "a",
            "output",
        ),
        (
            nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)), nn.Linear(4, 2)),
            "0",
            "plain parameter",
        ),
        (
            nn.Sequential(nn.Linear(5, 4), nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))),
            "0",
            "plain parameter",
        ),
    ],
)
def test_what_cannot_be_removed_stays_dense_and_says_why(net: nn.Module, layer: str, reason: str) -> None:
    nodes = find_nodes(net, torch.randn(7, 5))
    assert reason in nodes.dense[layer]
    assert layer not in {group.name for group in nodes.groups}


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


def test_weights_at_zero_hide_nothing() -> None:
    """A head that starts at zero passes nothing on, yet softmax still mixes."""
    net = between(lambda _, h: h.softmax(-1))
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    assert MIXED in find_nodes(net, torch.zeros(7, 5)).dense["first"]


def test_a_net_without_nodes_has_no_groups() -> None:
    nodes = find_nodes(nn.Linear(5, 2), torch.randn(7, 5))
    assert nodes.groups == () and nodes.dense == {"": "is the output of the net"}


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (Net(lambda net, x: net.b(x + net.a(x)), a=nn.Linear(5, 5), b=nn.Linear(5, 2)), "output channels of 'a'"),
        (Net(lambda net, x: x + net.a(x), a=nn.Linear(5, 5)), "output channels of 'a'"),
        (Net(lambda net, x: torch.cat([x, net.a(x)], -1), a=nn.Linear(5, 5)), "is the output of the net"),
        (nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 2)), r"through '0' \(LayerNorm\)"),
        (nn.Sequential(nn.Softmax(-1), nn.Linear(5, 2)), "mixed before they are read"),
        (Net(lambda net, x: net.a(x[:, :2]) + net.b(x[:, 2:]), a=nn.Linear(2, 1), b=nn.Linear(3, 1)), "does not run"),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 2))), "plain parameter"),
    ],
)
def test_inputs_that_cannot_be_removed_are_refused(net: nn.Module, reason: str) -> None:
    with pytest.raises(ValueError, match=f"inputs=True .*{reason}"):
        find_nodes(net, torch.randn(7, 5), inputs=True)


def test_inputs_group_avoids_the_name_of_a_module() -> None:
    net = Net(lambda net, x: net.last(net.inputs(x).sigmoid()), inputs=nn.Linear(5, 4), last=nn.Linear(4, 2))
    nodes = find_nodes(net, torch.randn(7, 5), inputs=True)
    assert [group.name for group in nodes.groups] == ["network_inputs", "inputs"]
    assert nodes.groups[0].writers == ()


@pytest.mark.parametrize(
    ("excluded", "left"),
    [
        ("stem", ["blocks.0.up", "blocks.1.up"]),
        ("blocks.1.down", ["blocks.0.up", "blocks.1.up"]),
        ("blocks.0.up", ["stem", "blocks.1.up"]),
    ],
)
def test_exclude_leaves_all_dense_that_is_tied_to_a_layer(excluded: str, left: list[str]) -> None:
    nodes = find_nodes(ResidualMLP(), torch.randn(7, 5), exclude=[excluded])
    assert [group.name for group in nodes.groups] == left
    assert nodes.dense[excluded] == "is excluded by name"


class Untraceable(nn.Module):
    """Runs well, but only without the hooks that tracing puts on its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Refuse to be watched."""
        if self.layer._forward_hooks:
            raise RuntimeError("no hooks, please")
        return self.layer(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("net", "x", "message"),
    [
        (mlp(), [[1.0] * 5], "example_input must be .*; got list"),
        (mlp(), torch.ones(7, 5, dtype=torch.long), "example_input must be .*; got dtype torch.int64"),
        (mlp(), torch.ones(0, 5), r"example_input must be a non-empty .* shape \(0, 5\)"),
        (mlp(), torch.tensor(1.0), "example_input must be .* shape"),
        (mlp(), torch.full((2, 5), torch.nan), "example_input must be .* finite values.*; got 10 NaN"),
        (mlp(), torch.ones(7, 4), r"example_input must be a batch that net can be called with; shape \(7, 4\) .*mat1"),
        (nn.Sequential(nn.ReLU()), torch.ones(7, 5), "net must have at least one Linear layer; Sequential has none"),
        (Net(lambda net, x: (net.a(x), x), a=nn.Linear(5, 2)), torch.ones(7, 5), "net must return one .*; got tuple"),
        (Net(lambda net, x: net.a(x).argmax(-1), a=nn.Linear(5, 2)), torch.ones(7, 5), "net must return .*int64"),
        (Net(lambda net, x: net.a(x) / 0, a=nn.Linear(5, 2)), torch.ones(7, 5), "net must return finite values"),
        (Untraceable(), torch.ones(7, 5), "net must be one that Torch-Pruning can trace; .*: no hooks, please"),
    ],
)
def test_bad_input_is_refused(net: nn.Module, x: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_nodes(net, x)


@pytest.mark.parametrize("exclude", [["stem", "missing"], ["blocks.0"], "stem"])
def test_unknown_names_to_exclude_list_the_layers(exclude: Sequence[str]) -> None:
    with pytest.raises(ValueError, match="exclude must be .* stem, blocks.0.up, blocks.0.down, .*, head; got"):
        find_nodes(ResidualMLP(), torch.ones(7, 5), exclude=exclude)


@pytest.mark.parametrize("training", [True, False])
def test_the_net_is_left_alone(training: bool) -> None:
    net = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 4), nn.Linear(4, 2))
    net.train(training)
    net[1].train(not training)
    net[0].weight.requires_grad_(False)
    net(torch.randn(7, 5)).sum().backward()
    hook = net[2].register_forward_hook(lambda *_: None)
    x = torch.randn(7, 5, requires_grad=True)
    before, state, generator = copy.deepcopy(net), copy.deepcopy(net.state_dict()), torch.get_rng_state()
    x_before, parameters = x.detach().clone(), list(net.parameters())
    gradients = [parameter.grad if parameter.grad is None else parameter.grad.clone() for parameter in parameters]

    find_nodes(net, x)

    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert [module.training for module in net.modules()] == [module.training for module in before.modules()]
    assert all(parameter is same for parameter, same in zip(net.parameters(), parameters, strict=True))
    for parameter, same in zip(net.parameters(), before.parameters(), strict=True):
        assert parameter.requires_grad == same.requires_grad
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert parameter.grad is gradient is None or torch.equal(parameter.grad, gradient)  # type: ignore[arg-type]
    assert [len(module._forward_hooks) for module in net.modules()] == [0, 0, 0, 1, 0, 0, 0]
    assert torch.equal(x, x_before) and x.grad is None and x.requires_grad
    hook.remove()


def test_the_result_does_not_depend_on_dtype_mode_or_weights() -> None:
    expected = find_nodes(mlp().double().eval(), torch.randn(7, 5).double(), inputs=True)
    frozen = mlp().requires_grad_(False).train()
    for net, dtype in ((frozen, torch.float32), (mlp().bfloat16(), torch.bfloat16)):
        nodes = find_nodes(net, torch.randn(3, 5, dtype=dtype), inputs=True)
        assert nodes.dense == expected.dense
        for group, same in zip(nodes.groups, expected.groups, strict=True):
            assert group.name == same.name and group.size == same.size
            assert axes_of(group.writers) == axes_of(same.writers) and axes_of(group.readers) == axes_of(same.readers)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradients_may_be_off_outside(context: Callable[[], torch.no_grad]) -> None:
    with context():
        x = torch.randn(7, 5)
        assert [group.name for group in find_nodes(mlp(), x).groups] == ["0", "3"]


def test_a_net_that_casts_is_tried_out_in_its_own_dtype() -> None:
    net = between(lambda _, h: h.sigmoid())
    mixing = between(lambda _, h: h.softmax(-1))
    for inner, groups in ((net, 1), (mixing, 0)):
        casting = Net(lambda outer, x: outer.inner(x.float()), inner=inner)
        assert len(find_nodes(casting, torch.randn(7, 5)).groups) == groups


def test_index_stands_on_the_device_of_the_parameter_and_spreads_values() -> None:
    axis = Axis("weight", 1, torch.tensor([1, -1, 0]))
    assert axis.spread(torch.tensor([[2.0, 3.0], [4.0, 5.0]])).tolist() == [[3.0, 1.0, 2.0], [5.0, 1.0, 4.0]]
    assert axis.spread(torch.tensor([False, True])).tolist() == [True, True, False]


@pytest.mark.gpu
def test_nodes_of_a_net_on_a_gpu() -> None:
    net, x = mlp().cuda(), torch.randn(7, 5, device="cuda")
    generators = torch.get_rng_state(), torch.cuda.get_rng_state()
    nodes = find_nodes(net, x, inputs=True)
    assert torch.equal(torch.get_rng_state(), generators[0]) and torch.equal(torch.cuda.get_rng_state(), generators[1])
    assert {group.name: group.size for group in nodes.groups} == CASES["mlp"].sizes
    assert all(axis.index.is_cuda for group in nodes.groups for axis in (*group.writers, *group.readers))


def test_parameter_axes_list_the_groups_of_each_dimension() -> None:
    net, _, nodes = nodes_of("concat")
    axes = parameter_axes(nodes.groups)
    assert [name for name, _ in axes["head.weight"][1]] == ["inputs", "a", "b"]
    assert [name for name, _ in axes["a.weight"][0]] == ["a"] and [name for name, _ in axes["a.weight"][1]] == [
        "inputs"
    ]
    assert set(axes) == {name for name, _ in net.named_parameters()} - {"head.bias"}
