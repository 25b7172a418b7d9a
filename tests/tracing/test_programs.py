"""Compiled programs are shared by equal graphs, and by no others."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from bnn_pyro.tracing import programs
from bnn_pyro.tracing.engine import Engine
from bnn_pyro.tracing.programs import shared
from tests.tracing.test_engine import needs_a_compiler

X = torch.arange(6.0).view(2, 3)


def compiled(function: Callable[..., Any], *arguments: Tensor, kind: str = "", graph: Any = None) -> Any:
    """Ask for a program, which is the graph that it was made of."""
    found: fx.GraphModule = make_fx(function)(*arguments) if graph is None else graph
    return shared(kind, found, arguments, lambda: found)


def scaled(factor: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x * factor


def test_equal_graphs_share_a_program() -> None:
    first = compiled(scaled(2.0), X)
    assert compiled(scaled(2.0), X + 1) is first


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (scaled(2.0000001), (X,)),
        (lambda x: x * torch.tensor(2.0), (X,)),
        (scaled(2.0), (X[:, :2],)),
        (scaled(2.0), (X[:, :2].contiguous(),)),
        (scaled(2.0), (X.t().contiguous().t(),)),
        (scaled(2.0), (X.double(),)),
        (scaled(2.0), (torch.nn.Parameter(X.clone()),)),
        (scaled(2.0), (X.flatten()[1:4].view(1, 3),)),
    ],
)
def test_others_do_not(function: Callable[..., Any], arguments: tuple[Tensor, ...]) -> None:
    first = compiled(scaled(2.0), X)
    assert compiled(function, *arguments) is not first


def test_a_constant_s_value_counts() -> None:
    one, same, other = (torch.tensor([1.0, 2.0, last]) for last in (3.0, 3.0, 4.0))
    assert compiled(lambda x: x + one, X) is compiled(lambda x: x + same, X)
    assert compiled(lambda x: x + one, X) is not compiled(lambda x: x + other, X)


def test_memory_that_arguments_share_counts() -> None:
    add, both = torch.add, torch.arange(6.0)
    apart = compiled(add, both.clone(), both.clone())
    assert compiled(add, both, both) is not apart
    assert compiled(add, both[:3].clone(), both[3:].clone()) is not compiled(add, both[:3], both[:3])


def test_functions_of_one_name_are_told_apart() -> None:
    def graph_with(target: Callable[..., Tensor]) -> fx.GraphModule:
        found = make_fx(lambda x: x.sin())(X)
        next(node for node in found.graph.nodes if node.op == "call_function").target = target
        found.recompile()
        return found

    def named(change: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
        def function(x: Tensor) -> Tensor:
            return change(x)

        return function

    first, second = named(torch.sin), named(torch.cos)
    assert graph_with(first).code == graph_with(second).code
    assert compiled(lambda x: x, X, graph=graph_with(first)) is compiled(lambda x: x, X, graph=graph_with(first))
    assert compiled(lambda x: x, X, graph=graph_with(first)) is not compiled(lambda x: x, X, graph=graph_with(second))


def test_kinds_and_settings_count() -> None:
    first = compiled(scaled(2.0), X)
    assert compiled(scaled(2.0), X, kind="other") is not first
    torch.use_deterministic_algorithms(True)
    try:
        assert compiled(scaled(2.0), X) is not first
    finally:
        torch.use_deterministic_algorithms(False)
    assert compiled(scaled(2.0), X) is first


def test_those_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "MOST", 2)
    first, second = compiled(scaled(1.0), X), compiled(scaled(2.0), X)
    assert compiled(scaled(1.0), X) is first
    compiled(scaled(3.0), X)
    assert compiled(scaled(1.0), X) is first and compiled(scaled(2.0), X) is not second


def test_what_cannot_be_compiled_is_tried_again() -> None:
    graph = make_fx(scaled(2.0))(X)

    def fails() -> Any:
        raise RuntimeError("no compiler")

    with pytest.raises(RuntimeError, match="no compiler"):
        shared("", graph, (X,), fails)
    assert shared("", graph, (X,), lambda: graph) is graph


@needs_a_compiler
def test_a_second_engine_compiles_nothing_and_follows_its_own_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the program keep the tensors of the engine that it was compiled for."""
    made, compile = [], torch.compile

    def counted(*args: Any, **options: Any) -> Any:
        made.append(args)
        return compile(*args, **options)

    monkeypatch.setattr(torch, "compile", counted)
    gone = []
    for factor in (2.0, 5.0):
        weight, count = torch.full((3,), factor), torch.zeros(())

        def step(x: Tensor, weight: Tensor = weight, count: Tensor = count) -> Tensor:
            count.add_(1)
            return (x * weight).sin().sum()

        engine = Engine(step, engine="compiled")
        for call in range(3):
            torch.testing.assert_close(engine("", (X + call,)), ((X + call) * factor).sin().sum())
        assert count == 3
        gone.append(weakref.ref(weight.untyped_storage()))
        del engine, step, weight, count
    gc.collect()
    assert len(made) == 1 and [storage() for storage in gone] == [None, None]


def test_constants_of_inner_graphs_count() -> None:
    def nested(value: float) -> fx.GraphModule:
        constant = torch.tensor([value])
        inner = make_fx(lambda x: x + constant)(X)
        graph = fx.Graph()
        graph.output(graph.call_module("inner", (graph.placeholder("x"),)))
        return fx.GraphModule({"inner": inner}, graph)

    first = compiled(scaled(1.0), X, graph=nested(1.0))
    assert compiled(scaled(1.0), X, graph=nested(1.0)) is first
    assert compiled(scaled(1.0), X, graph=nested(2.0)) is not first
