"""Nets of many shapes, and what tests ask of their nodes."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnn_pyro.nodes import Axis, NodeGroup, Nodes, find_nodes


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


def between(middle: Callable[[Any, Tensor], Any], **parts: nn.Module | nn.Parameter) -> nn.Module:
    """A net with something between two linear layers."""
    return Net(lambda net, x: net.last(middle(net, net.first(x))), first=nn.Linear(5, 6), last=nn.Linear(6, 2), **parts)


MIXED, NEEDED, SEEN = "mixed before they are read", "does not run without some", "sees no way from it"


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
