"""The interpreter runs a graph as it stands, writes nothing while it is made, and gives way where it cannot."""

import logging
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from bnn_pyro.tracing.torchscript import interpreter


def graph_of(function: Any, *arguments: Tensor) -> fx.GraphModule:
    """The operations of a function."""
    graph: fx.GraphModule = make_fx(function)(*arguments)
    return graph


def nested(x: Tensor, y: Tensor) -> Any:
    """A result with constants in it."""
    return {"sum": x + y, "parts": [None, (x * y).sin(), True]}


def counted(x: Tensor, total: Tensor) -> Tensor:
    """A function that writes to its argument."""
    total.add_(x.sum())
    return total * 2


def test_same_result_in_the_same_nest() -> None:
    x, y = torch.randn(2, 5, dtype=torch.float64)
    graph = graph_of(nested, x, y)
    run = interpreter(graph, (x, y))
    assert run is not graph
    found, expected = run(2 * x, y), graph(2 * x, y)
    torch.testing.assert_close(found["sum"], expected["sum"], rtol=0, atol=0)
    torch.testing.assert_close(found["parts"][1], expected["parts"][1], rtol=0, atol=0)
    assert found["parts"][0] is None and found["parts"][2] is True


def test_writes_happen_when_it_is_called_and_not_before() -> None:
    x, total = torch.ones(3), torch.zeros(())
    run = interpreter(graph_of(counted, x, total.clone()), (x, total))
    assert total == 0
    assert run(x, total) == 6
    assert total == 3


def test_constants_are_read_where_they_stand() -> None:
    x, offset = torch.ones(3), torch.zeros(3)
    run = interpreter(graph_of(lambda x: x + offset, x), (x,))
    offset += 1
    torch.testing.assert_close(run(x), torch.full((3,), 2.0))


def test_the_graph_itself_is_run_where_there_is_no_interpreter(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A log line says so once."""

    def gone(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no longer there")

    monkeypatch.setattr(torch._C, "_create_graph_by_tracing", gone)
    x, y = torch.randn(2, 5)
    graph = graph_of(nested, x, y)
    with caplog.at_level(logging.INFO, "bnn_pyro.tracing.torchscript"):
        for _ in range(2):
            assert interpreter(graph, (x, y)) is graph
    assert [record.message.split(": ")[1] for record in caplog.records] == ["no longer there"]


def test_what_it_would_leave_out_is_run_as_a_graph() -> None:
    """An operation that writes and returns nothing, which a trace of TorchScript does not have."""
    x = torch.zeros(3)
    run = interpreter(graph_of(writes_a_list, x.clone()), (x,))
    assert run(x).tolist() == [2, 2, 2] and x.tolist() == [1, 1, 1]


def writes_a_list(x: Tensor) -> Tensor:
    """A function that writes to its argument by an operation on a list."""
    torch._foreach_add_([x], 1.0)
    return x * 2


def registered() -> int:
    """How many functions the registry of the process has, which keeps them for ever."""
    registry: Any = torch.jit._state._python_cu
    return len(registry.get_functions())


def test_programs_are_not_kept_for_ever() -> None:
    x, y = torch.randn(2, 5)
    before = registered()
    for _ in range(5):
        interpreter(graph_of(nested, x, y), (x, y))(x, y)
    assert registered() == before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its deprecation
        torch.jit.trace(nested_tuple, (x, y), check_trace=False)
    assert registered() == before + 1  # which is what the registry counts


def nested_tuple(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x + y, x * y


def test_where_private_names_are_gone_the_registry_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.randn(2, 5)
    expected = interpreter(graph_of(nested, x, y), (x, y))(x, y)
    monkeypatch.delattr(torch._C, "_create_graph_by_tracing")
    found = interpreter(graph_of(nested, x, y), (x, y))(x, y)
    torch.testing.assert_close(found["sum"], expected["sum"], rtol=0, atol=0)
