"""What counts as a call of an operation."""

import operator

import torch
from torch import fx

from bnn_pyro.tracing.operations import operation

aten = torch.ops.aten


def test_only_nodes_that_call_an_operation_have_one() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    parts = graph.call_function(aten.split.Tensor, (x, 1))
    first = graph.call_function(operator.getitem, (parts, 0))
    assert operation(parts) is aten.split.Tensor
    for other in (x, first, graph.call_method("exp", (x,)), graph.output(first), 1, None, aten.split.Tensor):
        assert operation(other) is None
