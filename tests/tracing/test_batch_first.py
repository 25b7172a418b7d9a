"""Programs of many vectors, the chains first in every tensor: each chain's is the program of one vector."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad_and_value

from bnn_pyro.tracing.batch_first import chains_first, intensity
from bnn_pyro.tracing.trace import trace
from tests.models import DOUBLE
from tests.tracing.test_batch_last import CHAINS, X, deep, odd, perceptron, products, shapes


@pytest.mark.parametrize("function", [perceptron, deep, products, shapes, odd], ids=lambda f: f.__name__)
def test_each_chain_is_a_program_of_one_vector(function: Callable[[Tensor], Tensor]) -> None:
    """Value and gradient, as traced and traced again."""
    single = trace(grad_and_value(function), torch.randn(12, dtype=DOUBLE))
    vectors = torch.randn(CHAINS, 12, dtype=DOUBLE)
    expected: list[Any] = [torch.stack(found) for found in zip(*map(single, vectors), strict=True)]
    many = chains_first(single)
    again = trace(lambda v: many(v), vectors.t().contiguous())
    for run in (many, again):
        gradient, value = run(vectors.t().contiguous())
        torch.testing.assert_close([gradient.t(), value], expected)


def test_intensity_is_of_products_of_own_matrices() -> None:
    """Not of those with the data or with a vector; the gradient of a product is two of its size."""
    example, rows = torch.randn(12, dtype=DOUBLE), len(X)
    expected = rows * 2 * 3 / (rows * 2 + 2 * 3 + rows * 3)
    assert intensity(trace(lambda v: perceptron(v), example)) == 0
    assert intensity(trace(lambda v: deep(v), example)) == pytest.approx(expected)
    assert intensity(trace(grad_and_value(deep), example)) == pytest.approx(expected)
