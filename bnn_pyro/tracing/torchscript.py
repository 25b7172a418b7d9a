"""A graph of tensor operations run without Python in between."""

import logging
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import PyTree, TreeSpec, tree_flatten, tree_unflatten

logger = logging.getLogger(__name__)

_TENSOR = object()  # where a result has a tensor


def interpreter(graph: fx.GraphModule, arguments: Sequence[Tensor]) -> Callable[..., PyTree]:
    """Return what runs a graph in TorchScript's interpreter: the same operations, a third of the cost of each call.

    Where TorchScript cannot run the graph, or a later torch has it no more, the graph itself is returned; a log line
    says so once.

    Args:
        graph: The graph, with no Python but operations in it.
        arguments: Arguments of the shapes that it is to be called with; they are not written to.

    Returns:
        A function of such arguments that returns what the graph returns, a nest of tensors and constants.
    """
    copies = [argument.clone() for argument in arguments]
    layout: list[tuple[TreeSpec, list[object]]] = []

    def flat(*tensors: Tensor) -> tuple[Tensor, ...]:
        leaves, spec = tree_flatten(graph(*tensors))
        layout[:] = [(spec, [_TENSOR if isinstance(leaf, Tensor) else leaf for leaf in leaves])]
        return tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))

    try:
        _check(graph)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of its deprecation: there is no other interpreter without Python yet
            script = _program(flat, copies)
            script(*copies)
    except Exception as error:  # whatever an operation may have against it
        _say_once(next(iter(str(error).splitlines()), type(error).__name__))
        return graph
    ((spec, constants),) = layout

    def run(*tensors: Tensor) -> PyTree:
        with torch.no_grad():
            found = iter(script(*tensors))
        return tree_unflatten([next(found) if leaf is _TENSOR else leaf for leaf in constants], spec)

    return run


def _program(function: Callable[..., tuple[Tensor, ...]], arguments: Sequence[Tensor]) -> Callable[..., Any]:
    """Return the program of a function, which is freed with it.

    ``torch.jit.trace`` enters each program into a registry of the process, which keeps it for ever. Here each is in a
    unit of its own, by names that are private to torch; where a later torch has them no more the registry is used.
    """
    try:
        names = [f"x{number}" for number in range(len(arguments))]
        graph, _ = torch._C._create_graph_by_tracing(function, tuple(arguments), _no_name, True, False, None, names)
        program: Callable[..., Any] = torch._C.CompilationUnit().create_function("traced", graph, True)
        return program
    except (AttributeError, TypeError):
        traced: Callable[..., Any] = torch.jit.trace(function, tuple(arguments), check_trace=False)
        return traced


def _no_name(tensor: Tensor) -> str:
    """Leave the values of a traced program without names of their own."""
    return ""


def _check(graph: fx.GraphModule) -> None:
    """Refuses operations that TorchScript would leave out unseen: those that write and return nothing."""
    for node in graph.graph.nodes:
        schema = node.target._schema if isinstance(node.target, torch._ops.OpOverload) else None
        if schema is not None and schema.is_mutable and not schema.returns:
            raise RuntimeError(f"{node.target} writes and returns nothing")


@cache
def _say_once(reason: str) -> None:
    logger.info("traced steps run without TorchScript, at a higher cost per operation: %s", reason)
