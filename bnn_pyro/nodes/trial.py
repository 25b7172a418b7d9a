"""Whether nodes can be removed without changing anything else, tried out on the net."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from bnn_pyro.nodes.groups import Axis, NodeGroup, positions_kept
from bnn_pyro.nodes.kinds import correct_sizes, kind_of

_Tensors = dict[str, Tensor]
_IS_COUNTED = "the net computes something else without some of its channels"
IS_MIXED = "its channels are mixed before they are read"
_IS_NEEDED = "the net does not run without some of its channels"


class Trial:
    """Tries out on random weights and inputs whether nodes can be removed without a change of anything else.

    Random weights, because those of the net may hide a fault: a block that ends in zeros passes nothing on.
    """

    def __init__(self, net: nn.Module, x: Tensor) -> None:
        self._net = net
        net.register_forward_pre_hook(_correct_all_sizes)  # within functional_call the layers hold the smaller tensors
        self._random = torch.Generator().manual_seed(0)
        self._probes = [self._probe(x) for _ in range(2)]

    def settle(self, groups: Sequence[NodeGroup]) -> list[tuple[NodeGroup, str | None]]:
        """Each group as it can be removed, and None; or the group and why it cannot.

        All are tried at once, and halves of them where that fails: in most nets all can be removed.
        """
        if len(groups) < 2:
            return [self._settle_one(group) for group in groups]
        if self._fault(groups) is None:
            return [(group, None) for group in groups]
        middle = len(groups) // 2
        return [*self.settle(groups[:middle]), *self.settle(groups[middle:])]

    def _settle_one(self, group: NodeGroup) -> tuple[NodeGroup, str | None]:
        fault = self._fault([group])
        if fault and (other := _channels_last(group)) and not self._fault([other]):
            return other, None
        return group, fault

    def _fault(self, groups: Sequence[NodeGroup]) -> str | None:
        """Try to remove about half of the nodes, then the other half; None if all goes well."""
        keep = {g.name: torch.randperm(g.size, generator=self._random) < g.size // 2 for g in groups}
        others = {name: ~kept for name, kept in keep.items()}
        for (parameters, x), kept in zip(self._probes, (keep, others), strict=True):
            expected = self._output(_unread(groups, kept, parameters), x)
            if not is_same(self._output(*self._rewritten(groups, kept, parameters, x)), expected):
                return IS_MIXED
            try:
                output = self._output(*_smaller(groups, kept, _unread(groups, kept, parameters), x))
            except Exception as error:  # whatever the net's own code raises
                return f"{_IS_NEEDED} ({str(error).strip().partition(chr(10))[0]})"
            if not is_same(output, expected):
                return _IS_COUNTED
        return None

    def _rewritten(
        self, groups: Sequence[NodeGroup], keep: Mapping[str, Tensor], parameters: _Tensors, x: Tensor
    ) -> tuple[_Tensors, Tensor]:
        """Something else in the nodes that nobody reads: other writers, or other inputs."""
        other = _unread(groups, keep, parameters)
        for group in groups:
            for axis in group.writers:
                tensor = other[axis.parameter]
                kept = _across(axis, keep[group.name], tensor)
                other[axis.parameter] = torch.where(kept, tensor, self._normal(tensor))
            if not group.writers:
                x = torch.where(keep[group.name].to(x.device), x, self._normal(x))
        return other, x

    def _output(self, parameters: _Tensors, x: Tensor) -> Tensor:
        with torch.no_grad(), same_random_numbers(x):  # a net that draws random numbers draws the same each time
            output: Tensor = functional_call(self._net, parameters, (x.clone(),))
        return output

    def _probe(self, x: Tensor) -> tuple[_Tensors, Tensor]:
        """Random weights and an input near the example; the net's own ones where those give no finite output."""
        own = {name: tensor.detach() for name, tensor in (*self._net.named_parameters(), *self._net.named_buffers())}
        layered = [module for module in self._net.modules() if kind_of(module)]
        drawn = {id(tensor) for layer in layered for tensor in layer.parameters(recurse=False)}
        random = {
            name: self._normal(parameter) / max(1, math.prod(parameter.shape[1:])) ** 0.5
            for name, parameter in self._net.named_parameters()
            if id(parameter) in drawn
        }
        statistics = {id(tensor) for layer in layered for tensor in layer.buffers(recurse=False) if tensor.dim()}
        random |= {
            name: 0.5 + self._normal(buffer).abs()  # a variance must be positive, a mean may be
            for name, buffer in self._net.named_buffers()
            if id(buffer) in statistics
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


def _unread(groups: Sequence[NodeGroup], keep: Mapping[str, Tensor], parameters: _Tensors) -> _Tensors:
    """The parameters with zeros where readers look at nodes that are not kept."""
    unread = dict(parameters)
    for group in groups:
        for axis in group.readers:
            tensor = unread[axis.parameter]
            unread[axis.parameter] = tensor * _across(axis, keep[group.name], tensor)
    return unread


def _smaller(
    groups: Sequence[NodeGroup], keep: Mapping[str, Tensor], parameters: _Tensors, x: Tensor
) -> tuple[_Tensors, Tensor]:
    """The parameters and buffers, or the input, without the nodes that are not kept."""
    smaller = dict(parameters)
    for name, dims in positions_kept(groups, keep).items():
        for dim, positions in dims.items():
            smaller[name] = smaller[name].index_select(dim, positions)
    for group in groups:
        x = x if group.writers else x[..., keep[group.name].to(x.device)]
    return smaller, x


def _correct_all_sizes(net: nn.Module, inputs: object) -> None:
    for module in net.modules():
        correct_sizes(module)


def is_same(output: Tensor, expected: Tensor) -> bool:
    """Whether two outputs agree to rounding, relative to the largest value (4e-11 in float64)."""
    if output.shape != expected.shape:
        return False
    tolerance = torch.finfo(expected.dtype).eps ** (2 / 3)
    return bool((output - expected).abs().max() <= tolerance * expected.abs().max())


def same_random_numbers(x: Tensor) -> AbstractContextManager[None]:
    """Within it random numbers are drawn as usual; behind it the generators are where they were before."""
    context: AbstractContextManager[None] = torch.random.fork_rng([x.device] if x.is_cuda else [])
    return context
