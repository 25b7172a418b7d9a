"""The nodes of a network: what can be removed from it, and which entries of which parameters go with it.

A node is a channel between layers. Its writers are the rows and biases that compute it, its readers the columns that
use it. Which rows and columns belong together is read from the dependency graph of Torch-Pruning (Fang et al., 2023,
"DepGraph: Towards Any Structural Pruning"); whether they can be removed without changing anything else is then tried
out on the net.
"""

from __future__ import annotations

import copy
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)  # tensors have no truth value, so equality is identity
class Axis:
    """Which positions along one dimension of one parameter belong to which node of a group.

    Attributes:
        parameter: Dotted name of the parameter, as in ``net.named_parameters()``.
        dim: The dimension; for a Linear weight 0 runs over its rows and 1 over its columns.
        index: Number of the node at each position, shape ``(length,)``; -1 where there is none of the group.
    """

    parameter: str
    dim: int
    index: Tensor

    def spread(self, values: Tensor) -> Tensor:
        """Lay one value a node out over the positions; 1 (or True) where there is no node of the group.

        Args:
            values: One value a node, shape ``(*batch, size)``.

        Returns:
            One value a position, shape ``(*batch, length)``.
        """
        elsewhere = values.new_ones((*values.shape[:-1], 1))
        return torch.cat([values, elsewhere], dim=-1)[..., self.index]  # an index of -1 takes the last: elsewhere


@dataclass(frozen=True, eq=False)
class NodeGroup:
    """Nodes that one layer writes, together with whatever is tied to it; or the inputs of the net.

    Attributes:
        name: Name of the layer that is the first to write the nodes, such as ``"hidden1"``; ``"inputs"`` for the inputs
            of the net (``"network_inputs"`` where the net has a module of that name).
        size: Number of nodes.
        writers: The output side: rows and biases. Empty for the inputs.
        readers: The columns that read the nodes.
    """

    name: str
    size: int
    writers: tuple[Axis, ...]
    readers: tuple[Axis, ...]


@dataclass(frozen=True, eq=False)
class Nodes:
    """What can be removed from a net, and what cannot.

    Attributes:
        groups: The groups of nodes: the inputs first, then in the order of the net's parameters.
        dense: Name of each Linear layer with output channels that are no nodes -> why they stay.
    """

    groups: tuple[NodeGroup, ...]
    dense: Mapping[str, str]


def parameter_axes(groups: Iterable[NodeGroup]) -> dict[str, dict[int, tuple[tuple[str, Axis], ...]]]:
    """Turn groups inside out: which of them have nodes along which dimension of which parameter.

    Args:
        groups: Groups as `find_nodes` returns them.

    Returns:
        ``axes[parameter][dim]``, a tuple of pairs (name of the group, its axis there). Two groups share a dimension
        where a layer reads a concatenation of both.
    """
    axes: dict[str, dict[int, tuple[tuple[str, Axis], ...]]] = {}
    for group in groups:
        for axis in (*group.writers, *group.readers):
            dims = axes.setdefault(axis.parameter, {})
            dims[axis.dim] = (*dims.get(axis.dim, ()), (group.name, axis))
    return axes


def find_nodes(net: nn.Module, example_input: Tensor, *, inputs: bool = False, exclude: Sequence[str] = ()) -> Nodes:
    """Find the nodes that can be removed from a net without changing what the others compute.

    Channels that a skip connection adds are one node; a layer that reads a concatenation reads several groups. Each
    group is tried out on a float64 copy of the net with random weights: when the readers do not look at some nodes, the
    writers of these must not matter, and the net without these nodes must compute the same. What fails stays dense. The
    net itself is not touched.

    Args:
        net: The network whose ``Linear`` layers are looked at.
        example_input: A batch that ``net`` can be called with.
        inputs: Whether the input features (the last dimension of the input) are a group too.
        exclude: Names of Linear layers whose output channels stay dense, with all that is tied to them.

    Returns:
        The groups, and the layers that stay dense with the reason. The output of the net is never a node.

    Raises:
        ValueError: If the net has no Linear layer, or cannot be called or traced with ``example_input``; if ``exclude``
            has an unknown name; if ``inputs`` is asked for and the inputs cannot be removed.
    """
    _check_example_input(example_input)
    _check_layers(net, exclude)
    with torch.inference_mode(False), torch.enable_grad(), _same_random_numbers(example_input):
        work, x = _working_copy(net, example_input)
        graph, parameters, trial = _Graph(work, x), _Parameters(work), _Trial(work, x)
        from_inputs = _tied_entries(graph, parameters, [graph.inputs])
        groups = [_input_group(from_inputs, graph, parameters, trial)] if inputs else []
        ties = _tied_layers(graph, parameters, exclude)
        for candidate in _candidates(ties, parameters):
            group, fault = trial.settle(candidate)
            if fault is None:
                groups.append(group)
            else:
                ties.block(_written(group), _reason(fault, group, from_inputs))
    return Nodes(tuple(groups), _dense(ties, parameters))


