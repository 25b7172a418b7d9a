"""The nodes of a network: what can be removed from it, and which entries of which parameters go with it.

A node is a channel between layers. Its writers are the rows and biases that compute it, its readers the columns that
use it. Which rows and columns belong together is read from the dependency graph of Torch-Pruning (Fang et al., 2023,
"DepGraph: Towards Any Structural Pruning"); whether they can be removed without changing anything else is then tried
out on the net.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bnn_pyro.input_layout import InputLayout, Inputs, output_of
from bnn_pyro.nodes.attention import attention_of, head_groups, make_attention_plain
from bnn_pyro.nodes.dependency import IS_EXCLUDED, NO_PARAMETER, Graph, has_channels_first, tied_entries, tied_layers
from bnn_pyro.nodes.groups import Axis, NodeGroup, Nodes
from bnn_pyro.nodes.kinds import layers_of
from bnn_pyro.nodes.mixing import IS_MIXED
from bnn_pyro.nodes.parameters import Parameters, Side
from bnn_pyro.nodes.reading import read, within
from bnn_pyro.nodes.ties import Numbers, Ties
from bnn_pyro.nodes.trial import Trial, is_same, same_random_numbers


def find_nodes(net: nn.Module, example_input: Inputs, *, inputs: bool = False, exclude: Sequence[str] = ()) -> Nodes:
    """Find the nodes that can be removed from a net without changing what the others compute.

    Channels that a skip connection adds are one node, and so is a channel with what a depthwise convolution or a
    BatchNorm makes of it; a layer that reads a concatenation reads several groups. Each group is tried out on a float64
    copy of the net with random weights: when the readers do not look at some nodes, the writers of these must not
    matter, and the net without these nodes must compute the same. What fails stays dense. The net itself is not
    touched. The heads of an ``nn.MultiheadAttention`` are nodes by a rule of our own, tried out in the same way.

    Args:
        net: The network whose linear and convolutional layers are looked at.
        example_input: A batch that ``net`` can be called with: a tensor, a tuple of tensors as positional arguments, or
            a dictionary of them as keyword arguments; of real numbers, or of whole ones such as token ids.
        inputs: Whether the input features (the last dimension of the input) are a group too.
        exclude: Names of layers whose output channels stay dense, with all that is tied to them.

    Returns:
        The groups, and the layers that stay dense with the reason. The output of the net is never a node.

    Raises:
        ValueError: If the net has no linear or convolutional layer, or cannot be called or traced with
            ``example_input``; if ``exclude`` has an unknown name; if ``inputs`` is asked for and the inputs cannot be
            removed.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"find_nodes: net must be a Module, got {type(net).__name__}")
    layout, x = _packed(net, example_input)
    _check_layers(net, exclude)
    if inputs and not layout.is_plain:
        raise _inputs_stay(f"the net takes {layout}")
    with torch.inference_mode(False), torch.enable_grad(), same_random_numbers(x):
        work, x = _working_copy(net, layout, x)
        reading, parameters = read(work, x, has_features=layout.is_plain), Parameters(work)
        plain = _with_plain_attention(work, x)
        trial = Trial(plain, x, layout)
        whole = reading.whole
        from_inputs = Ties() if whole is None else tied_entries(whole, parameters, [whole.inputs])
        if inputs and has_channels_first(work, x):
            raise _inputs_stay("a convolution reads their last dimension position by position")
        if inputs and whole is None:
            raise _inputs_stay(within("", work, reading.closed[""]))
        groups = [_input_group(from_inputs, whole, parameters, trial)] if inputs and whole is not None else []
        ties = tied_layers(reading.graphs, parameters, exclude, _hidden(work, reading.closed))
        heads = [group for group in head_groups(plain) if group.name not in exclude]
        candidates = [*_candidates(ties, parameters), *heads]
        for group, fault in trial.settle(sorted(candidates, key=lambda group: _rank(group, parameters))):
            if fault is None:
                groups.append(group)
                continue
            reason = _IS_TIED_TO_INPUTS if fault != IS_MIXED and _is_tied_to(from_inputs, group) else fault
            for axis in group.writers:
                written = (axis.index >= 0).nonzero().flatten().cpu().numpy()
                ties.block((axis.parameter, axis.dim), written, reason)
    found = {group.name for group in groups}
    others = [name for name in attention_of(work) if name not in found]
    closed = {name: reason for name, reason in reading.closed.items() if name not in attention_of(work)}
    dense = _dense(ties, parameters) | {name: _headless(name, ties, exclude) for name in others}
    return Nodes(tuple(groups), dense | {name: why for name, why in closed.items() if name not in dense})


