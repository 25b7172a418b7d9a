"""Programs of many vectors, the chains last: each chain's is the program of one vector."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad_and_value
from torch.nn import functional

from bnn_pyro.tracing.batch_last import chains_last
from bnn_pyro.tracing.trace import trace
from tests.models import DOUBLE

CHAINS = 4
X = torch.linspace(-1, 1, 15, dtype=DOUBLE).reshape(5, 3)
LABELS = torch.tensor([0, 1, 2, 1, 0])


def perceptron(v: Tensor) -> Tensor:
    """Products of the data with weights, of rows with a vector, and the gradient's products."""
    hidden = functional.silu(functional.linear(X, v[:6].view(2, 3), v[6:8]))
    return functional.linear(hidden, v[8:10].view(1, 2)).squeeze(-1).square().sum() + v.sum()


def deep(v: Tensor) -> Tensor:
    """A product of two matrices that both differ from chain to chain."""
    hidden = torch.tanh(X @ v[:6].view(3, 2))
    found: Tensor = functional.cross_entropy(hidden @ v[6:12].view(2, 3), LABELS, reduction="sum")
    return found


def products(v: Tensor) -> Tensor:
    one, two = v[:6].view(2, 3), v[6:12].view(3, 2)
    left = (one @ X.t()).mean(1) + torch.addmv(v[:2], one, v[2:5])
    return left.dot(v[:2]) + (X @ v[:3]).logsumexp(0) + (one @ two).trace() + torch.outer(v[:2], v[2:5]).sum()


def shapes(v: Tensor) -> Tensor:
    """Views and joins, tensors that broadcast, and parts that are the same for all chains."""
    parts = v.split([2, 4, 6])
    stacked = torch.stack([parts[0], parts[0] * 2]).unsqueeze(0).transpose(-1, -2)
    joined = torch.cat([parts[1].view(2, 2), X[:2, :2]], -1)
    weighted = parts[2].view(2, 3).permute(1, 0)[..., 1:].expand(3, 2) * X[:2].t() / (1 + v[-1].exp())
    total: Tensor = (
        stacked.cumsum(1).amax() + joined.softmax(0).square().sum() + weighted.select(0, 1).prod() + v[0] ** 2
    )
    return total


def weighted_classes(v: Tensor) -> Tensor:
    """A gradient of a log-softmax that is the same for all chains, and one of a softmax."""
    logits = torch.tanh(X @ v[:6].view(3, 2)) @ v[6:12].view(2, 3)
    weights = torch.tensor([1.0, 2.0, 1.0], dtype=DOUBLE)[LABELS]
    logs = logits.log_softmax(-1).gather(-1, LABELS.unsqueeze(-1)).squeeze(-1)
    found: Tensor = (logs * weights).sum() + (logits.softmax(-1) * X).sum()
    return found


def odd(v: Tensor) -> Tensor:
    """Operations that have no rule of their own."""
    matrix = torch.eye(3, dtype=DOUBLE) + v[:9].view(3, 3) @ v[:9].view(3, 3).t()
    spread: Tensor = v.flip(0)[:3].roll(1).std() + functional.logsigmoid(v).sum()
    volume: Tensor = torch.linalg.cholesky(matrix).diagonal().log().sum()
    return volume + spread


FUNCTIONS = [perceptron, deep, products, shapes, weighted_classes, odd]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_each_chain_is_a_program_of_one_vector(function: Callable[[Tensor], Tensor]) -> None:
    """Value and gradient, as traced and traced again."""
    single = trace(grad_and_value(function), torch.randn(12, dtype=DOUBLE))
    vectors = torch.randn(CHAINS, 12, dtype=DOUBLE)
    expected: list[Any] = [torch.stack(found) for found in zip(*map(single, vectors), strict=True)]
    many = chains_last(single)
    again = trace(lambda v: many(v), vectors.t().contiguous())
    for run in (many, again):
        gradient, value = run(vectors.t().contiguous())
        torch.testing.assert_close([gradient.t(), value], expected)


def test_what_is_the_same_for_all_chains_is_repeated() -> None:
    single = trace(lambda v: {"sum": v.sum(), "data": X.sum(0)}, torch.zeros(2, dtype=DOUBLE))
    found = chains_last(single)(torch.ones(2, CHAINS, dtype=DOUBLE))
    assert found["sum"].tolist() == [2.0] * CHAINS
    torch.testing.assert_close(found["data"], X.sum(0).unsqueeze(-1).expand(3, CHAINS))


def test_dtype_stays_that_of_the_program() -> None:
    """A number of a chain, which has chains, still gives way to a tensor of lower precision."""
    half = torch.ones(3, dtype=torch.float32)
    single = trace(lambda v: v.sum() * half, torch.zeros(2, dtype=DOUBLE))
    assert single(torch.ones(2, dtype=DOUBLE)).dtype == torch.float32
    assert chains_last(single)(torch.ones(2, CHAINS, dtype=DOUBLE)).dtype == torch.float32


def test_products_with_the_data_are_one_for_all_chains() -> None:
    """And none is a batch of many."""
    single = trace(grad_and_value(perceptron), torch.randn(12, dtype=DOUBLE))
    many = chains_last(single)
    graph = trace(lambda v: many(v), torch.randn(12, CHAINS, dtype=DOUBLE)).graph.graph
    targets = [node.target for node in graph.nodes]
    assert targets.count(torch.ops.aten.mm.default) == 2 and torch.ops.aten.bmm.default not in targets