@dataclass(frozen=True)
class _LayerKind:
    """Parameters of a kind of layer, with the dimension along which its output, and its input, channels lie."""

    writers: tuple[tuple[str, int], ...]
    readers: tuple[tuple[str, int], ...]


_KINDS: dict[type[nn.Module], _LayerKind] = {
    nn.Linear: _LayerKind(writers=(("weight", 0), ("bias", 0)), readers=(("weight", 1),)),
}

_Side = tuple[str, int]  # (parameter, dimension), or (_NO_PARAMETER, number) for an operation without parameters
_Entry = tuple[_Side, int]  # (side, position along it)
_Tensors = dict[str, Tensor]
_NO_PARAMETER = ""

_IS_COUNTED = "the net computes something else without some of its channels"
_IS_EXCLUDED = "is excluded by name"
_IS_MIXED = "its channels are mixed before they are read"
_IS_NEEDED = "the net does not run without some of its channels"
_IS_NO_PARAMETER = "it is, or is read by, a layer whose weight is no plain parameter of the expected size"
_IS_OUTPUT = "is the output of the net"
_IS_TIED_TO_INPUTS = "a skip connection ties its channels to the inputs of the net"
_IS_UNSEEN = "Torch-Pruning sees no way from it to the output of the net"


def _kind(module: object) -> _LayerKind | None:
    return next((kind for layer, kind in _KINDS.items() if isinstance(module, layer)), None)


def _layers(net: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in net.named_modules() if _kind(module) is not None}


def _check_example_input(example_input: Tensor) -> None:
    rule = "find_nodes: example_input must be a non-empty floating-point tensor with finite values, a batch for the net"
    if not isinstance(example_input, Tensor):
        raise ValueError(f"{rule}; got {type(example_input).__name__}")
    if not example_input.is_floating_point() or example_input.dim() == 0 or example_input.numel() == 0:
        raise ValueError(f"{rule}; got dtype {example_input.dtype}, shape {tuple(example_input.shape)}")
    if not example_input.isfinite().all():
        raise ValueError(f"{rule}; got {int((~example_input.isfinite()).sum())} NaN or infinite values")


def _check_layers(net: nn.Module, exclude: Sequence[str]) -> None:
    layers = _layers(net)
    if not layers:
        raise ValueError(f"find_nodes: net must have at least one Linear layer; {type(net).__name__} has none")
    if isinstance(exclude, str) or any(name not in layers for name in exclude):
        raise ValueError(
            f"find_nodes: exclude must be a list of names of Linear layers of the net, which are {', '.join(layers)}; "
            f"got {exclude!r}"
        )


def _same_random_numbers(x: Tensor) -> AbstractContextManager[None]:
    """Within it random numbers are drawn as usual; behind it the generators are where they were before."""
    context: AbstractContextManager[None] = torch.random.fork_rng([x.device] if x.is_cuda else [])
    return context


def _working_copy(net: nn.Module, example_input: Tensor) -> tuple[nn.Module, Tensor]:
    """Copy the net and its input in evaluation mode, in float64 where the net runs in it."""
    x = example_input.detach().clone()
    try:
        return _callable_copy(copy.deepcopy(net).double(), x.double())
    except Exception:  # a net that casts inside its forward, or a device without float64: its own dtype
        return _callable_copy(copy.deepcopy(net), x)


