"""What a node is: the positions, in the parameters of a net, of what can be removed together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


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
