"""Simplifying: fewer operations, and the same results."""

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from bnn_pyro.tracing.simplify import simplify
from tests.recorded import assert_same

aten = torch.ops.aten


def simplified(function: Callable[..., Any], *args: Tensor) -> fx.GraphModule:
    graph = make_fx(function)(*(arg.clone() for arg in args))
    simplify(graph)
    graph.graph.lint()
    return graph


def count(graph: fx.GraphModule, *targets: Any) -> int:
    """Operations in a graph: those of some kinds, or all."""
    calls = [node for node in graph.graph.nodes if node.op == "call_function"]
    return sum(1 for node in calls if not targets or node.target in targets)


def writes_to_a_view(x: Tensor, y: Tensor) -> Any:
    z = x.clone()
    first = z.exp()
    z[0].mul_(2)
    return first + z.exp() + y


def writes_to_a_split(x: Tensor, y: Tensor) -> Any:
    z = x.clone()
    first = z.exp()
    z.split(1)[1].add_(y[:1])
    return first, z.exp()


def writes_to_an_unbound(x: Tensor, y: Tensor) -> Any:
    z = x * y
    before = z.sum()
    z.unbind(1)[0].zero_()
    return before, z.sum()


def writes_to_its_argument(x: Tensor, y: Tensor) -> Any:
    before = x.sin()
    x.add_(y)
    return before, x.sin(), x * 1


def writes_behind_a_chain(x: Tensor, y: Tensor) -> Any:
    z = torch.zeros(2, 3)
    row = z.view(6).view(3, 2).t()[0]
    row += y[0]
    return z + x, torch.zeros(2, 3) + y


def writes_to_a_constant(x: Tensor, y: Tensor) -> Any:
    total = torch.ones(3)
    other = torch.ones(3)
    total.mul_(x[0])
    return total, other + y, torch.ones(3)


def writes_out(x: Tensor, y: Tensor) -> Any:
    z = torch.empty_like(x)
    torch.mul(x, y, out=z)
    first = z.cos()
    torch.add(x, y, out=z)
    return first, z.cos()


def copies(x: Tensor, y: Tensor) -> Any:
    kept = x.clone()
    x.copy_(y)
    return kept, x.clone(), kept * 1 + 0


def units(x: Tensor, y: Tensor) -> Any:
    one, nothing = torch.ones_like(x), torch.zeros_like(x)
    return x * 1 + 0, one * x + nothing, (x / 1).pow(1) - 0, y.exp().log(), x * torch.ones(2, 1), 1 - x, 0 - y, 1 / y


def kinds(x: Tensor, y: Tensor) -> Any:
    """One, 1.0 and True are not alike, nor are dtypes."""
    n = (x * 4).long()
    return n * 1, n * 1.0, n / 1, n + 0.0, x.double() * 1, x + torch.zeros((), dtype=torch.float64), n + True, n + 0


def broadcasts(x: Tensor, y: Tensor) -> Any:
    """A unit that is larger than what it is multiplied with gives it its shape."""
    return x[0] * torch.ones(4, 3), torch.zeros(2, 2, 3) + x, torch.ones(5, 1) * x[0, 0]


def constants(x: Tensor, y: Tensor) -> Any:
    table = torch.arange(6.0).view(2, 3).flip(0).cumsum(1)
    return table * x, torch.full((2, 3), 0.5).log() + y, torch.eye(3) @ x.t(), table.sum(), torch.zeros(2, 3)


def large_constants(x: Tensor, y: Tensor) -> Any:
    return torch.arange(10_000.0).sum() * x, torch.ones(300, 300).sum(0).sum() * y, torch.ones(100, 100)


def twice(x: Tensor, y: Tensor) -> Any:
    return x.exp() * y.exp() + x.exp() / y.exp(), x.max(1)[0] + x.max(1)[0], x.max(1)[1]


def nans(x: Tensor, y: Tensor) -> Any:
    return torch.full((3,), float("nan")) * x, torch.full((3,), float("inf")) + y, x / torch.zeros(3)


def gradients(x: Tensor, y: Tensor) -> Any:
    w = (x.detach() + 1).requires_grad_()
    with torch.enable_grad():
        loss = functional.softplus(functional.linear(y, w).tanh() @ w).square().mean() + w.sum() + (w * y).sum()
        return loss.detach(), torch.autograd.grad(loss, w)