def _callable_copy(work: nn.Module, x: Tensor) -> tuple[nn.Module, Tensor]:
    work.eval()
    for parameter in work.parameters():
        parameter.requires_grad_(parameter.is_floating_point())  # the graph is read from autograd: frozen layers too
    try:
        output = work(x.clone())
    except Exception as error:
        raise ValueError(
            f"find_nodes: example_input must be a batch that net can be called with; shape {tuple(x.shape)} raised "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(output, Tensor) or not output.is_floating_point():
        got = f"dtype {output.dtype}" if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"find_nodes: net must return one floating-point Tensor; got {got}. Wrap it in a module that does"
        )
    if not output.isfinite().all():
        raise ValueError("find_nodes: net must return finite values for example_input; got NaN or infinite ones")
    return work, x


class _Parameters:
    """The parameters of a net under their own names, and the layers whose channels they hold."""

    def __init__(self, net: nn.Module) -> None:
        self.layers = _layers(net)
        self.tensors = dict(net.named_parameters())
        self._names: dict[int, str] = {id(module): name for name, module in net.named_modules()}
        self._names |= {id(parameter): name for name, parameter in self.tensors.items()}
        self.input_group = "network_inputs" if "inputs" in self._names.values() else "inputs"
        self._order = {name: number for number, name in enumerate(self.tensors)}
        self.writers: dict[_Side, str] = {}  # side -> the first layer that has its output channels there
        for name, layer in self.layers.items():
            for side in self.sides(layer, is_output_side=True):
                self.writers.setdefault(side, name)

    def name(self, target: Any) -> str | None:
        """Dotted name of a module or parameter of the net; None for anything else."""
        return self._names.get(id(target))

    def sides(self, target: Any, *, is_output_side: bool) -> list[_Side]:
        """Where the output or input channels of a layer of the net lie, first in its weight; nowhere for anything else.

        Tied layers have the same sides. A weight that a parametrization computes is named too, though no parameter.
        """
        kind, name = _kind(target), self.name(target)
        if kind is None or name is None:
            return []
        owned = {leaf: getattr(target, leaf) for leaf, _ in (*kind.writers, *kind.readers)}
        return [
            (self.name(owned[leaf]) or f"{name}.{leaf}", dim)
            for leaf, dim in (kind.writers if is_output_side else kind.readers)
            if owned[leaf] is not None
        ]

    def length(self, side: _Side) -> int:
        """Number of positions along a side; 0 where there is no such parameter."""
        name, dim = side
        return self.tensors[name].shape[dim] if name in self.tensors else 0

    def rows(self, name: str) -> list[_Entry]:
        """One entry for each output channel of a layer: the row of its weight."""
        layer = self.layers[name]
        side = self.sides(layer, is_output_side=True)[0]
        weight: Tensor = layer.weight  # type: ignore[assignment]
        return [(side, channel) for channel in range(weight.shape[side[1]])]

    def rank(self, entry: _Entry) -> tuple[int, int, int]:
        """Key that sorts entries in the order of the net's parameters."""
        (name, dim), position = entry
        return self._order.get(name, len(self._order)), dim, position

    def obstacle(self, target: Any) -> str | None:
        """Why channels that reach a module or parameter of the net cannot be removed; None where they can."""
        is_one_slope = isinstance(target, nn.PReLU) and target.num_parameters == 1
        if self.name(target) is None or _kind(target) is not None or is_one_slope:
            return None
        what = "Parameter" if isinstance(target, nn.Parameter) else type(target).__name__
        return f"its channels pass through {self.name(target)!r} ({what}), and only Linear layers can be cut"


class _End(nn.Linear):
    """Stands before or behind the net: Torch-Pruning knows inputs and outputs only as channels of a layer.

    Its weight is one factor a channel, not a square matrix, which many inputs would make very large.
    """

    def __init__(self, example: Tensor) -> None:
        nn.Module.__init__(self)
        self.in_features = self.out_features = example.shape[-1] if example.dim() else 1
        self.weight = nn.Parameter(example.new_ones(self.in_features))
        self.register_parameter("bias", None)

    def forward(self, input: Tensor) -> Tensor:
        """Return the input unchanged, as the output of a layer."""
        return input * self.weight


