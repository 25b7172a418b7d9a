"""Which rows and columns of a net belong together, read from the dependency graph of Torch-Pruning.

Source: Fang et al. (2023), DepGraph: Towards Any Structural Pruning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch_pruning as tp
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from bnn_pyro.nodes.folding import folded, is_folding, unfolded
from bnn_pyro.nodes.index_mappings import IndexMapping, mapped
from bnn_pyro.nodes.mixing import channel_dim, holds, mixing
from bnn_pyro.nodes.parameters import Parameters, Side
from bnn_pyro.nodes.pieces import backwards, cuts, onwards, pieces
from bnn_pyro.nodes.ties import Numbers, Ties

NO_PARAMETER = ""  # stands for the parameter on the sides of an operation without any, which are numbered
IS_EXCLUDED = "is excluded by name"
_IS_NO_PARAMETER = "it is, or is read by, a layer whose weight is no plain parameter of the expected size"
_IS_ELSEWHERE = "Torch-Pruning leads its channels to places that a layer on their way does not have"
IS_OUTPUT = "is the output of the net"
_IS_ATTENTION = "its channels are those of attention as a whole, of which only heads can go"
_BY_CHANNEL = (tp.ops.OPTYPE.ELEMENTWISE, tp.ops.OPTYPE.EXPAND)  # what a graph takes to work channel by channel
_IS_UNSEEN = "Torch-Pruning sees no way from it to the output of the net"


def has_channels_first(net: nn.Module, x: Tensor) -> bool:
    """Tell whether the channels of an input or output of a net are its dimension 1, as they are to a convolution.

    Args:
        net: The net.
        x: Its input or output, a batch.

    Returns:
        Whether the net has a convolution for tensors of as many dimensions.
    """
    return any(isinstance(module, _ConvNd) and x.dim() == module.weight.dim() for module in net.modules())


class _End(nn.Linear):
    """Stands before or behind the net: Torch-Pruning knows inputs and outputs only as channels of a layer.

    Its weight is one factor a channel, not a square matrix, which many inputs would make very large.
    """

    def __init__(self, example: Tensor, *, channels_first: bool) -> None:
        nn.Module.__init__(self)
        self.in_features = self.out_features = example.shape[1 if channels_first else -1] if example.dim() else 1
        shape = (-1, *[1] * (example.dim() - 2)) if channels_first else (-1,)
        self.weight = nn.Parameter(example.new_ones(self.in_features).reshape(shape))
        self.register_parameter("bias", None)

    def forward(self, input: Tensor) -> Tensor:
        """Return the input unchanged, as the output of a layer."""
        return input * self.weight


_Pruning = Callable[..., object]  # a function of Torch-Pruning that prunes channels of a layer


class _Edge(Protocol):
    """What is read of an edge of Torch-Pruning's dependency graph."""

    target: _Node
    handler: _Pruning
    index_mapping: Iterable[IndexMapping | None]

    def is_triggered_by(self, pruning: _Pruning) -> bool: ...


class _Node(Protocol):
    """What is read of a node of Torch-Pruning's dependency graph."""

    module: nn.Module
    grad_fn: object
    inputs: Sequence[_Node]
    dependencies: Iterable[_Edge]


class Front(NamedTuple):
    """Channels on one side of a node of the dependency graph."""

    node: _Node
    pruning: _Pruning  # what would prune the channels: it tells the output side of a layer from its input side
    channels: Numbers


