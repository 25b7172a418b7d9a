"""Fewer operations in a traced graph: none done twice, none that changes nothing, none on constants at every call."""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_map

from bnn_pyro.tracing.operations import operation

aten = torch.ops.aten

_FACTORIES = {aten.full.default, aten.zeros.default, aten.ones.default, aten.arange.default, aten.scalar_tensor.default}
_FILLS: dict[object, Callable[[fx.Node], Any]] = {
    aten.ones_like.default: lambda node: 1,
    aten.zeros_like.default: lambda node: 0,
    aten.full_like.default: lambda node: node.args[1],
    aten.new_ones.default: lambda node: 1,
    aten.new_zeros.default: lambda node: 0,
    aten.new_full.default: lambda node: node.args[2],
}
_SAME = {aten.alias.default, aten.detach.default, aten.expand.default, aten.view.default, aten._unsafe_view.default}
_COPIES = {aten._to_copy.default, aten.clone.default, aten.lift_fresh_copy.default}
_UNITS: dict[object, int] = {aten.mul.Tensor: 1, aten.div.Tensor: 1, aten.add.Tensor: 0, aten.sub.Tensor: 0}
_LARGEST_CONSTANT = 4096  # elements; larger results of constants are computed where they are needed


def simplify(module: fx.GraphModule) -> None:
    """Simplifies a graph of ATen operations in place; it computes the same, up to the sign of a zero.

    A traced step of SVI has a third fewer operations by it, and is 1.05 to 1.2 times as fast, nearly all of it by what
    changes nothing and is dropped; a compiled one gains nothing (``benchmarks/traced_programs.py``).

    Args:
        module: The graph.
    """
    writes = _Writes.of(module.graph)
    _fold(module, writes)
    for _ in range(2):  # what is alike after one round may make its readers alike
        _drop(module, writes)
        _merge(module.graph, writes)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()


@dataclass(frozen=True)
class _Writes:
    """When memory is written to.

    Attributes:
        order: Node -> its number in the graph.
        first: Node -> number of the first node that writes to its memory, or may; only where there is one.
    """

    order: Mapping[fx.Node, int]
    first: Mapping[fx.Node, int]

    @staticmethod
    def of(graph: fx.Graph) -> "_Writes":
        """Reads a graph."""
        order = {node: number for number, node in enumerate(graph.nodes)}
        first: dict[fx.Node, int] = {}
        for node, number in order.items():
            for one in _family(_targets(node)):
                first.setdefault(one, number)
        memories: dict[object, int] = {}
        for node, number in first.items():
            memory = node.meta.get("memory")
            if memory is not None:
                memories[memory] = min(number, memories.get(memory, number))
        for memory, number in memories.items():
            for one in _family(node for node in order if node.meta.get("memory") == memory):
                first[one] = min(number, first.get(one, number))
        return _Writes(order, first)

    def is_settled(self, node: fx.Node) -> bool:
        """Whether a node's own memory, if it has any, is never written to."""
        return node not in self.first or bool(_viewed(node))

    def is_before(self, reader: fx.Node, source: fx.Node) -> bool:
        """Whether a node comes before all writes to the memory of another one."""
        return source not in self.first or self.order[reader] < self.first[source]

    def may_stand_for(self, source: fx.Node, node: fx.Node) -> bool:
        """Whether all that reads a node, or a view of it, comes before the writes to the memory of an equal one."""
        if source not in self.first:
            return True
        return all(
            self.is_before(user, source) and (node not in _viewed(user) or self.may_stand_for(source, user))
            for user in node.users
        )


def _targets(node: fx.Node) -> list[fx.Node]:
    """Returns the arguments that a node writes to."""
    if node.target in WRITERS:
        return [argument for argument in node.args[WRITERS[node.target]] if isinstance(argument, fx.Node)]
    return _arguments(node, lambda argument: argument.alias_info is not None and argument.alias_info.is_write)


def _viewed(node: fx.Node) -> list[fx.Node]:
    """Returns the arguments whose memory the result shares: what it views, or writes to and returns."""
    if node.target is operator.getitem:  # of several results, which may be views, one
        return node.all_input_nodes
    return _arguments(node, lambda argument: argument.alias_info is not None)


def _arguments(node: fx.Node, chosen: Callable[[torch._C.Argument], bool]) -> list[fx.Node]:
    called = operation(node)
    found: list[object] = []
    for position, argument in enumerate([] if called is None else called._schema.arguments):
        if chosen(argument):
            value = node.args[position] if position < len(node.args) else node.kwargs.get(argument.name)
            found.extend(value if isinstance(value, (list, tuple)) else [value])
    return [argument for argument in found if isinstance(argument, fx.Node)]


# what writes to arguments (the running statistics) without saying so in its schema
WRITERS: dict[object, slice] = {aten.native_batch_norm.default: slice(3, 5), aten.cudnn_batch_norm.default: slice(3, 5)}