class _Channel(NamedTuple):
    """A channel and the one it comes from, under the names that Torch-Pruning's index mappings read and return."""

    idx: int
    root_idx: int


class _Front(NamedTuple):
    """Channels on one side of a node of the dependency graph."""

    node: Any
    pruning: Any  # the function that would prune the channels: it tells the output side of a layer from its input side
    channels: Sequence[int]


class _Graph:
    """The dependency graph of a net between its inputs and its output.

    Torch-Pruning's own groups are not used: they keep one origin for each channel they reach, and so lose that two
    channels of one layer are tied (as in a gated linear unit). Its edges and their index mappings say it all.
    """

    def __init__(self, net: nn.Module, x: Tensor) -> None:
        self.inputs, self.output = _End(x), _End(net(x.clone()).detach())
        model = nn.Sequential(self.inputs, net, self.output)
        try:
            graph = tp.DependencyGraph().build_dependency(
                model,
                example_inputs=x.clone(),
                forward_fn=lambda model, x: model(x),  # else each row is tried as an argument, and errors are lost
                verbose=False,
            )
        except Exception as error:
            raise ValueError(
                f"find_nodes: net must be one that Torch-Pruning can trace; it raised {type(error).__name__}: {error}"
            ) from error
        self._graph = graph
        self._numbers = {node: number for number, node in enumerate(graph.module2node.values())}

    def start(self, layer: nn.Module) -> _Front | None:
        """All output channels of a layer; None if no way from it to the output of the net was seen."""
        if layer not in self._graph.module2node:
            return None
        pruner = self._graph.get_pruner_of_module(layer)
        return _Front(self._graph.module2node[layer], pruner.prune_out_channels, range(pruner.get_out_channels(layer)))

    def features(self, parameters: _Parameters) -> list[_Entry]:
        """One entry for each input feature; none where the output was not seen to depend on the inputs."""
        front = self.start(self.inputs)
        return [] if front is None else [(self.sides(front, parameters)[0], channel) for channel in front.channels]

    def cross(self, front: _Front) -> Iterator[tuple[_Front, list[tuple[int, int]]]]:
        """What goes with the channels of a front next, and the pairs (channel of the front, channel there).

        No edge into the inputs is followed: two layers that read the same inputs are not tied by that.
        """
        for edge in front.node.dependencies:
            if edge.is_triggered_by(front.pruning) and edge.target.module is not self.inputs:
                channels: Any = [_Channel(channel, channel) for channel in front.channels]
                for mapping in edge.index_mapping:
                    channels = channels if mapping is None else mapping(channels)
                pairs = [(channel.root_idx, channel.idx) for channel in channels if channel.root_idx is not None]
                yield _Front(edge.target, edge.handler, [there for _, there in pairs]), pairs

    def sides(self, front: _Front, parameters: _Parameters) -> list[_Side]:
        """Where the channels of a front lie: in the parameters of a layer, or at an operation without parameters."""
        is_output_side = self._graph.is_out_channel_pruning_fn(front.pruning)
        sides = parameters.sides(front.node.module, is_output_side=is_output_side)
        return sides or [(_NO_PARAMETER, self._numbers[front.node])]


class _Ties:
    """Union-find over the entries that can only be removed together, with a reason against those that must stay."""

    def __init__(self) -> None:
        self._parent: dict[_Entry, _Entry] = {}
        self._reasons: dict[_Entry, str] = {}

    def find(self, entry: _Entry) -> _Entry:
        """The entry that stands for all those tied to this one."""
        parent = self._parent.setdefault(entry, entry)
        while parent != entry:
            self._parent[entry] = self._parent[parent]
            entry, parent = parent, self._parent[parent]
        return entry

    def unite(self, first: _Entry, other: _Entry) -> None:
        """Tie two entries; a reason against one holds for both."""
        root, absorbed = self.find(first), self.find(other)
        if root != absorbed:
            self._parent[absorbed] = root
            if absorbed in self._reasons:
                self._reasons.setdefault(root, self._reasons.pop(absorbed))

    def block(self, entries: Iterable[_Entry], reason: str) -> None:
        """Say why entries must stay, with all that is tied to them; the first reason given holds."""
        for entry in entries:
            self._reasons.setdefault(self.find(entry), reason)

    def reason(self, entry: _Entry) -> str | None:
        """Why an entry must stay, or None."""
        return self._reasons.get(self.find(entry))

    def classes(self) -> list[list[_Entry]]:
        """The entries of parameters, each list with those that are tied."""
        classes: dict[_Entry, list[_Entry]] = defaultdict(list)
        for entry in list(self._parent):
            if entry[0][0] != _NO_PARAMETER:
                classes[self.find(entry)].append(entry)
        return list(classes.values())


