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
from tqdm import tqdm

from bnn_pyro.input_layout import InputLayout
from bnn_pyro.nodes.groups import Axis, NodeGroup, positions_kept
from bnn_pyro.nodes.kinds import correct_sizes, kind_of
from bnn_pyro.nodes.mixing import IS_MIXED

_Tensors = dict[str, Tensor]
_MOST_DRAWN = 1_000_003  # a prime number, so that no two rows of a large weight are the same
_IS_COUNTED = "the net computes something else without some of its channels"
_IS_NEEDED = "the net does not run without some of its channels"
_IS_ALONE = "the net does not compute the same with two equal channels in the place of its only node"


class Trial:
    """Tries out on random weights and inputs whether nodes can be removed without a change of anything else.

    Random weights, because those of the net may hide a fault: a block that ends in zeros passes nothing on.
    """

    def __init__(self, net: nn.Module, x: Tensor, layout: InputLayout | None = None) -> None:
        self._net, self._layout = net, layout or InputLayout.of("x", x)
        kinds = [(module, kind) for module in net.modules() if (kind := kind_of(module))]

        def correct_all_sizes(net: nn.Module, inputs: object) -> None:
            for module, kind in kinds:
                correct_sizes(module, kind)

        net.register_forward_pre_hook(correct_all_sizes)  # within functional_call the layers hold the smaller tensors
        self._random = torch.Generator("cpu").manual_seed(0)
        self._parameters, self._inputs = self._probe(x)

    def settle(self, groups: Sequence[NodeGroup]) -> list[tuple[NodeGroup, str | None]]:
        """Each group as it can be removed, and None; or the group and why it cannot.

        All are tried at once: in most nets all can be removed. Where that fails, those that a gradient suspects are
        tried one by one and the others at once, and halves of what still fails. A bar shows the progress in a terminal
        where it takes more than two seconds.
        """
        with tqdm(total=len(groups), desc="find_nodes", unit="group", delay=2, leave=False, disable=None) as bar:
            return self._settle(groups, bar)

    def _settle(self, groups: Sequence[NodeGroup], bar: tqdm) -> list[tuple[NodeGroup, str | None]]:
        if len(groups) < 2 or self._fault(groups) is None:
            settled = [self._settle_one(group) if len(groups) < 2 else (group, None) for group in groups]
            bar.update(len(groups))
            return settled
        suspects = self._suspects(groups) if len(groups) > 2 else set()
        if 0 < len(suspects) < len(groups):
            others = iter(self._settle([group for group in groups if group.name not in suspects], bar))
            return [self._settle([group], bar)[0] if group.name in suspects else next(others) for group in groups]
        middle = len(groups) // 2
        return [*self._settle(groups[:middle], bar), *self._settle(groups[middle:], bar)]

    def _settle_one(self, group: NodeGroup) -> tuple[NodeGroup, str | None]:
        fault = self._fault([group])
        if fault and (other := _channels_last(group)) and not self._fault([other]):
            return other, None
        return group, fault

    def _fault(self, groups: Sequence[NodeGroup]) -> str | None:
        """Try to remove about half of the nodes, then the other half; None if all goes well."""
        keep = {
            g.name: torch.randperm(g.size, generator=self._random, device="cpu") < _about_half(g.size) for g in groups
        }
        others = {name: ~kept for name, kept in keep.items()}
        for x, kept in zip(self._inputs, (keep, others), strict=True):
            closed = _unread(groups, kept, self._parameters)
            expected = self._output(closed, x)
            x = self._rewrite(groups, kept, closed, x)
            if not is_same(self._output(closed, x), expected):
                return IS_MIXED
            smaller = _smaller(groups, kept, closed, x)
            del closed
            try:
                output = self._output(*smaller)
            except Exception as error:  # whatever the net's own code raises
                return f"{_IS_NEEDED} ({str(error).strip().partition(chr(10))[0]})"
            if not is_same(output, expected):
                return _IS_COUNTED
        alone = [group for group in groups if group.size == 1 and group.writers and not group.can_be_empty]
        return self._fault_of_doubles(alone) if alone else None

    def _suspects(self, groups: Sequence[NodeGroup]) -> set[str]:
        """The names of groups on whose unread nodes the output depends, by one gradient for all of them.

        It is that of the output, summed with weights, by a factor of what writes half of each group's nodes, which no
        reader looks at. No group is judged by it: it says which are to be tried apart.
        """
        keep = {g.name: torch.arange(g.size) < _about_half(g.size) for g in groups}
        x, closed = self._inputs[0], _unread(groups, keep, self._parameters)
        factors = [x.new_zeros((), requires_grad=True) for _ in groups]
        for group, factor in zip(groups, factors, strict=True):
            for axis in group.writers:
                tensor = closed[axis.parameter]
                unread = ~_across(axis, keep[group.name], tensor)
                closed[axis.parameter] = tensor + factor * tensor.detach() * unread
        try:
            with torch.enable_grad(), same_random_numbers(x):
                output: Tensor = functional_call(self._net, closed, (x.clone(),)).flatten()
                weights = torch.arange(1, len(output) + 1, device=output.device).to(output).cos()
                found = torch.autograd.grad((output * weights).sum(), factors, allow_unused=True)
        except Exception:  # whatever the net's own code raises that is not made for gradients
            return set()
        return {
            group.name for group, slope in zip(groups, found, strict=True) if slope is not None and bool(slope != 0)
        }

    def _fault_of_doubles(self, groups: Sequence[NodeGroup]) -> str | None:
        """Put two nodes in the place of each only node that always stands, whose removal cannot be tried."""
        parameters, x = self._parameters, self._inputs[0]
        expected = self._output(parameters, x)
        for in_runs in (True, False):
            try:
                if is_same(self._output(_doubled(groups, parameters, in_runs=in_runs), x), expected):
                    return None
            except Exception:  # whatever the net's own code raises
                continue
        return _IS_ALONE

    def _rewrite(
        self, groups: Sequence[NodeGroup], keep: Mapping[str, Tensor], parameters: _Tensors, x: Tensor
    ) -> Tensor:
        """Write something else in the nodes that nobody reads, in place; return such inputs."""
        for group in groups:
            for axis in group.writers:
                rows, tensor = _closed(axis, keep[group.name]), parameters[axis.parameter]
                shape = [len(rows) if dim == axis.dim else length for dim, length in enumerate(tensor.shape)]
                tensor.index_copy_(axis.dim, rows, self._normal(tensor, shape))
            if not group.writers:
                x = torch.where(keep[group.name].to(x.device), x, self._normal(x, x.shape))
        return x

    def _output(self, parameters: _Tensors, x: Tensor) -> Tensor:
        with torch.no_grad(), same_random_numbers(x):  # a net that draws random numbers draws the same each time
            output: Tensor = functional_call(self._net, parameters, (x.clone(),))
        return output

    def _probe(self, x: Tensor) -> tuple[_Tensors, list[Tensor]]:
        """Random weights and two inputs near the example; the net's own ones where those give no finite output."""
        own = {name: tensor.detach() for name, tensor in (*self._net.named_parameters(), *self._net.named_buffers())}
        layered = [module for module in self._net.modules() if kind_of(module)]
        drawn = {id(tensor) for layer in layered for tensor in layer.parameters(recurse=False)}
        random = {
            name: self._normal(own[name], parameter.shape, scale=max(1, math.prod(parameter.shape[1:])) ** -0.5)
            for name, parameter in self._net.named_parameters()
            if id(parameter) in drawn
        }
        statistics = {id(tensor) for layer in layered for tensor in layer.buffers(recurse=False) if tensor.dim()}
        random |= {
            name: 0.5 + self._normal(buffer, buffer.shape).abs()  # a variance must be positive, a mean may be
            for name, buffer in self._net.named_buffers()
            if id(buffer) in statistics
        }
        parameters, noisy = own | random, [self._layout.perturbed(x, self._normal(x, x.shape)) for _ in range(2)]
        is_finite = all(self._output(parameters, noise).isfinite().all() for noise in noisy)
        return (parameters, noisy) if is_finite else (own, [x, x])

    def _normal(self, like: Tensor, shape: Sequence[int], *, scale: float = 1.0) -> Tensor:
        """Random normal numbers: of many, the first ones again and again, which is faster than to draw them all."""
        count = math.prod(shape)
        size = min(count, _MOST_DRAWN)
        drawn = torch.randn(size, generator=self._random, dtype=like.dtype, device="cpu") * scale
        if count > _MOST_DRAWN:
            drawn = drawn.repeat(-(-count // _MOST_DRAWN))[:count]
        return drawn.reshape(shape).to(like.device)


def _about_half(size: int) -> int:
    """The largest number up to half of a size that has no factor in common with it.

    So many nodes are never whole blocks, such as the heads of attention, of which some may be removable.
    """
    return next((count for count in range(size // 2, 0, -1) if math.gcd(count, size) == 1), 0)


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


def _closed(axis: Axis, keep: Tensor) -> Tensor:
    """The positions along an axis of nodes that are not kept."""
    return (~axis.spread(keep.to(axis.index.device))).nonzero().flatten()


def _unread(groups: Sequence[NodeGroup], keep: Mapping[str, Tensor], parameters: _Tensors) -> _Tensors:
    """The parameters with zeros where readers look at nodes that are not kept; those of the groups are copies."""
    unread = dict(parameters)
    for name in {axis.parameter for group in groups for axis in (*group.writers, *group.readers)}:
        unread[name] = unread[name].clone()
    for group in groups:
        for axis in group.readers:
            unread[axis.parameter].index_fill_(axis.dim, _closed(axis, keep[group.name]), 0.0)
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


def _doubled(groups: Sequence[NodeGroup], parameters: _Tensors, *, in_runs: bool) -> _Tensors:
    """The parameters and buffers with each node twice, of which readers take the mean.

    Args:
        groups: Groups of one node each.
        parameters: All parameters and buffers.
        in_runs: Whether the second node stands behind all positions of the first one; else each position is doubled.
    """
    doubled = dict(parameters)
    for group in groups:
        for axis in group.axes:
            positions = torch.arange(len(axis.index), device=axis.index.device)
            is_node = axis.index == 0
            if in_runs and is_node.any():
                end = int(is_node.nonzero().max()) + 1
                positions = torch.cat([positions[:end], positions[is_node], positions[end:]])
            else:
                positions = positions.repeat_interleave(is_node + 1)
            tensor = doubled[axis.parameter]
            share = _across(axis, tensor.new_full((1,), 0.5), tensor) if axis in group.readers else 1
            doubled[axis.parameter] = (tensor * share).index_select(axis.dim, positions)
    return doubled


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
