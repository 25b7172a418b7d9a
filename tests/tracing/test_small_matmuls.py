"""Small products as sums."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from bnn_pyro.tracing.small_matmuls import products_as_sums, without_examples

DOUBLE = torch.float64
PRODUCTS = ("mm", "addmm", "mv", "dot", "bmm")
CASES: dict[str, tuple[Callable[..., Tensor], list[tuple[int, ...]]]] = {
    "matrix and matrix": (lambda a, b: a @ b, [(5, 4), (4, 3)]),
    "linear": (torch.nn.functional.linear, [(5, 4), (3, 4), (3,)]),
    "row and matrix": (lambda a, b: a @ b, [(1, 4), (4, 3)]),
    "column and row": (lambda a, b: a @ b, [(4, 1), (1, 3)]),
    "matrix and vector": (lambda a, b: a @ b, [(5, 4), (4,)]),
    "vector and vector": (lambda a, b: a @ b, [(4,), (4,)]),
}


def traced(function: Callable[..., Any], shapes: list[tuple[int, ...]]) -> tuple[fx.GraphModule, list[Tensor]]:
    inputs = [torch.randn(shape, dtype=DOUBLE) for shape in shapes]
    return make_fx(function)(*inputs), inputs


def products(graph: fx.GraphModule) -> list[str]:
    names = [str(node.target).split(".")[1] for node in graph.graph.nodes if node.op == "call_function"]
    return [name for name in names if name in PRODUCTS]


@pytest.mark.parametrize("name", CASES)
def test_products_are_sums_of_the_same_value(name: str) -> None:
    graph, inputs = traced(*CASES[name])
    found = products_as_sums(graph, inputs)
    assert products(graph) and not products(found)
    torch.testing.assert_close(found(*inputs), graph(*inputs))
    assert found(*inputs).shape == graph(*inputs).shape


@pytest.mark.parametrize(("most", "left"), [(59, ["mm"]), (60, [])])
def test_large_products_stay(most: int, left: list[str]) -> None:
    graph, inputs = traced(*CASES["matrix and matrix"])  # 5 x 4 x 3 multiplications
    assert products(products_as_sums(graph, inputs, most=most)) == left


def test_weighted_sums_stay() -> None:
    """Whose factors are keyword arguments."""
    graph, inputs = traced(lambda c, a, b: torch.addmm(c, a, b, beta=0.5), [(3,), (5, 4), (4, 3)])
    found = products_as_sums(graph, inputs)
    assert products(found) == ["addmm"]
    torch.testing.assert_close(found(*inputs), graph(*inputs))


def test_no_tensor_of_the_tracing_is_remembered() -> None:
    graph, inputs = traced(*CASES["linear"])
    assert any(node.meta for node in graph.graph.nodes)
    assert not any(node.meta for node in products_as_sums(graph, inputs).graph.nodes)
    assert without_examples(graph) is graph
    assert not any(node.meta for node in graph.graph.nodes)
