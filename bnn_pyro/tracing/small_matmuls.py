"""Small products of matrices as sums, which a compiler makes one loop of with what stands around them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten

SMALL = 2**16
"""Multiplications of a product that takes a library longer to begin than a loop to make."""


def products_as_sums(graph: fx.GraphModule, inputs: Sequence[Tensor], *, most: int = SMALL) -> fx.GraphModule:
    """Returns a graph whose small products are written as sums of products of numbers.

    On a CPU a library's product costs ten microseconds or more however small it is, and stands between loops that could
    be one. Compiled, a leapfrog step of one chain, of a perceptron with 10 or 50 hidden nodes on 277 or 455 rows, is
    1.1 to 1.8 times as fast with sums (``benchmarks/traced_programs.py``). A graph that is not compiled gets slower.

    Args:
        graph: Operations on tensors.
        inputs: Example inputs.
        most: Multiplications of a product that counts as small.

    Returns:
        The graph, which remembers no tensors of its tracing.
    """
    with torch.no_grad():
        found: fx.GraphModule = make_fx(lambda *given: _Summing(graph, most).run(*given))(*inputs)
    return without_examples(found)


def without_examples(graph: fx.GraphModule) -> fx.GraphModule:
    """Makes a graph and those in it forget the tensors of their tracing, which the compiler would take for its own.

    Args:
        graph: The graph.

    Returns:
        The same.
    """
    for part in graph.modules():
        if isinstance(part, fx.GraphModule):
            for node in part.graph.nodes:
                node.meta.clear()
    return graph


class _Summing(fx.Interpreter):
    """Runs a graph, its small products as sums."""

    def __init__(self, graph: fx.GraphModule, most: int) -> None:
        super().__init__(graph)
        self.most = most

    def call_function(
        self, target: fx.node.Target, args: tuple[fx.node.Argument, ...], kwargs: dict[str, fx.node.Argument]
    ) -> object:
        """Does what a node does.

        Args:
            target: Its operation.
            args: The arguments.
            kwargs: The keyword arguments.
        """
        if target in _SUMS and not kwargs:
            *_, a, b = args
            if isinstance(a, Tensor) and isinstance(b, Tensor) and _multiplications(a, b) <= self.most:
                return _SUMS[target](*args)
        return super().call_function(target, args, kwargs)


def _multiplications(a: Tensor, b: Tensor) -> int:
    return a.numel() * (b.shape[1] if b.dim() > 1 else 1)


def _mm(a: Tensor, b: Tensor) -> Tensor:
    return (a.unsqueeze(2) * b.unsqueeze(0)).sum(1)


_SUMS: dict[object, Callable[..., Tensor]] = {
    aten.mm.default: _mm,
    aten.addmm.default: lambda bias, a, b: bias + _mm(a, b),
    aten.mv.default: lambda a, b: (a * b).sum(1),
    aten.dot.default: lambda a, b: (a * b).sum(),
}