FUNCTIONS: list[Callable[[Tensor, Tensor], Any]] = [
    writes_to_a_view,
    writes_to_a_split,
    writes_to_an_unbound,
    writes_to_its_argument,
    writes_behind_a_chain,
    writes_to_a_constant,
    writes_out,
    copies,
    units,
    kinds,
    broadcasts,
    constants,
    large_constants,
    twice,
    nans,
    gradients,
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_it_computes_the_same(function: Callable[..., Any]) -> None:
    """Twice, as the first call might write to a constant; on other numbers than those it was traced with."""
    x, y = torch.randn(2, 3), torch.randn(2, 3)
    graph = simplified(function, x, y)
    for _ in range(2):
        x, y = torch.randn(2, 3), torch.randn(2, 3)
        theirs, ours = (x.clone(), y.clone()), (x.clone(), y.clone())
        expected, found = function(*theirs), graph(*ours)
        for one, other in zip(_leaves(found), _leaves(expected), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6, equal_nan=True)
        assert_same(ours, theirs, 0)


def _leaves(value: Any) -> list[Tensor]:
    return [leaf for part in value for leaf in _leaves(part)] if isinstance(value, (list, tuple)) else [value]


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(training: bool) -> None:
    """What normalises writes to its running statistics, unannounced: no call of it is left out or taken for another."""

    def function(x: Tensor, mean: Tensor, variance: Tensor) -> Any:
        before = mean * 1
        one = functional.batch_norm(x, mean, variance, training=training)
        two = functional.batch_norm(x, mean, variance, training=training)
        return before, one + two, mean * 1

    args = [torch.randn(5, 3), torch.randn(3), torch.rand(3)]
    graph = simplified(function, *args)
    calls = [str(node.target) for node in graph.graph.nodes if "batch_norm" in str(node.target)]
    assert len(calls) == 2 or "no_training" in calls[0]  # torch 2.6 has one that writes nothing
    ours, theirs = [a.clone() for a in args], [a.clone() for a in args]
    for _ in range(2):
        assert_same(graph(*ours), function(*theirs), 1e-6)
    assert_same(ours, theirs, 1e-6)


DRAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "randn": lambda x: torch.randn(3) - torch.randn(3) + x,
    "randn_like": lambda x: torch.randn_like(x) - torch.randn_like(x),
    "rand": lambda x: torch.rand(3) - torch.rand(3) + x,
    "bernoulli": lambda x: torch.bernoulli(x) - torch.bernoulli(x) + x,
    "normal_": lambda x: torch.empty(3).normal_() - torch.empty(3).normal_() + x,
    "torch.normal": lambda x: torch.normal(x, x) - torch.normal(x, x),
    "dropout": lambda x: functional.dropout(x) - functional.dropout(x) + x,
    "randint": lambda x: torch.randint(9, (3,)) - torch.randint(9, (3,)) + x,
    "randperm": lambda x: torch.randperm(3) - torch.randperm(3) + x,
    "multinomial": lambda x: torch.multinomial(x, 2) - torch.multinomial(x, 2) + x[:1],
}


@pytest.mark.parametrize("name", DRAWS)
def test_two_draws_stay_two(name: str) -> None:
    x = torch.full((3,), 0.5)
    graph = simplified(DRAWS[name], x)
    found: list[Tensor] = []
    expected: list[Tensor] = []
    for values, function in ((found, graph), (expected, DRAWS[name])):
        torch.manual_seed(0)
        values.extend(function(x) for _ in range(3))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert any(not torch.equal(found[0], value) for value in found[1:]) or (found[0] != x).any()


# ---- fewer -----------------------------------------------------------------------------------------------------------


def test_what_is_alike_is_done_once() -> None:
    graph = simplified(lambda x: (x.exp() + 1).sin() * (x.exp() + 1).sin() + x.exp(), torch.ones(3))
    assert count(graph, aten.exp.default) == 1 and count(graph, aten.sin.default) == 1
    assert count(simplified(lambda x: x.max(0)[0] * x.max(0)[0], torch.ones(3, 2)), operator.getitem) == 1
    different = simplified(lambda x: x.sum(0) * x.sum(0, keepdim=True), torch.ones(3, 2))
    assert count(different, aten.sum.dim_IntList) == 2


def test_what_is_read_before_it_is_written_is_done_once() -> None:
    """As parameters are that a step moves at its end; what reads them afterwards stays."""

    def function(x: Tensor, y: Tensor) -> Any:
        once, again = (x.t() @ y).exp(), (x.t() @ y).exp()
        kept = x.exp().log() * once.sum()
        x.add_(y)
        return once + again + kept.sum(), x.t().exp() + x.t().exp(), x.exp().log() + 1

    graph = simplified(function, torch.randn(2, 3), torch.randn(2, 3))
    assert count(graph, aten.mm.default) == 1 and count(graph, aten.log.default) == 1
    assert count(graph, aten.exp.default) == 1 + 2 + 1
    x, y = torch.randn(2, 3), torch.randn(2, 3)
    assert_same(graph(x.clone(), y), function(x.clone(), y), 1e-5)


def test_what_changes_nothing_is_dropped() -> None:
    graph = simplified(lambda x: ((x * 1 + 0).detach().view(3) / 1 - 0).exp().log().clone().sin(), torch.ones(3))
    assert count(graph) == 1
    graph = simplified(lambda x: (x * torch.ones_like(x) + torch.zeros(3)).sin(), torch.ones(3))
    assert count(graph) == 1


def test_constants_are_computed_once() -> None:
    graph = simplified(lambda x: x + torch.arange(3.0).exp() * torch.full((3,), 2.0).log(), torch.ones(3))
    assert count(graph) == 1 and len(list(graph.buffers())) == 1
    graph = simplified(lambda x: x * torch.zeros(3) + torch.zeros(3).exp() - torch.zeros(3), torch.ones(3))
    assert len(list(graph.buffers())) == 2
    big = simplified(lambda x: x + torch.ones(1000, 1000).cos().sum(), torch.ones(3))
    assert all(buffer.untyped_storage().size() < 100_000 for buffer in big.buffers())


def test_what_nobody_reads_is_gone() -> None:
    def function(x: Tensor) -> Tensor:
        x.exp().sum().log()
        return x.sin()

    assert count(simplified(function, torch.ones(3))) == 1


def test_a_result_is_a_copy_where_it_was() -> None:
    """A clone of an argument, or a product with 1, is not the argument itself."""
    x = torch.ones(3)
    for function in (torch.clone, lambda x: x * 1, lambda x: (x * 1).view(3, 1)):
        graph = simplified(function, x)
        graph(x).add_(1)
        assert x.tolist() == [1, 1, 1]
