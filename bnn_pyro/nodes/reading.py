"""The dependency graphs of a net: one of all that can be read, and those of the parts of what cannot.

A layer that Torch-Pruning cannot read is closed: the graph sees what goes into it and what comes out of it, and
nothing between. Within a closed module that has readable ones inside, each of these has a graph of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bnn_pyro.nodes.dependency import IS_OUTPUT, Graph

_ALWAYS_CLOSED: tuple[type[nn.Module], ...] = (nn.RNNBase, nn.RNNCellBase)
_IS_RECURRENT = "is recurrent: each of its channels is computed from all of them"


@dataclass(frozen=True)
class Reading:
    """What could be read of a net.

    Attributes:
        whole: The graph of the net between its inputs and its output; None where the net itself is closed.
        parts: Graphs of modules within closed ones.
        closed: Name of each closed module -> why it cannot be read.
    """

    whole: Graph | None
    parts: tuple[Graph, ...]
    closed: Mapping[str, str]

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """All graphs."""
        return self.parts if self.whole is None else (self.whole, *self.parts)


def read(net: nn.Module, x: Tensor, *, has_features: bool = True) -> Reading:
    """Read the dependency graph of a net, and close the smallest modules that hinder it.

    Args:
        net: The net, in evaluation mode; it is as before afterwards.
        x: A batch that it can be called with.
        has_features: Whether its numbers are the features that the net reads.

    Returns:
        What could be read.
    """
    names = {module: name for name, module in net.named_modules()}
    closed = {module: _IS_RECURRENT for module in names if isinstance(module, _ALWAYS_CLOSED)}
    whole, why = _try_graph(net, x, names, closed, has_features=has_features)
    inputs: dict[nn.Module, Tensor] = {}
    if whole is None or closed:
        inputs = _inputs_of_modules(net, x)
    if whole is None:
        for module in reversed(list(names)):  # children come before the modules that they are in
            has_closed = any(inner in closed for inner in module.modules())
            if module is not net and module in inputs and not has_closed and any(module.children()):
                graph, fault = _try_graph(module, inputs[module], names, closed)
                closed |= {} if graph is not None else {module: fault}
        whole, why = _try_graph(net, x, names, closed, has_features=has_features)
    if whole is None:
        closed[net] = why
    parts = _parts(net, inputs, names, closed)
    return Reading(whole, tuple(parts), {names[module]: reason for module, reason in closed.items()})


def _try_graph(
    net: nn.Module,
    x: Tensor,
    names: Mapping[nn.Module, str],
    closed: Mapping[nn.Module, str],
    output: str = IS_OUTPUT,
    *,
    has_features: bool = True,
) -> tuple[Graph | None, str]:
    """The graph of a module, or None and why there is none."""
    hooks = [(module, set(module._forward_hooks)) for module in net.modules()]
    try:
        with _closing(names, {module: why for module, why in closed.items() if module is not net}):
            return Graph(net, x, is_output=output, has_features=has_features), ""
    except Exception as error:  # whatever Torch-Pruning or the net's own code raises
        for module, before in hooks:  # those of Torch-Pruning stay where the net raises
            for key in set(module._forward_hooks) - before:
                del module._forward_hooks[key]
        return (
            None,
            f"cannot be read by Torch-Pruning ({type(error).__name__}: {str(error).strip().partition(chr(10))[0]})",
        )


def _parts(
    net: nn.Module, inputs: Mapping[nn.Module, Tensor], names: Mapping[nn.Module, str], closed: Mapping[nn.Module, str]
) -> Iterator[Graph]:
    """Graphs of the largest readable modules within closed ones."""
    for module, why in closed.items():
        waiting = list(module.children())
        while waiting:
            child = waiting.pop()
            if child in closed:
                continue
            graph = (
                _try_graph(child, inputs[child], names, closed, within(names[module], module, why))[0]
                if child in inputs
                else None
            )
            if graph is None:
                waiting.extend(child.children())
            else:
                yield graph


def within(name: str, module: nn.Module, why: str) -> str:
    """Say why the channels that a module within a closed one gives cannot be removed.

    Args:
        name: Name of the closed module; "" for the net itself.
        module: The closed module.
        why: Why it is closed.

    Returns:
        The reason.
    """
    place = f"{name!r} ({type(module).__name__})" if name else f"the net itself ({type(module).__name__})"
    return f"it is part of {place}, which {why}"


def _inputs_of_modules(net: nn.Module, x: Tensor) -> dict[nn.Module, Tensor]:
    """The input of each module that is called with one floating-point tensor, and gives one."""
    inputs: dict[nn.Module, Tensor] = {}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
        are_tensors = all(isinstance(tensor, Tensor) and tensor.is_floating_point() for tensor in (*args, output))
        if len(args) == 1 and not kwargs and are_tensors:
            inputs.setdefault(module, args[0].detach().clone())

    hooks = [module.register_forward_hook(note, with_kwargs=True) for module in net.modules()]
    try:
        with torch.no_grad():
            net(x.clone())
    except Exception:  # whatever a net raises that wants no hooks
        inputs.clear()
    finally:
        for hook in hooks:
            hook.remove()
    return inputs


class _Closed(torch.autograd.Function):
    """Calls a module in one step that autograd does not look into; its node says why."""

    @staticmethod
    def forward(ctx: Any, call: Callable[..., tuple[Tensor, ...]], reason: str, *tensors: Tensor) -> Any:  # noqa: D102
        ctx.closed = reason
        return call(*tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:  # noqa: D102
        raise NotImplementedError("the graph is read, and nothing flows back")


@contextmanager
def _closing(names: Mapping[nn.Module, str], closed: Mapping[nn.Module, str]) -> Iterator[None]:
    """Let modules be called in one step that autograd does not look into."""
    try:
        for module, why in closed.items():
            reason = f"its channels pass through {names[module]!r} ({type(module).__name__}), which {why}"
            module.forward = partial(_call_closed, type(module).forward.__get__(module), reason)
        yield
    finally:
        for module in closed:
            module.__dict__.pop("forward", None)


def _call_closed(forward: Callable[..., Any], reason: str, *args: Any, **kwargs: Any) -> Any:
    """Call a module's forward with the tensors among its arguments, however these are nested."""
    tensors: list[Tensor] = []
    packed = _map((args, kwargs), tensors)
    outputs: list[Tensor] = []
    shape: list[Any] = []

    def call(*given: Tensor) -> tuple[Tensor, ...]:
        replaced = _unmap(packed, given)
        output = forward(*replaced[0], **replaced[1])
        shape.append(_map(output, outputs))
        return tuple(outputs)

    results = _Closed.apply(call, reason, *tensors)
    return _unmap(shape[0], results)


class _Place(int):
    """Stands for a tensor of that number."""


def _map(value: Any, tensors: list[Tensor]) -> Any:
    """The value with a place for each tensor in it; the tensors are appended to a list."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return _Place(len(tensors) - 1)
    if isinstance(value, dict):
        return {key: _map(item, tensors) for key, item in value.items()}
    return type(value)(_map(item, tensors) for item in value) if type(value) in (tuple, list) else value


def _unmap(value: Any, tensors: tuple[Tensor, ...]) -> Any:
    """The value with tensors in their places."""
    if isinstance(value, _Place):
        return tensors[value]
    if isinstance(value, dict):
        return {key: _unmap(item, tensors) for key, item in value.items()}
    return type(value)(_unmap(item, tensors) for item in value) if type(value) in (tuple, list) else value
