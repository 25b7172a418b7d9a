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


class Stream(nn.Module):
    """A residual block of one layer, so that one group of nodes stands at both ends of its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's output to the stem's."""
        h = self.stem(x)
        return self.head((h + self.block(h.sigmoid())).sigmoid())  # type: ignore[no-any-return]


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


def convolutions() -> nn.Module:
    """Two convolutions with pooling, and a perceptron that reads the flattened images."""
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3, stride=2), nn.Sigmoid(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 2, padding=1, bias=False)),
        *(nn.Softplus(), nn.Flatten(), nn.Linear(5 * 16, 3), nn.Sigmoid(), nn.Linear(3, 2)),
    )


def deep_convolution(dims: int) -> nn.Module:
    """Convolutions in one or three dimensions, averaged over positions, and a head."""
    kind = {1: nn.Conv1d, 3: nn.Conv3d}[dims]
    return Net(
        lambda net, x: net.head(net.b(net.a(x).sigmoid()).sigmoid().flatten(2).mean(-1)),
        a=kind(2, 4, 2),
        b=kind(4, 3, 2),
        head=nn.Linear(3, 2),
    )


def transposed() -> nn.Module:
    """An image from an image, up a step and down again, without any linear layer."""
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 2), nn.Sigmoid(), nn.ConvTranspose2d(4, 5, 2, stride=2), nn.Sigmoid()),
        *(nn.ConvTranspose2d(5, 5, 2, groups=5), nn.Sigmoid(), nn.ConvTranspose2d(5, 1, 2, bias=False)),
    )


def depthwise() -> nn.Module:
    """A separable convolution: each channel by itself, then all of them at each position."""
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 1), nn.Sigmoid(), nn.Conv2d(4, 4, 3, groups=4, padding=1), nn.Sigmoid()),
        *(nn.Conv2d(4, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)),
    )


def settled(net: nn.Module) -> nn.Module:
    """A net whose BatchNorms have statistics, weights and biases like no other."""
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (*module.parameters(), *module.buffers()):
                if tensor.dim():
                    tensor.data = 0.5 + torch.rand(tensor.shape, generator=generator)
    return net


def batch_norm(affine: bool = True) -> nn.Module:
    """A perceptron with BatchNorms before and behind activations."""
    return settled(
        nn.Sequential(
            *(nn.Linear(5, 6), nn.BatchNorm1d(6, affine=affine), nn.Sigmoid(), nn.Linear(6, 4), nn.Softplus()),
            *(nn.BatchNorm1d(4, affine=affine), nn.Linear(4, 2)),
        )
    )


def residual_convolutions() -> nn.Module:
    """Residual blocks with BatchNorms, one on the stream and one that changes its width."""

    def forward(net: Any, x: Tensor) -> Any:
        stream = net.stem_norm(net.stem(x)).sigmoid()
        stream = (stream + net.norm2(net.conv2(net.norm1(net.conv1(stream)).sigmoid()))).sigmoid()
        wide = net.norm4(net.conv4(F.softplus(net.norm3(net.conv3(stream)))))
        stream = (net.shortcut_norm(net.shortcut(stream)) + wide).sigmoid()
        return net.head(stream.mean((-2, -1)))

    def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
        return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)

    return settled(
        Net(
            forward,
            **{"stem": convolution(2, 4), "stem_norm": nn.BatchNorm2d(4)},
            **{"conv1": convolution(4, 3), "norm1": nn.BatchNorm2d(3)},
            **{"conv2": convolution(3, 4), "norm2": nn.BatchNorm2d(4)},
            **{"conv3": convolution(4, 5, 2), "norm3": nn.BatchNorm2d(5, affine=False)},
            **{"conv4": convolution(5, 6), "norm4": nn.BatchNorm2d(6)},
            **{"shortcut": nn.Conv2d(4, 6, 1, 2), "shortcut_norm": nn.BatchNorm2d(6, track_running_stats=True)},
            head=nn.Linear(6, 2),
        )
    )