class Graph:
    """The dependency graph of a net between its inputs and its output.

    Torch-Pruning's own groups are not used: they keep one origin for each channel they reach, and so lose that two
    channels of one layer are tied (as in a gated linear unit). Its edges and their index mappings say it all.
    """

    def __init__(self, net: nn.Module, x: Tensor, *, is_output: str = IS_OUTPUT, has_features: bool = True) -> None:
        self.is_output = is_output  # why the channels of the output stay
        output = net(x.clone()).detach()
        self.inputs, self.output = (_End(end, channels_first=has_channels_first(net, end)) for end in (x, output))
        model = nn.Sequential(*([self.inputs] if has_features else []), net, self.output)
        graph = tp.DependencyGraph().build_dependency(
            model,
            example_inputs=x.clone(),
            forward_fn=lambda model, x: model(x),  # else each row is tried as an argument, and errors are lost
            verbose=False,
        )
        self._graph = graph
        lengths = [length for tensor in (*net.parameters(), self.inputs.weight) for length in tensor.shape]
        self._most = 2 * max(lengths, default=0)  # of channels of an operation: those of the widest layer, and to spare
        self._convolved = frozenset(m.weight.dim() for m in net.modules() if isinstance(m, _ConvNd))

    def start(self, layer: nn.Module) -> Front | None:
        """All output channels of a layer; None if no way from it to the output of the net was seen."""
        if layer not in self._graph.module2node:
            return None
        pruner = self._graph.get_pruner_of_module(layer)
        return Front(
            self._graph.module2node[layer], pruner.prune_out_channels, np.arange(pruner.get_out_channels(layer))
        )

    def features(self, parameters: Parameters) -> tuple[Side, Numbers] | None:
        """Where the input features are; None where the output was not seen to depend on the inputs."""
        front = self.start(self.inputs)
        return None if front is None else (self.sides(front, parameters)[0], front.channels)

    def cross(self, front: Front) -> Iterator[tuple[Front, Numbers]]:
        """What goes with the channels of a front next, and the channels of the front that go there, one for one.

        No edge into the inputs is followed: two layers that read the same inputs are not tied by that.
        """
        for edge in self._edges(front) if closed(front) is None else ():
            if self._mixing(front, edge.target) is None:
                here, there = self._folding(front, edge.target) or self._pieces(front, edge)
                yield Front(edge.target, edge.handler, there), here

    def mixing(self, front: Front) -> str | None:
        """Why channels of a front cannot be told apart beyond it, or None."""
        edges = (edge for edge in self._edges(front) if edge.target not in front.node.inputs)
        return next((why for edge in edges if (why := self._mixing(front, edge.target))), None)

    def _edges(self, front: Front) -> Iterator[_Edge]:
        edges = (edge for edge in front.node.dependencies if edge.is_triggered_by(front.pruning))
        return (edge for edge in edges if edge.target.module is not self.inputs)

    def _mixing(self, front: Front, other: _Node) -> str | None:
        """Why channels cannot be followed from a front to another node, in either direction; None where they can."""
        is_back = other in front.node.inputs
        source, result = (other, front.node) if is_back else (front.node, other)
        if tp.ops.module2type(result.module) not in _BY_CHANNEL or _is_product_of_matrices(result):
            return None
        before, after = _shape(source), _shape(result)
        if before is None or after is None or not len(front.channels):
            return None
        has_them = holds(after if is_back else before, int(front.channels.max()) + 1, self._convolved)
        return mixing(before, after, self._convolved) if has_them else None

    def _folding(self, front: Front, other: _Node) -> tuple[Numbers, Numbers] | None:
        """Channels of a front and those of another node that they go to, where an operation makes one of several."""
        is_back = other in front.node.inputs
        source, result = (other, front.node) if is_back else (front.node, other)
        operation = type(result.grad_fn).__name__
        shapes = (_shape(source), _shape(result))
        if not is_folding(operation) or shapes[0] is None or shapes[1] is None:
            return None
        before, after = (shape[channel_dim(shape, self._convolved)] for shape in shapes if shape is not None)
        if is_back:
            return unfolded(operation, front.channels, before, after)
        return front.channels, folded(operation, front.channels, before, after)

    def _pieces(self, front: Front, edge: _Edge) -> tuple[Numbers, Numbers]:
        """Channels of a front that an edge leads on, and where it leads each of them."""
        is_back = edge.target in front.node.inputs
        source, result = (edge.target, front.node) if is_back else (front.node, edge.target)
        found = pieces(source.grad_fn, result.grad_fn, self._convolved)
        is_reshaped = tp.ops.module2type(result.module) == tp.ops.OPTYPE.RESHAPE
        if found is None or (is_reshaped and self._flattens(result)):
            return mapped(front.channels, front.channels, edge.index_mapping)
        is_split = cuts(source.grad_fn, self._convolved) is not None
        reshaped = [] if is_split else list(edge.index_mapping)[:1]  # the second one is that of a concatenation
        if is_back:
            places, there = backwards(front.channels, found)
            return mapped(front.channels[places], there, reshaped)
        here, middle = mapped(front.channels, front.channels, reshaped)
        places, there = onwards(middle, found)
        return here[places], there

    def _flattens(self, node: _Node) -> bool:
        """Whether a reshaped tensor has other channels than the tensor that it was."""
        before, after = getattr(node.grad_fn, "_saved_self_sym_sizes", ()), _shape(node) or ()
        return not before or before[channel_dim(before, self._convolved)] != after[channel_dim(after, self._convolved)]

    def period(self, front: Front) -> int | None:
        """How many channels each piece has where those of a front are split in equal ones; None where they are not.

        They can only go in equal numbers: ``chunk`` would cut at other places, and a fixed split would not run.
        """
        found = cuts(front.node.grad_fn, self._convolved) or []
        return found[0][1] if len({length for _, length in found}) == 1 else None

    def within_limits(self, front: Front, parameters: Parameters) -> Front:
        """The front without channels that are none.

        Torch-Pruning takes some reshaped tensors for flattened ones: followed in a circle, their channels would become
        ever more.
        """
        limit = parameters.length(self.sides(front, parameters)[0]) or self._most
        return front._replace(channels=front.channels[front.channels < limit])

    def sides(self, front: Front, parameters: Parameters) -> list[Side]:
        """Where the channels of a front lie: in the parameters of a layer, or at an operation without parameters."""
        is_output_side = self._graph.is_out_channel_pruning_fn(front.pruning)
        sides = parameters.sides(front.node.module, is_output_side=is_output_side)
        return sides or [(NO_PARAMETER, id(front.node))]


