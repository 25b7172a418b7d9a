"""What a node is: the positions, in the parameters of a net, of what can be removed together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)  # tensors have no truth value, so equality is identity
class Axis:
    """Which positions along one dimension of one parameter belong to which node of a group.

    Attributes:
        parameter: Dotted name of the parameter, as in ``net.named_parameters()``, or of a buffer.
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
        writers: The output side: rows and biases, filters, and what a BatchNorm does to them. Empty for the inputs.
        readers: The columns that read the nodes.
        buffers: What is kept of the nodes beside parameters: the running statistics of a BatchNorm.
        can_be_empty: Whether all nodes can go. Convolutions and BatchNorms take no empty tensors: of their nodes one
            always stays in place, as a channel that nobody reads if its gate is closed.
    """

    name: str
    size: int
    writers: tuple[Axis, ...]
    readers: tuple[Axis, ...]
    buffers: tuple[Axis, ...] = ()
    can_be_empty: bool = True

    def standing(self, keep: Tensor, *, multiple: int = 1) -> Tensor:
        """Tell which nodes stay in place when some are closed.

        Those that are kept stay, and the first closed ones up to a multiple, or up to one node where the group cannot
        be empty. Of the inputs only those stay that are kept.

        Args:
            keep: Which nodes are kept, bool, shape ``(size,)``.
            multiple: What the number of nodes in place is a multiple of, unless it is all of them.

        Returns:
            Which nodes stay in place, bool, shape ``(size,)``.
        """
        kept = int(keep.sum())
        count = -(-max(kept, 0 if self.can_be_empty else 1) // multiple) * multiple
        fill = (~keep).cumsum(0) <= count - kept if self.writers else torch.zeros_like(keep)
        return keep | fill

    @property
    def axes(self) -> tuple[Axis, ...]:
        """All places of the nodes, in parameters and buffers."""
        return (*self.writers, *self.readers, *self.buffers)


@dataclass(frozen=True, eq=False)
class Nodes:
    """What can be removed from a net, and what cannot.

    Attributes:
        groups: The groups of nodes: the inputs first, then in the order of the net's parameters.
        dense: Name of each layer with output channels that are no nodes -> why they stay.
    """

    groups: tuple[NodeGroup, ...]
    dense: Mapping[str, str]

    @property
    def inputs(self) -> NodeGroup | None:
        """The group of the net's inputs, which no parameter writes; None where they are no nodes."""
        return next((group for group in self.groups if not group.writers), None)


def parameter_axes(groups: Iterable[NodeGroup]) -> dict[str, dict[int, tuple[tuple[str, Axis], ...]]]:
    """Turn groups inside out: which of them have nodes along which dimension of which parameter or buffer.

    Args:
        groups: Groups as `find_nodes` returns them.

    Returns:
        ``axes[parameter][dim]``, a tuple of pairs (name of the group, its axis there). Two groups share a dimension
        where a layer reads a concatenation of both.
    """
    axes: dict[str, dict[int, tuple[tuple[str, Axis], ...]]] = {}
    for group in groups:
        for axis in group.axes:
            dims = axes.setdefault(axis.parameter, {})
            dims[axis.dim] = (*dims.get(axis.dim, ()), (group.name, axis))
    return axes


def positions_kept(
    groups: Sequence[NodeGroup], keep: Mapping[str, Tensor], *, multiple: int = 1
) -> dict[str, dict[int, Tensor]]:
    """Find which positions along which dimensions of parameters and buffers are left without some nodes.

    Args:
        groups: Groups as `find_nodes` returns them.
        keep: Name of a group -> which of its nodes stay, bool, shape ``(size,)``. Groups without a mask keep all nodes.
        multiple: What the number of nodes in place of each group is a multiple of, as in `NodeGroup.standing`.

    Returns:
        ``positions[parameter][dim]``, the positions that stay, in their order; only where something is removed.
    """
    named = {group.name: group for group in groups if group.name in keep}
    standing = {name: group.standing(keep[name], multiple=multiple) for name, group in named.items()}
    positions: dict[str, dict[int, Tensor]] = {}
    for parameter, dims in parameter_axes(groups).items():
        for dim, axes in dims.items():
            kept = [axis.spread(standing[name].to(axis.index.device)) for name, axis in axes if name in standing]
            if kept and not (stays := torch.stack(kept).all(dim=0)).all():
                positions.setdefault(parameter, {})[dim] = stays.nonzero().flatten()
    return positions