_IS_TIED_TO_INPUTS = "a skip connection ties its channels to the inputs of the net"
_IS_OTHER_ATTENTION = "its heads cannot go: a plain attention module does not offer what the net asks of it"


def _packed(net: nn.Module, example_input: Inputs) -> tuple[InputLayout, Tensor]:
    """The layout of the example and its values as one tensor, or a ValueError that says what is wrong with them."""
    rule = (
        "find_nodes: example_input must be a non-empty tensor with finite values, or some of them, a batch for the net"
    )
    try:
        layout = InputLayout.of("example_input", example_input, net)
        x = layout.pack("example_input", example_input)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{rule}; {error}") from error
    if x.numel() == 0:
        raise ValueError(f"{rule}; got shape {tuple(x.shape)}")
    if not x.isfinite().all():
        raise ValueError(f"{rule}; got {int((~x.isfinite()).sum())} NaN or infinite values")
    return layout, x


def _check_layers(net: nn.Module, exclude: Sequence[str]) -> None:
    layers = {**layers_of(net), **attention_of(net)}
    names = ", ".join(layers) or "(none)"
    if isinstance(exclude, str) or any(name not in layers for name in exclude):
        raise ValueError(
            f"find_nodes: exclude must be a list of names of layers of the net, which are {names}; got {exclude!r}"
        )


def _working_copy(net: nn.Module, layout: InputLayout, x: Tensor) -> tuple[nn.Module, Tensor]:
    """Copy the net and its input in evaluation mode, in float64 where the net runs in it.

    The copy takes and returns one tensor.
    """
    x = x.detach().clone()
    try:
        return _callable_copy(copy.deepcopy(net).double(), layout, x.double())
    except Exception:  # a net that casts inside its forward, or a device without float64: its own dtype
        return _callable_copy(copy.deepcopy(net), layout, x)


def _callable_copy(work: nn.Module, layout: InputLayout, x: Tensor) -> tuple[nn.Module, Tensor]:
    work.eval()
    for parameter in work.parameters():
        parameter.requires_grad_(parameter.is_floating_point())  # the graph is read from autograd: frozen layers too
    positional, named = layout.arguments(x.clone())
    try:
        returned = work(*positional, **named)
    except Exception as error:
        raise ValueError(
            f"find_nodes: example_input must be a batch that net can be called with; {layout} raised "
            f"{type(error).__name__}: {error}"
        ) from error
    try:
        output = output_of(returned)
    except TypeError as error:
        raise ValueError(f"find_nodes: {error}. Wrap it in a module that does") from error
    if not output.is_floating_point():
        raise ValueError(f"find_nodes: net must return a floating-point tensor; got dtype {output.dtype}")
    if not output.isfinite().all():
        raise ValueError("find_nodes: net must return finite values for example_input; got NaN or infinite ones")
    layout.adapt(work)
    return work, x


def _with_plain_attention(work: nn.Module, x: Tensor) -> nn.Module:
    """A copy with attention modules that can lose heads; the net itself where there are none, or they do not fit it."""
    if not attention_of(work):
        return work
    plain = copy.deepcopy(work)
    make_attention_plain(plain)
    try:
        with torch.no_grad():
            return plain if is_same(plain(x.clone()), work(x.clone())) else work
    except Exception:  # whatever the net's own code raises that wants the attention weights
        return work


def _hidden(net: nn.Module, closed: Mapping[str, str]) -> dict[str, str]:
    """Name of each module within one that cannot be read -> why it stays; the innermost such one counts."""
    hidden: dict[str, str] = {}
    for name in sorted(closed, key=lambda name: name.count(".") + bool(name)):
        module = net.get_submodule(name)
        prefix = f"{name}." if name else ""
        inside = [f"{prefix}{inner}".removesuffix(".") for inner, _ in module.named_modules()]
        hidden |= dict.fromkeys(inside, within(name, module, closed[name]))
    return hidden


def _rank(group: NodeGroup, parameters: Parameters) -> tuple[int, int]:
    """Key that sorts groups in the order of the net's parameters."""
    return parameters.rank((group.writers[0].parameter, group.writers[0].dim))


def _headless(name: str, ties: Ties, exclude: Sequence[str]) -> str:
    """Why the heads of an attention module stay."""
    labels = ties.labels((f"{name}.in_proj_weight".removeprefix("."), 0), 1)
    return IS_EXCLUDED if name in exclude else ties.reasons(labels)[0] or _IS_OTHER_ATTENTION


