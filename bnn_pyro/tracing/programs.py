"""Compiled programs by what they compute: a search that fits the same network many times compiles its step once."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from threading import Lock
from typing import TypeVar

import torch
from torch import Tensor, fx

MOST = 8
"""Programs that are kept, those used last; each takes 1 to 4 MB of memory, of a small network."""

Program = TypeVar("Program", bound=Callable[..., object])

_programs: OrderedDict[Hashable, Callable[..., object]] = OrderedDict()
_lock = Lock()


def shared(kind: Hashable, graph: fx.GraphModule, arguments: Sequence[Tensor], make: Callable[[], Program]) -> Program:
    """Return a compiled program, the one that was made before of an equal graph if there is one.

    Two graphs are equal if they have the same operations with the same constants. The arguments' values do not matter,
    but their shapes, strides, dtypes and devices, and which of them share memory, do; so do the number of
    threads, the default dtype, the precision of float32 products and whether algorithms are deterministic.

    Args:
        kind: What else the program depends on, such as how it is compiled.
        graph: The graph, a function of its arguments alone: what it writes to is among them.
        arguments: The arguments that it is compiled for.
        make: Compiles it. The program must hold neither arguments nor anything of the run that asks for it.
    """
    key = (kind, _operations(graph), _layout(arguments), _settings())
    with _lock:
        found = _programs.get(key)
        if found is not None:
            _programs.move_to_end(key)
            return found  # type: ignore[return-value]  # made by a make of the same kind
    made = make()
    with _lock:
        _programs[key] = made
        while len(_programs) > MOST:
            _programs.popitem(last=False)
    return made


def forget_programs() -> None:
    """Forget all programs, so that the next of each is compiled."""
    with _lock:
        _programs.clear()


def _operations(graph: fx.GraphModule) -> Hashable:
    """Return what a graph does: its text, the functions that it calls, which a text may name alike, and constants."""
    parts = [part for part in graph.modules() if isinstance(part, fx.GraphModule)]
    targets = tuple(node.target for part in parts for node in part.graph.nodes if node.op == "call_function")
    constants = tuple(_constant(tensor) for part in parts for tensor in _attributes(part))
    return tuple(part.code for part in parts), targets, constants


def _attributes(part: fx.GraphModule) -> list[Tensor]:
    """Return the tensors that a graph, and not a part of it, holds, in the order of its text."""
    names = [node.target for node in part.graph.nodes if node.op == "get_attr"]
    found = [getattr(part, name) for name in names]
    return [tensor for tensor in found if isinstance(tensor, Tensor)]


def _constant(tensor: Tensor) -> Hashable:
    content = tensor.new_empty(tensor.numel(), device="cpu").copy_(tensor.detach().reshape(-1)).view(torch.uint8)
    return (*_form(tensor), hashlib.sha256(content.numpy().tobytes()).hexdigest())


def _form(tensor: Tensor) -> tuple[Hashable, ...]:
    return tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device


def _layout(arguments: Sequence[Tensor]) -> Hashable:
    """Return what compiled programs check of their arguments, and where each lies in memory that some of them share."""
    memory: dict[int, int] = {}
    return tuple(
        (
            *_form(t),
            type(t),
            t.requires_grad,
            t.data_ptr() % 64,
            memory.setdefault(t.untyped_storage().data_ptr(), len(memory)),
            t.storage_offset(),
        )
        for t in arguments
    )


def _settings() -> Hashable:
    return (
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
    )