def _is_product_of_matrices(node: _Node) -> bool:
    """Whether an operation is a product of matrices, such as within a Linear layer: no single channel is spread."""
    return any(name in type(node.grad_fn).__name__ for name in ("mmBackward", "MmBackward", "BmmBackward"))


def closed(front: Front) -> str | None:
    """Why nothing is known of the channels that go through the node of a front; None where it is."""
    reason: str | None = getattr(front.node.grad_fn, "closed", None)
    return reason


def _shape(node: _Node) -> Sequence[int] | None:
    """Shape of what a node computes, as its autograd function knows it."""
    if isinstance(node.module, nn.Parameter):
        return node.module.shape
    metadata = getattr(node.grad_fn, "_input_metadata", None)  # what flows in backwards has come out forwards
    return metadata[0].shape if metadata else None


def tied_entries(graph: Graph, parameters: Parameters, layers: Iterable[nn.Module], ties: Ties | None = None) -> Ties:
    """Follow the output channels of layers through the graph, and tie them to everything that goes with them."""
    ties = Ties() if ties is None else ties
    visited: dict[tuple[_Node, _Pruning], NDArray[np.bool_]] = {}
    fronts = [front for layer in layers if (front := graph.start(layer))]
    while fronts:
        front = fronts.pop()
        fresh = _fresh(front, visited)
        if not len(fresh):
            continue
        front = front._replace(channels=fresh)
        sides = graph.sides(front, parameters)
        _settle(front, sides, ties, graph, parameters)
        for beyond, here in graph.cross(graph.within_limits(front, parameters)):
            ties.unite(sides[0], here, graph.sides(beyond, parameters)[0], beyond.channels)
            fronts.append(beyond)
    return ties


def _fresh(front: Front, visited: dict[tuple[_Node, _Pruning], NDArray[np.bool_]]) -> Numbers:
    """The channels of a front that were not visited before, in order; they are from here on."""
    place, length = (front.node, front.pruning), int(front.channels.max(initial=-1)) + 1
    before = visited.get(place, np.zeros(0, dtype=np.bool_))
    after = np.zeros(max(length, len(before)), dtype=np.bool_)
    after[front.channels] = True
    after[: len(before)] &= ~before
    fresh = after.nonzero()[0]
    after[: len(before)] |= before
    visited[place] = after
    return fresh


def _settle(front: Front, sides: list[Side], ties: Ties, graph: Graph, parameters: Parameters) -> None:
    """Tie the entries that make up each channel, such as its row and its bias, and say what is against removing it."""
    target = front.node.module
    obstacle = graph.is_output if target is graph.output else closed(front) or parameters.obstacle(target)
    obstacle = obstacle or graph.mixing(front)
    for side in sides:
        ties.unite(sides[0], front.channels, side, front.channels)
    if period := graph.period(front):
        ties.unite(sides[0], front.channels, sides[0], front.channels % period)
    if obstacle:
        ties.block(sides[0], front.channels, obstacle)
        return
    for side in sides:
        if side[0] != NO_PARAMETER:
            length = parameters.length(side)
            reason = _IS_ELSEWHERE if length else _IS_NO_PARAMETER
            ties.block(side, front.channels[front.channels >= length], reason)


def tied_layers(
    graphs: Sequence[Graph], parameters: Parameters, exclude: Sequence[str], hidden: Mapping[str, str]
) -> Ties:
    """Tie the entries of all layers, and keep those dense that are excluded or not seen.

    Args:
        graphs: The graphs in which the layers are.
        parameters: The parameters of the net.
        exclude: Names of layers that stay dense.
        hidden: Name of a layer within a module that cannot be read -> the reason to give where no graph has it.

    Returns:
        The ties.
    """
    ties = Ties()
    for graph in graphs:
        tied_entries(graph, parameters, parameters.layers.values(), ties)
    for name, layer in parameters.layers.items():
        if name in exclude:
            ties.block(*parameters.rows(name), IS_EXCLUDED)
        if all(graph.start(layer) is None for graph in graphs):
            unseen = _IS_ATTENTION if name in parameters.in_attention else _IS_UNSEEN
            ties.block(*parameters.rows(name), hidden.get(name, unseen))
    return ties
