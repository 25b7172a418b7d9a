"""Where the channels of a net lie in its parameters and buffers, under their own names."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from bnn_pyro.nodes.attention import attention_of
from bnn_pyro.nodes.kinds import kind_of, layers_of, refusal

Side = tuple[str, int]  # (parameter or buffer, dimension)


class Parameters:
    """The parameters and buffers of a net under their own names, and the layers whose channels they hold."""

    def __init__(self, net: nn.Module) -> None:
        self.layers = layers_of(net)
        self.in_attention = {f"{name}.out_proj".removeprefix(".") for name in attention_of(net)}
        self.refused = {name: why for name, module in net.named_modules() if (why := _refused(module))}
        parameters = dict(net.named_parameters())
        layers = [module for module in net.modules() if kind_of(module) or isinstance(module, nn.MultiheadAttention)]
        self._owned = {id(parameter) for layer in layers for parameter in layer.parameters(recurse=False)}
        self._names: dict[int, str] = {id(module): name for name, module in net.named_modules()}
        self._names |= {id(parameter): name for name, parameter in parameters.items()}
        self.input_group = "network_inputs" if "inputs" in self._names.values() else "inputs"
        self._order = {name: number for number, name in enumerate(parameters)}
        self.tensors: dict[str, Tensor] = parameters | dict(net.named_buffers())
        self.writers: dict[Side, str] = {}  # side -> the first layer that has its output channels there
        for name, layer in self.layers.items():
            for side in self.sides(layer, is_output_side=True):
                self.writers.setdefault(side, name)
        linear = [layer for layer in self.layers.values() if isinstance(layer, nn.Linear)]
        self.linear = {
            side for layer in linear for is_out in (True, False) for side in self.sides(layer, is_output_side=is_out)
        }
        self.carriers = {side for module in net.modules() if _carries(module) for side in self.sides(module)}
        self.carriers |= {side for parameter in parameters.values() for side in self.sides(parameter)}

    def name(self, target: object) -> str | None:
        """Dotted name of a module or parameter of the net; None for anything else."""
        return self._names.get(id(target))

    def is_buffer(self, side: Side) -> bool:
        """Whether a side lies in a buffer, such as a running mean."""
        return side[0] in self.tensors and side[0] not in self._order

    def is_written(self, side: Side) -> bool:
        """Whether a side is an output side: a layer's, or what a normalisation does to its channels."""
        return side in self.writers or (side in self.carriers and not self.is_buffer(side))

    def is_read(self, side: Side) -> bool:
        """Whether a side is that of a layer's input channels."""
        return not self.is_written(side) and not self.is_buffer(side)

    def sides(self, target: object, *, is_output_side: bool = True) -> list[Side]:
        """Where the output or input channels of a layer of the net lie, first in its weight; nowhere for anything else.

        Those of a parameter that scales channels, or is added to them, lie along its only long dimension. Tied layers
        have the same sides. A weight that a parametrization computes is named too, though no parameter.
        """
        kind, name = kind_of(target), self.name(target)
        if isinstance(target, nn.Parameter) and name is not None:
            long = [dim for dim, length in enumerate(target.shape) if length > 1]
            return [(name, long[0])] if len(long) == 1 and id(target) not in self._owned else []
        if kind is None or name is None:
            return []
        passes_on = is_output_side or not kind.readers
        buffers = [(leaf, 0) for leaf in kind.buffers]
        return [
            (self.name(owned) or f"{name}.{leaf}".removeprefix("."), dim)
            for leaf, dim in ([*kind.writers, *buffers] if passes_on else kind.readers)
            if (owned := getattr(target, leaf)) is not None
        ]

    def are_linear(self, sides: Iterable[Side]) -> bool:
        """Whether sides lie in linear layers alone."""
        return all(side in self.linear for side in sides)

    def length(self, side: Side) -> int:
        """Number of positions along a side; 0 where there is no such parameter."""
        name, dim = side
        return self.tensors[name].shape[dim] if name in self.tensors else 0

    def rows(self, name: str) -> tuple[Side, NDArray[np.int64]]:
        """Where the output channels of a layer are: the rows of its weight."""
        layer = self.layers[name]
        side = self.sides(layer, is_output_side=True)[0]
        weight: Tensor = layer.weight  # type: ignore[assignment]
        return side, np.arange(weight.shape[side[1]])

    def rank(self, side: Side) -> tuple[int, int]:
        """Key that sorts sides in the order of the net's parameters."""
        return self._order.get(side[0], len(self._order)), side[1]

    def obstacle(self, target: object) -> str | None:
        """Why channels that reach a module or parameter of the net cannot be removed; None where they can."""
        is_one_slope = isinstance(target, nn.PReLU) and target.num_parameters == 1
        if self.name(target) is None or kind_of(target) is not None or is_one_slope or self.sides(target):
            return None
        what = "Parameter" if isinstance(target, nn.Parameter) else type(target).__name__
        reason = refusal(target) or "is of no kind that can be cut, as a Linear layer, a convolution or a BatchNorm is"
        if isinstance(target, nn.Parameter):
            reason = "has not one number per channel"
        return f"its channels pass through {self.name(target)!r} ({what}), which {reason}"


def _carries(module: nn.Module) -> bool:
    """Whether a layer does something to each channel by itself."""
    kind = kind_of(module)
    return kind is not None and kind.is_carrier


def _refused(module: nn.Module) -> str | None:
    """Why the output channels of a layer are no nodes, whatever reads them."""
    return refusal(module) if isinstance(module, _ConvNd) else None
