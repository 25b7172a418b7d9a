"""Parameters with a slab, and the gates that stand along their dimensions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bnn_pyro.nodes import Axis, NodeGroup
from bnn_pyro.priors.slab import GateHint

_RECURRENT = re.compile(r"(?:weight|bias)_(?:ih|hh)_(l\d+(?:_reverse)?)")  # parameters of an LSTM, a GRU or an RNN


@dataclass(frozen=True, eq=False)
class Reading:
    """One dimension of a parameter, and the gates along it.

    Args:
        group: The group whose gates they are.
        axis: Which gate stands at which position of the dimension.
        hint: The same for a guide: a negative dimension, or ``(dimension, index)``.
    """

    group: str
    axis: Axis
    hint: GateHint

    def factor(self, gates: Tensor) -> Tensor:
        """Lays gates of shape ``(size,)`` along the parameter, with 1 where no gate stands."""
        if isinstance(self.hint, int):
            return gates.reshape(-1, *[1] * (-self.hint - 1))
        return self.axis.spread(gates).reshape(-1, *[1] * (-self.hint[0] - 1))


@dataclass(frozen=True)
class BayesianParameter:
    """A parameter with a slab: its name, its layer, and the gates on its output side and on its input side."""

    name: str
    layer: str
    shape: tuple[int, ...]
    writers: tuple[Reading, ...]
    readers: tuple[Reading, ...]

    def hints(self) -> dict[str, GateHint | list[GateHint]]:
        """Returns the ``infer["gates"]`` hint of the parameter's slab: every gate at either end."""
        hints: dict[str, list[GateHint]] = {}
        for reading in (*self.writers, *self.readers):
            hints.setdefault(gate_site(reading.group), []).append(reading.hint)
        return {site: found[0] if len(found) == 1 else found for site, found in hints.items()}


def gate_site(group: str) -> str:
    """Returns the name of a group's gate site."""
    return f"{group}.gate"


def readings_of(
    groups: Sequence[NodeGroup], side: str, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[Reading, ...]]:
    """Return, for each parameter, the gates on one side of it.

    Args:
        groups: The nodes.
        side: ``"writers"`` or ``"readers"``.
        shapes: Parameter -> its shape.
    """
    found: dict[str, tuple[Reading, ...]] = {}
    for group in groups:
        for axis in getattr(group, side):
            dim = axis.dim - len(shapes[axis.parameter])
            whole = torch.equal(axis.index, torch.arange(group.size, device=axis.index.device))
            reading = Reading(group.name, axis, dim if whole else (dim, axis.index))
            found[axis.parameter] = (*found.get(axis.parameter, ()), reading)
    return found


def layer_of(parameter: str) -> str:
    """Return the name of the layer that a parameter belongs to: its module, or one of those in a recurrent module.

    Args:
        parameter: Dotted name of the parameter, such as ``"rnn.weight_ih_l0"``, whose layer is ``"rnn.l0"``.
    """
    module, _, leaf = parameter.rpartition(".")
    recurrent = _RECURRENT.fullmatch(leaf)
    return f"{module or 'net'}.{recurrent[1]}" if recurrent else module or "net"


def layer_sizes(parameters: Sequence[BayesianParameter]) -> dict[str, tuple[int, int]]:
    """Return (number of nodes, weights a node) of each layer.

    Args:
        parameters: The parameters with a slab.

    Raises:
        ValueError: If parameters of one layer differ in their number of rows.
    """
    layers: dict[str, tuple[int, int]] = {}
    for p in parameters:
        size, weights = layers.get(p.layer, (p.shape[0] if p.shape else 0, 0))
        if not p.shape or p.shape[0] != size:
            raise ValueError(
                f"bayesian must choose parameters with one row a node, alike in a layer; {p.name!r} has shape {p.shape}"
                + (f" where others of {p.layer!r} have {size} rows" if size else "")
            )
        layers[p.layer] = (size, weights + torch.Size(p.shape[1:]).numel())
    return layers


def multiplied(value: Tensor, readings: Sequence[Reading], gates: Mapping[str, Tensor]) -> Tensor:
    """Return a parameter with gates multiplied in.

    Args:
        value: The parameter.
        readings: Which gates, and where.
        gates: Group -> gates, shape ``(size,)``.
    """
    for reading in readings:
        value = value * reading.factor(gates[reading.group])
    return value