def dense_block() -> nn.Module:
    """Each layer reads all before it, side by side, behind a BatchNorm of its own."""

    def forward(net: Any, x: Tensor) -> Any:
        features = net.stem(x)
        for number in (1, 2):
            normed = net.get_submodule(f"norm{number}")(features).sigmoid()
            features = torch.cat([features, net.get_submodule(f"conv{number}")(normed)], 1)
        return net.head(F.adaptive_avg_pool2d(net.last(features).sigmoid(), 1).flatten(1))

    return settled(
        Net(
            forward,
            stem=nn.Conv2d(2, 4, 3),
            **{"norm1": nn.BatchNorm2d(4), "conv1": nn.Conv2d(4, 3, 3, padding=1)},
            **{"norm2": nn.BatchNorm2d(7), "conv2": nn.Conv2d(7, 3, 3, padding=1)},
            last=nn.BatchNorm2d(10),
            head=nn.Linear(10, 2),
        )
    )


def squeeze_and_excitation() -> nn.Module:
    """Channels that are weighted by what a small net makes of their means."""

    def forward(net: Any, x: Tensor) -> Any:
        h = net.conv(x).sigmoid()
        weights = net.excite(F.softplus(net.squeeze(F.adaptive_avg_pool2d(h, 1)))).sigmoid()
        return net.head((h * weights).flatten(1))

    return Net(
        forward,
        **{"conv": nn.Conv2d(2, 4, 3), "squeeze": nn.Conv2d(4, 3, 1), "excite": nn.Conv2d(3, 4, 1)},
        head=nn.Linear(4 * 9, 2),
    )


@dataclass(frozen=True)
class Case:
    """A net, and the nodes that it has."""

    net: Callable[[], nn.Module]
    sizes: dict[str, int]
    dense: tuple[str, ...]
    shape: tuple[int, ...] = (7, 5)
    has_inputs: bool = True


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
    "convolutions": Case(convolutions, {"0": 4, "3": 5, "6": 3}, ("8",), (3, 2, 14, 14), has_inputs=False),
    "convolution_1d": Case(lambda: deep_convolution(1), {"a": 4, "b": 3}, ("head",), (3, 2, 6), has_inputs=False),
    "convolution_3d": Case(lambda: deep_convolution(3), {"a": 4, "b": 3}, ("head",), (2, 2, 4, 3, 3), has_inputs=False),
    "transposed": Case(transposed, {"0": 4, "2": 5}, ("6",), (3, 2, 4, 4), has_inputs=False),
    "depthwise": Case(depthwise, {"0": 4, "4": 3}, ("7",), (3, 2, 5, 5), has_inputs=False),
    "batch_norm": Case(batch_norm, {"inputs": 5, "0": 6, "3": 4}, ("6",)),
    "batch_norm_without_affine": Case(lambda: batch_norm(affine=False), {"inputs": 5, "0": 6, "3": 4}, ("6",)),
    "residual_convolutions": Case(
        residual_convolutions,
        {"stem": 4, "conv1": 3, "conv3": 5, "conv4": 6},
        ("head",),
        (3, 2, 6, 6),
        has_inputs=False,
    ),
    "dense_block": Case(dense_block, {"stem": 4, "conv1": 3, "conv2": 3}, ("head",), (3, 2, 6, 6), has_inputs=False),
    "squeeze_and_excitation": Case(
        squeeze_and_excitation, {"conv": 4, "squeeze": 3}, ("head",), (3, 2, 5, 5), has_inputs=False
    ),
}


def example(case: Case) -> Tensor:
    """A batch for the net of a case."""
    return torch.randn(case.shape, dtype=torch.float64)


def nodes_of(name: str) -> tuple[nn.Module, Tensor, Nodes]:
    """The net of a case in float64, a batch, and its nodes, with the inputs where they can be removed."""
    case = CASES[name]
    net, x = case.net().double().eval(), example(case)
    return net, x, find_nodes(net, x, inputs=case.has_inputs)


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
