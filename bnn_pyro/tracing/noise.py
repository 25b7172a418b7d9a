"""The noise of a tensor program, drawn outside it in one go."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from bnn_pyro.tracing.operations import operation

aten = torch.ops.aten

_DRAWS: dict[object, str] = {
    aten.randn.default: "normal",
    aten.randn_like.default: "normal",
    aten.normal_.default: "normal",
    aten.rand.default: "uniform",
    aten.rand_like.default: "uniform",
    aten.uniform_.default: "uniform",
}
_EMPTY = {aten.empty.memory_format, aten.empty_like.default, aten.new_empty.default}
_ALIGNED = 16  # parts begin at multiples of so many numbers, as vector instructions like it


_Kind = tuple[str, torch.dtype, torch.device]  # law, dtype and device of what is drawn at once


@dataclass(frozen=True)
class Part:
    """One tensor of noise: standard ``"normal"``, or ``"uniform"`` on [0, 1)."""

    law: str
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class Noise:
    """The noise that a program takes: all of one law, dtype and device comes from one draw.

    Attributes:
        parts: What the program takes, in its order.
    """

    parts: tuple[Part, ...]
    _store: dict[_Kind, Tensor] = field(default_factory=dict, repr=False)
    _views: list[Tensor] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        sizes: dict[_Kind, int] = {}
        starts = []
        for part in self.parts:
            start = sizes.get(_kind(part), 0)
            starts.append(start)
            sizes[_kind(part)] = start + -(-part.shape.numel() // _ALIGNED) * _ALIGNED
        for (law, dtype, device), size in sizes.items():
            self._store[law, dtype, device] = torch.zeros(size, dtype=dtype, device=device)
        for part, start in zip(self.parts, starts, strict=True):
            self._views.append(self._store[_kind(part)].as_strided(part.shape, part.stride, start))

    def fill(self) -> Sequence[Tensor]:
        """Returns tensors of the right shapes that hold no noise: zeros, or what was drawn last."""
        return self._views

    def draw(self) -> Sequence[Tensor]:
        """Draws from torch's generators.

        Returns:
            One tensor a part, valid until the next draw, which fills the same memory.
        """
        for (law, _, _), numbers in self._store.items():
            if law == "normal":
                numbers.normal_()
            else:
                numbers.uniform_()
        return self._views


def _kind(part: Part) -> _Kind:
    return part.law, part.dtype, part.device


def lift_noise(module: fx.GraphModule) -> Noise:
    """Turns the standard normal and uniform draws of a graph into arguments, the last ones.

    Other draws stay in the graph.

    Args:
        module: The graph, which is changed.

    Returns:
        What to draw for these arguments, in their order.
    """
    graph = module.graph
    after = next(node for node in graph.nodes if node.op != "placeholder")
    draws = [node for node in graph.nodes if _is_draw(node)]
    with graph.inserting_before(after):
        arguments = [graph.placeholder(f"noise{i}") for i in range(len(draws))]
    parts: list[Part] = []
    for node, argument in zip(draws, arguments, strict=True):
        value = node.meta["val"]
        argument.meta = dict(node.meta)
        parts.append(Part(_DRAWS[node.target], value.shape, value.stride(), value.dtype, value.device))
        if node.target._schema.is_mutable:
            node.args[0].replace_all_uses_with(argument)
        node.replace_all_uses_with(argument)
        graph.erase_node(node)
    return Noise(tuple(parts))


def _is_draw(node: fx.Node) -> bool:
    """Whether a node is a standard draw into memory of its own, from the default generator."""
    called = operation(node)
    if called is None or called not in _DRAWS or node.kwargs.get("generator") is not None:
        return False
    if not called._schema.is_mutable:
        return True
    return node.args[1:] in ((), (0, 1)) and operation(node.args[0]) in _EMPTY
