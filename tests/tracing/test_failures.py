"""Factorisations that fail: NaN in eager code, in traced programs and in compiled ones, and right results elsewhere."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bnn_pyro.tracing.failures import FailuresAsNaN
from bnn_pyro.tracing.trace import trace

OPERATIONS = (torch.linalg.cholesky, torch.linalg.inv, lambda a: torch.linalg.solve(a, torch.ones(3)))
FAILING, FINE = -torch.eye(3) * torch.tensor([1.0, 1.0, 0.0]), 2 * torch.eye(3)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_is_nan_in_eager_code(operation: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(RuntimeError, match="linalg"):
        operation(FAILING)
    with FailuresAsNaN():
        assert operation(FAILING).isnan().all()
        torch.testing.assert_close(operation(FINE), operation(FINE))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("first", [FAILING, FINE], ids=["failing", "fine"])
def test_is_nan_in_a_program_whatever_it_was_traced_with(operation: Callable[[Tensor], Tensor], first: Tensor) -> None:
    program = trace(lambda a: operation(a), first)
    assert program(FAILING).isnan().all()
    torch.testing.assert_close(program(FINE), operation(FINE))


def test_half_a_factor_is_none() -> None:
    """The library leaves the first columns behind, finite."""
    half = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
    assert torch.linalg.cholesky_ex(half).L[:2].isfinite().all()
    with FailuresAsNaN():
        assert torch.linalg.cholesky(half).isnan().all()


def test_of_many_matrices_those_alone_that_fail() -> None:
    with FailuresAsNaN():
        found = torch.linalg.cholesky(torch.stack([FINE, FAILING]))
    torch.testing.assert_close(found[0], torch.linalg.cholesky(FINE))
    assert found[1].isnan().all()


def test_gradient_is_nan_too() -> None:
    program = trace(lambda a: torch.func.grad(lambda b: torch.linalg.cholesky(b).sum())(a), FINE)
    assert program(FAILING).isnan().all() and program(FINE).isfinite().all()
