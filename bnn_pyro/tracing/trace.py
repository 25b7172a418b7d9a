"""A function of tensors, run once through whatever Python it is made of and kept as one tensor program."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import PyTree, tree_leaves

from bnn_pyro.tracing.failures import FailuresAsNaN
from bnn_pyro.tracing.noise import Noise, lift_noise
from bnn_pyro.tracing.operations import Operation
from bnn_pyro.tracing.simplify import WRITERS, simplify
from bnn_pyro.tracing.torchscript import interpreter

aten = torch.ops.aten


@dataclass(frozen=True)
class Traced:
    """A tensor program: no Python of the function is left, only operations on tensors.

    Parameters, buffers and other tensors that the function found outside its arguments are read, and written, where
    they stand, so the program follows them. Its standard normal and uniform noise comes in from outside, drawn afresh
    from torch's generator at every call.

    Attributes:
        graph: The operations; its arguments are the inputs, then ``live``, then the noise.
        live: The tensors found outside.
        noise: What to draw for a call.
    """

    graph: fx.GraphModule
    live: tuple[Tensor, ...]
    noise: Noise
    _program: Callable[..., PyTree]

    def __call__(self, *inputs: Tensor) -> PyTree:
        """Runs the program on fresh noise.

        Args:
            *inputs: Tensors of the shapes that it was traced with.

        Returns:
            What the function returned.
        """
        return self.run(inputs, self.noise.draw())

    def run(self, inputs: Sequence[Tensor], noise: Sequence[Tensor]) -> PyTree:
        """Runs the program on given noise.

        Args:
            inputs: Tensors of the shapes that it was traced with.
            noise: Tensors in the order, and of the shapes and strides, of ``noise.parts``.

        Returns:
            What the function returned. Two results may share memory with each other or with the noise: they are to be
            read, before the next call.
        """
        with torch.no_grad():
            return self._program(*inputs, *self.live, *noise)


def trace(function: Callable[..., object], *inputs: Tensor, bases: Sequence[Tensor] = ()) -> Traced:
    """Traces a function of tensors; autograd inside it becomes a part of the program.

    The function runs once. What it writes to (a module's running statistics) and the random state are put back. A
    factorisation that fails, of a matrix that is not positive definite, gives NaN instead of an error.

    Args:
        function: From tensors to a nest of tensors and constants. It must do the same operations for all inputs of the
            same shapes: Python numbers it reads are baked in.
        *inputs: Example inputs.
        bases: One-dimensional tensors to read in place of parameters that are views of them; the first of ``live``.

    Returns:
        The program.

    Raises:
        RuntimeError: If the function needs a value of a tensor on the way (``.item()``, ``if tensor > 0``, the shape
            of ``x[x > 0]``), or does what torch cannot trace.
    """

    def guarded(*arguments: Tensor) -> object:  # not the function itself, as make_fx miscounts arguments of a method
        with _ValuesStay():
            return function(*arguments)

    devices = sorted({tensor.device for tensor in inputs if tensor.device.type == "cuda"}, key=str)
    undone, failures = Undone(refuse_dynamic=True), FailuresAsNaN()
    with torch.random.fork_rng(devices), torch.enable_grad(), _recurrent_in_parts(), undone, failures:
        graph = make_fx(guarded)(*inputs)
    live = _lift_live(graph, bases)
    noise = lift_noise(graph)
    simplify(graph)
    with torch.random.fork_rng(devices):
        run = interpreter(graph, (*inputs, *live, *noise.fill()))
    return Traced(graph, live, noise, run)


@contextmanager
def _recurrent_in_parts() -> Iterator[None]:
    """Let recurrent layers be traced as products and activations: their fused kernel has arguments no program has."""
    backend: Any = torch.backends.mkldnn
    before, backend.enabled = backend.enabled, False
    try:
        yield
    finally:
        backend.enabled = before


def _lift_live(module: fx.GraphModule, bases: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Turns tensors found outside into arguments, each once, and parts of a base into views of it."""
    graph = module.graph
    found = [node for node in graph.nodes if node.op == "get_attr"]
    tensors: dict[int, Tensor] = {id(base): base for base in bases}
    for node in found:
        tensor = getattr(module, node.target)
        if not isinstance(tensor, Tensor):
            raise RuntimeError(f"it needs a {type(tensor).__name__}, which is no tensor")
        if _base_of(tensor, bases) is None:
            tensors[id(tensor)] = tensor
    after = next(node for node in graph.nodes if node.op not in ("placeholder", "get_attr"))  # stays; those go
    with graph.inserting_before(after):
        nodes = {key: _argument(graph, f"live{i}", t) for i, (key, t) in enumerate(tensors.items())}
        for node in found:
            tensor = getattr(module, node.target)
            if id(tensor) not in nodes:
                base = _base_of(tensor, bases)
                nodes[id(tensor)] = _part(graph, nodes[id(base)], tensor)
            node.replace_all_uses_with(nodes[id(tensor)])
            graph.erase_node(node)
    return tuple(tensor.detach() if tensor.requires_grad else tensor for tensor in tensors.values())


def _base_of(tensor: Tensor, bases: Sequence[Tensor]) -> Tensor | None:
    return next((b for b in bases if b.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()), None)


def _argument(graph: fx.Graph, name: str, tensor: Tensor) -> fx.Node:
    node = graph.placeholder(name)
    node.meta["val"] = tensor.detach()
    node.meta["memory"] = tensor.untyped_storage().data_ptr()  # another argument may be a view of the same
    return node


def _part(graph: fx.Graph, base: fx.Node, tensor: Tensor) -> fx.Node:
    """Returns the node of a contiguous view of a one-dimensional base."""
    start = tensor.storage_offset() - base.meta["val"].storage_offset()
    part = graph.call_function(aten.slice.Tensor, (base, 0, start, start + tensor.numel()))
    part.meta["val"] = base.meta["val"][start : start + tensor.numel()]
    view = graph.call_function(aten.view.default, (part, list(tensor.shape)))
    view.meta["val"] = tensor.detach()
    return view


_VALUES = {Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.__dlpack__}


class _ValuesStay(TorchFunctionMode):
    """Refuses to hand out the values of a tensor: they would be baked into the program unseen."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        if func in _VALUES:
            raise RuntimeError(f"it asks for the values of a tensor by {func.__name__}")
        return func(*args, **(kwargs or {}))


class Undone(TorchDispatchMode):
    """Puts back, at the end, every tensor that was there before and was written to.

    Args:
        refuse_dynamic: Whether operations are refused whose result has a shape that depends on values.
    """

    def __init__(self, *, refuse_dynamic: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.refuse_dynamic = refuse_dynamic
        self.before: dict[int, tuple[Tensor, Tensor]] = {}
        self.made: set[int | None] = set()  # memory

    def __torch_dispatch__(
        self,
        func: Operation,
        types: object,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        if self.refuse_dynamic and _is_dynamic(func, args):
            raise RuntimeError(f"the shape of the result of {func} depends on the values of a tensor")
        for tensor in _written(func, args, kwargs):
            if id(tensor) not in self.before and _memory(tensor) not in self.made:
                self.before[id(tensor)] = (tensor, tensor.clone())
        result = func(*args, **kwargs)
        given = set() if func is aten.lift_fresh.default else {_memory(t) for t in tree_leaves((args, kwargs))}
        self.made.update({_memory(t) for t in tree_leaves(result)} - given)
        return result

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for tensor, value in reversed(self.before.values()):  # of views of one tensor the first is right
                tensor.copy_(value)


def _memory(value: object) -> int | None:
    """Returns where a tensor's memory begins."""
    if not isinstance(value, Tensor) or type(value) not in (Tensor, torch.nn.Parameter):
        return None
    return value.untyped_storage().data_ptr() or None if value.layout == torch.strided else None


def _is_dynamic(func: Operation, args: Sequence[object]) -> bool:
    """Whether the shape of an operation's result depends on values."""
    if func is aten.index.Tensor:
        indices = [index for index in tree_leaves(args[1]) if isinstance(index, Tensor)]
        return any(index.dtype in (torch.bool, torch.uint8) for index in indices)
    return torch.Tag.dynamic_output_shape in func.tags


def _written(func: Operation, args: Sequence[object], kwargs: Mapping[str, object]) -> list[Tensor]:
    """Returns the tensors that an operation writes to."""
    written: list[object] = list(args[WRITERS[func]]) if func in WRITERS else []
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[position] if position < len(args) else kwargs.get(argument.name)
            written.extend(value if isinstance(value, (list, tuple)) else [value])
    return [tensor for tensor in written if isinstance(tensor, Tensor)]