def _tied_entries(graph: _Graph, parameters: _Parameters, layers: Iterable[nn.Module]) -> _Ties:
    """Follow the output channels of layers through the graph, and tie them to everything that goes with them."""
    ties = _Ties()
    visited: set[tuple[Any, Any, int]] = set()
    fronts = [front for layer in layers if (front := graph.start(layer))]
    while fronts:
        front = fronts.pop()
        fresh = [channel for channel in front.channels if (front.node, front.pruning, channel) not in visited]
        visited.update((front.node, front.pruning, channel) for channel in fresh)
        front = front._replace(channels=fresh)
        sides = graph.sides(front, parameters)
        _settle(front, sides, ties, graph, parameters)
        for beyond, pairs in graph.cross(front) if fresh else ():
            side = graph.sides(beyond, parameters)[0]
            for here, there in pairs:
                ties.unite((sides[0], here), (side, there))
            fronts.append(beyond)
    return ties


def _settle(front: _Front, sides: list[_Side], ties: _Ties, graph: _Graph, parameters: _Parameters) -> None:
    """Tie the entries that make up each channel, such as its row and its bias, and say what is against removing it."""
    obstacle = _IS_OUTPUT if front.node.module is graph.output else parameters.obstacle(front.node.module)
    for channel in front.channels:
        entries = [(side, channel) for side in sides]
        for entry in entries:
            ties.unite(entries[0], entry)
        if obstacle:
            ties.block(entries, obstacle)
        elif any(side[0] != _NO_PARAMETER and channel >= parameters.length(side) for side in sides):
            ties.block(entries, _IS_NO_PARAMETER)


def _tied_layers(graph: _Graph, parameters: _Parameters, exclude: Sequence[str]) -> _Ties:
    """Tie the entries of all layers, and keep those dense that are excluded or not seen."""
    ties = _tied_entries(graph, parameters, parameters.layers.values())
    for name, layer in parameters.layers.items():
        if name in exclude:
            ties.block(parameters.rows(name), _IS_EXCLUDED)
        if graph.start(layer) is None:
            ties.block(parameters.rows(name), _IS_UNSEEN)
    return ties


def _candidates(ties: _Ties, parameters: _Parameters) -> list[NodeGroup]:
    """Groups of nodes against which nothing is known yet, one for each layer that is the first to write some."""
    by_side: dict[_Side, list[list[_Entry]]] = defaultdict(list)
    for node in ties.classes():
        written = [entry for entry in node if entry[0] in parameters.writers]
        if written and ties.reason(node[0]) is None:
            first = min(written, key=parameters.rank)
            by_side[first[0]].append([first, *node])
    return [
        _group(parameters.writers[side], sorted(by_side[side], key=lambda node: node[0][1]), parameters)
        for side in sorted(by_side, key=lambda side: parameters.rank((side, 0)))
    ]


def _group(name: str, nodes: list[list[_Entry]], parameters: _Parameters) -> NodeGroup:
    """Number the nodes, and write down where each of them is."""
    indices: dict[_Side, list[int]] = {}
    for number, node in enumerate(nodes):
        for side, position in node:
            indices.setdefault(side, [-1] * parameters.length(side))[position] = number
    axes = {
        side: Axis(*side, torch.tensor(indices[side], device=parameters.tensors[side[0]].device))
        for side in sorted(indices, key=lambda side: parameters.rank((side, 0)))
    }
    return NodeGroup(
        name=name,
        size=len(nodes),
        writers=tuple(axis for side, axis in axes.items() if side in parameters.writers),
        readers=tuple(axis for side, axis in axes.items() if side not in parameters.writers),
    )


