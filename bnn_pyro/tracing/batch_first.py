"""A traced program of one vector as a program of many, with the chains along the first dimension of every tensor."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, fx
from torch.func import vmap
from torch.utils._pytree import PyTree, tree_map

from bnn_pyro.tracing.operations import operation
from bnn_pyro.tracing.trace import Traced

aten = torch.ops.aten


def chains_first(traced: Traced) -> Callable[[Tensor], PyTree]:
    """Return a program of one vector as a function of many, whose products are batches that a library multiplies.

    Each chain's matrices are contiguous, as the library wants them. With the chains last it would have to copy them.
    Trace the function before use.

    Args:
        traced: A program of a vector, without noise.

    Returns:
        A function of vectors, shape ``(n, chains)``, that gives what the program gives, each tensor's chains last.
    """

    def one(vector: Tensor) -> PyTree:
        return _OfEach(traced.graph).run(vector, *traced.live)

    def run(vectors: Tensor) -> PyTree:
        copy = vectors.t().contiguous()
        kept = copy.as_strided(copy.shape, copy.stride())  # or a compiler reads through the copy, the chains last again
        return tree_map(lambda part: part.movedim(0, -1), vmap(one)(kept))

    return run


class _OfEach(fx.Interpreter):
    """Runs a graph under ``vmap``, to which it gives what ``vmap`` does not broadcast as a tensor of each chain."""

    def call_function(
        self, target: fx.node.Target, args: tuple[fx.node.Argument, ...], kwargs: dict[str, fx.node.Argument]
    ) -> object:
        """Do what a node does.

        Args:
            target: Its operation.
            args: The arguments.
            kwargs: The keyword arguments.
        """
        if target is aten.log_sigmoid_backward.default:
            gradient, x, buffer = cast(tuple[Tensor, Tensor, Tensor], args)
            args = (gradient + torch.zeros_like(x), x, buffer)
        return super().call_function(target, args, kwargs)


def of_chains(traced: Traced) -> set[fx.Node]:
    """Return what each chain has for itself: the vector, and all that is made of it.

    Args:
        traced: A program of a vector.
    """
    found: set[fx.Node] = set()
    for node in traced.graph.graph.nodes:
        if not found or not found.isdisjoint(node.all_input_nodes):
            found.add(node)  # the first argument is the vector
    return found


def intensity(traced: Traced) -> float:
    """Return how many multiplications there are to a number, in the products of a chain's own matrices.

    That is about half of the width of a perceptron's hidden layers. A product with a matrix that is the same for all
    chains, such as the data, does not count, nor does one with a vector: with the chains last, the former is a single
    product, and the latter is a loop.

    Args:
        traced: A program of a vector.

    Returns:
        Multiplications over the numbers that the products read and write; 0 if there are no such products.
    """
    own = of_chains(traced)
    multiplications = numbers = 0
    for node in traced.graph.graph.nodes:
        if operation(node) in (aten.mm.default, aten.addmm.default):
            a, b = node.args[-2:]
            (m, d), k = a.meta["val"].shape, b.meta["val"].shape[1]
            if {a, b} <= own and 1 not in (m, d, k):
                multiplications += m * d * k
                numbers += m * d + d * k + m * k
    return multiplications / max(numbers, 1)