def _family(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """Returns nodes and all that may share their memory: what they view, and what views that."""
    found: set[fx.Node] = set()
    todo = list(nodes)
    while todo:
        node = todo.pop()
        if node in found:
            continue
        found.add(node)
        todo.extend(_viewed(node))
        todo.extend(user for user in node.users if node in _viewed(user))
    return found


def _is_pure(node: fx.Node, writes: _Writes) -> bool:
    """Whether a node computes a value, which nobody writes to, of its arguments as they were at the start."""
    called = operation(node)
    if called is None or not writes.is_settled(node):
        return False
    if not all(writes.is_before(node, source) for source in node.all_input_nodes):
        return False
    return not (called._schema.is_mutable or called in WRITERS or torch.Tag.nondeterministic_seeded in called.tags)


# ---- constants -------------------------------------------------------------------------------------------------------


def _fold(module: fx.GraphModule, writes: _Writes) -> None:
    """Computes what depends on constants alone, once."""
    values: dict[fx.Node, Tensor] = {}
    for node in module.graph.nodes:
        if _is_pure(node, writes) and not isinstance(node.meta.get("val"), (tuple, list)):
            value = _constant(node, values)
            if isinstance(value, Tensor) and value.untyped_storage().size() <= _LARGEST_CONSTANT * value.element_size():
                values[node] = value
    names: dict[object, str] = {}
    for node, value in values.items():
        if any(user not in values for user in node.users):
            stored = torch.empty(0, dtype=value.dtype, device=value.device).set_(value.untyped_storage())
            layout = (value.shape, value.stride(), value.storage_offset())
            key = (value.dtype, value.device, layout, tuple(stored.tolist()))  # of what is repeated, one
            name = names.setdefault(key, f"constant{len(names)}")
            module.register_buffer(name, value, persistent=False)
            with module.graph.inserting_before(node):
                attribute = module.graph.get_attr(name)
            attribute.meta = dict(node.meta)
            node.replace_all_uses_with(attribute)
    module.graph.eliminate_dead_code()


def _constant(node: fx.Node, values: dict[fx.Node, Tensor]) -> object:
    """Returns the value of a node if it is a constant."""
    if node.target in _FILLS:
        like = node.meta["val"]
        return torch.full((), _FILLS[node.target](node), dtype=like.dtype, device=like.device).expand(like.shape)
    called, inputs = operation(node), node.all_input_nodes
    if called is not None and (called in _FACTORIES or (inputs and all(n in values for n in inputs))):
        args, kwargs = tree_map(lambda a: values[a] if isinstance(a, fx.Node) else a, (node.args, node.kwargs))
        return called(*args, **kwargs)
    return None


# ---- operations that change nothing ----------------------------------------------------------------------------------


def _drop(module: fx.GraphModule, writes: _Writes) -> None:
    """Removes operations whose result is one of their arguments.

    A copy that is returned stays one: what reads a result must not read a parameter that has been changed since.
    """
    returned = _family(next(iter(reversed(module.graph.nodes))).all_input_nodes)
    for node in list(module.graph.nodes):
        if operation(node) and writes.is_settled(node) and (node not in returned or node.target in _SAME):
            same = _unchanged(module, node)
            if isinstance(same, fx.Node) and _alike(same, node) and _is_safe(node, same, writes):
                node.replace_all_uses_with(same)
                module.graph.erase_node(node)


def _is_safe(node: fx.Node, same: fx.Node, writes: _Writes) -> bool:
    """Whether an argument may be read in place of a node: they share memory, or it is written to later if at all."""
    return node.target in _SAME or (writes.is_before(node, same) and writes.may_stand_for(same, node))


def _unchanged(module: fx.GraphModule, node: fx.Node) -> object:
    """Returns the argument that a node may pass on unchanged."""
    if node.target in _SAME | _COPIES:
        return node.args[0]
    inner = node.args[0] if node.args else None
    if node.target is aten.log.default and isinstance(inner, fx.Node) and inner.target is aten.exp.default:
        return inner.args[0]
    if (node.target is aten.pow.Tensor_Scalar or node.target is aten.mul.Scalar) and node.args[1] == 1:
        return inner
    if node.target not in _UNITS or node.kwargs:
        return None
    unit = _UNITS[node.target]
    first, second = node.args
    if _is_number(module, second, unit):
        return first
    commutes = node.target in (aten.mul.Tensor, aten.add.Tensor)
    return second if commutes and _is_number(module, first, unit) else None


def _is_number(module: fx.GraphModule, argument: object, number: int) -> bool:
    """Whether an argument is a constant, all of whose entries are a number."""
    if isinstance(argument, (int, float)):
        return argument == number
    if (
        not isinstance(argument, fx.Node)
        or argument.op != "get_attr"
        or not str(argument.target).startswith("constant")
    ):
        return False
    value: Tensor = getattr(module, str(argument.target))
    return bool((value == number).all())


def _alike(first: fx.Node, second: fx.Node) -> bool:
    """Whether two nodes have the same shape, strides and dtype."""
    one, two = first.meta.get("val"), second.meta.get("val")
    if not (isinstance(one, Tensor) and isinstance(two, Tensor)):
        return False
    return (one.shape, one.stride(), one.dtype, one.device) == (two.shape, two.stride(), two.dtype, two.device)


# ---- the same operation twice ----------------------------------------------------------------------------------------


def _merge(graph: fx.Graph, writes: _Writes) -> None:
    """Keeps one of the operations that are alike."""
    seen: dict[object, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op == "call_function" and (node.target is operator.getitem or _is_pure(node, writes)):
            key = _key(node)
            if key is not None and key in seen:
                node.replace_all_uses_with(seen[key])
                graph.erase_node(node)
            elif key is not None:
                seen[key] = node


def _key(node: fx.Node) -> object:
    key = (node.target, _frozen(node.args), _frozen(node.kwargs))
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _frozen(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return tuple((name, _frozen(part)) for name, part in value.items())
    return type(value), value  # 1, 1.0 and True are not alike