def _written(group: NodeGroup) -> list[_Entry]:
    return [
        ((axis.parameter, axis.dim), position)
        for axis in group.writers
        for position in (axis.index >= 0).nonzero().flatten().tolist()
    ]


def _reason(fault: str, group: NodeGroup, from_inputs: _Ties) -> str:
    """Say what a fault comes from, where the graph knows it."""
    tied = {entry for entries in from_inputs.classes() for entry in entries}
    return fault if fault == _IS_MIXED or tied.isdisjoint(_written(group)) else _IS_TIED_TO_INPUTS


def _input_group(ties: _Ties, graph: _Graph, parameters: _Parameters, trial: _Trial) -> NodeGroup:
    """The group of the input features, or a ValueError that says why they cannot be removed."""
    features = graph.features(parameters)
    readers = {ties.find(entries[0]): entries for entries in ties.classes()}
    tied = [parameters.writers[side] for node in readers.values() for side, _ in node if side in parameters.writers]
    if tied:
        raise _inputs_stay(f"a skip connection ties them to the output channels of {tied[0]!r}")
    if reasons := [reason for feature in features if (reason := ties.reason(feature))]:
        raise _inputs_stay(reasons[0])
    nodes = [readers.get(ties.find(feature), []) for feature in features]
    group, fault = trial.settle(_group(parameters.input_group, nodes, parameters))
    if fault:
        raise _inputs_stay(fault)
    return group


def _inputs_stay(reason: str) -> ValueError:
    return ValueError(
        f"find_nodes: inputs=True needs inputs that can be removed one by one; {reason}. Use inputs=False"
    )


def _dense(ties: _Ties, parameters: _Parameters) -> dict[str, str]:
    """Name of each layer with rows that are no nodes -> the reason, with counts where it is not one for all rows."""
    dense = {}
    for name in parameters.layers:
        rows = parameters.rows(name)
        reasons = Counter(reason for row in rows if (reason := ties.reason(row)))
        if len(rows) in reasons.values():
            dense[name] = next(iter(reasons))
        elif reasons:
            dense[name] = "; ".join(f"{count} of its {len(rows)} channels: {why}" for why, count in reasons.items())
    return dense


class _Trial:
    """Tries out on random weights and inputs whether nodes can be removed without a change of anything else.

    Random weights, because those of the net may hide a fault: a block that ends in zeros passes nothing on.
    """

    def __init__(self, net: nn.Module, x: Tensor) -> None:
        self._net = net
        self._random = torch.Generator().manual_seed(0)
        self._probes = [self._probe(x) for _ in range(2)]

    def settle(self, group: NodeGroup) -> tuple[NodeGroup, str | None]:
        """The group as it can be removed, and None; or the group and why it cannot."""
        fault = self._fault(group)
        if fault and (other := _channels_last(group)) and not self._fault(other):
            return other, None
        return group, fault

    def _fault(self, group: NodeGroup) -> str | None:
        """Try to remove about half of the nodes, then the other half; None if all goes well."""
        keep = torch.randperm(group.size, generator=self._random) < group.size // 2
        for (parameters, x), kept in zip(self._probes, (keep, ~keep), strict=True):
            expected = self._output(_unread(group, kept, parameters), x)
            if not _is_same(self._output(*self._rewritten(group, kept, parameters, x)), expected):
                return _IS_MIXED
            try:
                output = self._output(*_smaller(group, kept, parameters, x))
            except Exception as error:  # whatever the net's own code raises
                return f"{_IS_NEEDED} ({str(error).strip().partition(chr(10))[0]})"
            if not _is_same(output, expected):
                return _IS_COUNTED
        return None

    def _rewritten(self, group: NodeGroup, keep: Tensor, parameters: _Tensors, x: Tensor) -> tuple[_Tensors, Tensor]:
        """Something else in the nodes that nobody reads: other writers, or other inputs."""
        other = _unread(group, keep, parameters)
        for axis in group.writers:
            tensor = other[axis.parameter]
            other[axis.parameter] = torch.where(_across(axis, keep, tensor), tensor, self._normal(tensor))
        return other, x if group.writers else torch.where(keep.to(x.device), x, self._normal(x))

    def _output(self, parameters: _Tensors, x: Tensor) -> Tensor:
        with torch.no_grad(), _same_random_numbers(x):  # a net that draws random numbers draws the same each time
            output: Tensor = functional_call(self._net, parameters, (x.clone(),))
        return output

    def _probe(self, x: Tensor) -> tuple[_Tensors, Tensor]:
        """Random weights and an input near the example; the net's own ones where those give no finite output."""
        own = {name: parameter.detach() for name, parameter in self._net.named_parameters()}
        layered = {id(tensor) for layer in _layers(self._net).values() for tensor in layer.parameters()}
        random = {
            name: self._normal(parameter) / max(1, math.prod(parameter.shape[1:])) ** 0.5
            for name, parameter in self._net.named_parameters()
            if id(parameter) in layered
        }
        parameters, noisy = own | random, x + self._normal(x)
        return (parameters, noisy) if self._output(parameters, noisy).isfinite().all() else (own, x)

    def _normal(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self._random, dtype=like.dtype).to(like.device)