def _candidates(ties: Ties, parameters: Parameters) -> list[NodeGroup]:
    """Groups of nodes against which nothing is known yet, one for each layer that is the first to write some."""
    nodes: dict[Side, Numbers] = {}  # the first side that writes some -> their labels, in the order of positions
    placed = np.empty(0, dtype=np.int64)
    for side in sorted((side for side in ties.sides if side in parameters.writers), key=parameters.rank):
        labels = ties.labels(side, parameters.length(side))
        labels = labels[ties.is_free(labels)]
        labels = labels[np.sort(np.unique(labels, return_index=True)[1])]
        if len(labels := labels[~np.isin(labels, placed)]):
            nodes[side], placed = labels, np.concatenate([placed, labels])
    names = [parameters.writers[side] for side in nodes]
    return _groups(dict(zip(names, nodes.values(), strict=True)), ties, parameters)


def _groups(nodes: Mapping[str, Numbers], ties: Ties, parameters: Parameters) -> list[NodeGroup]:
    """Write down where the nodes of each group are, given the labels of its nodes."""
    labels = np.concatenate([np.empty(0, dtype=np.int64), *nodes.values()])
    group_of, number_of = np.full((2, int(labels.max(initial=-1)) + 2), -1)  # the last stands for no label
    group_of[labels] = np.repeat(np.arange(len(nodes)), [len(members) for members in nodes.values()])
    number_of[labels] = np.concatenate([labels[:0], *(np.arange(len(members)) for members in nodes.values())])
    axes: dict[int, dict[Side, Axis]] = {number: {} for number in range(len(nodes))}
    for side in sorted((side for side in ties.sides if parameters.length(side)), key=parameters.rank):
        along = ties.labels(side, parameters.length(side))
        along = np.where(along >= len(group_of) - 1, -1, along)
        for number in np.unique(group_of[along]):
            if number >= 0:
                index = torch.from_numpy(np.where(group_of[along] == number, number_of[along], -1))
                axes[number][side] = Axis(*side, index.to(parameters.tensors[side[0]].device))
    return [
        NodeGroup(
            name=name,
            size=len(members),
            writers=tuple(axis for side, axis in axes[number].items() if parameters.is_written(side)),
            readers=tuple(axis for side, axis in axes[number].items() if parameters.is_read(side)),
            buffers=tuple(axis for side, axis in axes[number].items() if parameters.is_buffer(side)),
            can_be_empty=parameters.are_linear(axes[number]),
        )
        for number, (name, members) in enumerate(nodes.items())
    ]


def _is_tied_to(inputs: Ties, group: NodeGroup) -> bool:
    """Whether the graph ties some nodes of a group to the inputs of the net."""
    return any(
        (inputs.labels((axis.parameter, axis.dim), len(axis.index))[(axis.index >= 0).cpu().numpy()] >= 0).any()
        for axis in group.writers
    )


def _input_group(ties: Ties, graph: Graph, parameters: Parameters, trial: Trial) -> NodeGroup:
    """The group of the input features, or a ValueError that says why they cannot be removed."""
    side, features = graph.features(parameters) or ((NO_PARAMETER, 0), np.empty(0, dtype=np.int64))
    sides = [side for side in ties.sides if side[0] in parameters.tensors]
    if tied := [parameters.writers[side] for side in sides if side in parameters.writers]:
        raise _inputs_stay(f"a skip connection ties them to the output channels of {tied[0]!r}")
    if normed := [side[0].rpartition(".")[0] for side in sides if not parameters.is_read(side)]:
        raise _inputs_stay(f"they pass through {normed[0]!r}, a layer that cannot select among them")
    labels = ties.labels(side, len(features))
    if reasons := [reason for reason in ties.reasons(labels) if reason]:
        raise _inputs_stay(reasons[0])
    ((group, fault),) = trial.settle(_groups({parameters.input_group: labels}, ties, parameters))
    if fault:
        raise _inputs_stay(fault)
    return group


def _inputs_stay(reason: str) -> ValueError:
    return ValueError(
        f"find_nodes: inputs=True needs inputs that can be removed one by one; {reason}. Use inputs=False"
    )


def _dense(ties: Ties, parameters: Parameters) -> dict[str, str]:
    """Name of each layer with rows that are no nodes -> the reason, with counts where it is not one for all rows."""
    dense = dict(parameters.refused)
    for name in parameters.layers:
        side, rows = parameters.rows(name)
        reasons = Counter(reason for reason in ties.reasons(ties.labels(side, len(rows))) if reason)
        if len(rows) in reasons.values():
            dense[name] = next(iter(reasons))
        elif reasons:
            dense[name] = "; ".join(f"{count} of its {len(rows)} channels: {why}" for why, count in reasons.items())
    return dense