def _channels_last(group: NodeGroup) -> NodeGroup | None:
    """The group with flattened channels in the other order; None where nothing is flattened.

    Torch-Pruning takes them to be flattened from (channels, positions), as behind a convolution, or sees the first
    position only. Behind a Linear layer, whose channels are the last dimension, it is (positions, channels).
    """
    writers = tuple(_tiled(axis) for axis in group.writers)
    readers = tuple(_tiled(axis, may_extend=True) for axis in group.readers)
    is_same = (writers, readers) == (group.writers, group.readers)
    return None if is_same else replace(group, writers=writers, readers=readers)


def _tiled(axis: Axis, *, may_extend: bool = False) -> Axis:
    """The axis with all nodes again and again, where each has a run of positions, or they have only the first ones."""
    size, length = int(axis.index.max()) + 1, len(axis.index)
    if size in (0, length) or length % size:
        return axis
    nodes = torch.arange(size, device=axis.index.device)
    has_runs = axis.index.equal(nodes.repeat_interleave(length // size))
    has_first = may_extend and axis.index.equal(F.pad(nodes, (0, length - size), value=-1))
    return replace(axis, index=nodes.repeat(length // size)) if has_runs or has_first else axis


def _across(axis: Axis, keep: Tensor, tensor: Tensor) -> Tensor:
    """Which entries of a parameter are kept along an axis, in a shape that broadcasts with it."""
    kept = axis.spread(keep.to(axis.index.device))
    return kept.reshape([-1 if dim == axis.dim else 1 for dim in range(tensor.dim())])


def _unread(group: NodeGroup, keep: Tensor, parameters: _Tensors) -> _Tensors:
    """The parameters with zeros where readers look at nodes that are not kept."""
    unread = dict(parameters)
    for axis in group.readers:
        tensor = unread[axis.parameter]
        unread[axis.parameter] = tensor * _across(axis, keep, tensor)
    return unread


def _smaller(group: NodeGroup, keep: Tensor, parameters: _Tensors, x: Tensor) -> tuple[_Tensors, Tensor]:
    """The parameters, or the input, without the nodes that are not kept."""
    smaller = dict(parameters)
    for axis in (*group.writers, *group.readers):
        positions = axis.spread(keep.to(axis.index.device)).nonzero().flatten()
        smaller[axis.parameter] = smaller[axis.parameter].index_select(axis.dim, positions)
    return smaller, x if group.writers else x[..., keep.to(x.device)]


def _is_same(output: Tensor, expected: Tensor) -> bool:
    """Whether two outputs agree to rounding, relative to the largest value (4e-11 in float64)."""
    if output.shape != expected.shape:
        return False
    tolerance = torch.finfo(expected.dtype).eps ** (2 / 3)
    return bool((output - expected).abs().max() <= tolerance * expected.abs().max())
