"""How many chains go through a traced program side by side: the layout of their tensors, and how many at once."""

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.utils._pytree import PyTree

from bnn_pyro.tracing.batch_first import chains_first, intensity, of_chains
from bnn_pyro.tracing.batch_last import chains_last
from bnn_pyro.tracing.trace import Traced

_LANES = 16  # chains that a processor's widest registers hold
_CACHE = 2**20  # bytes near a core
_SHARED = 2**23  # bytes beyond which even the cache that cores share does not hold a number of each lane
_INTENSITY, _OF_FEW = 4.5, 2.5  # that is worth a library's product, of many chains and of too few to fill lanes


def batched(traced: Traced, chains: int) -> Callable[[Tensor], PyTree]:
    """Return a program of one vector as a function of many, in the faster of two layouts.

    On a CPU the chains stand first where each of them multiplies matrices of its own and those are large, as in a
    perceptron with two hidden layers of 10 nodes or more, and last elsewhere. From 5 nodes on they also stand first
    where they are too few to fill the lanes, or the rows so many that the numbers of all lanes leave the cache: one
    chain after another then takes half the time (``benchmarks/batch_gradient.py``). The choice is made by sizes, not by
    timing: two layouts round differently, and the same seed is to give the same draws.

    Args:
        traced: A program of a vector, without noise.
        chains: How many.

    Returns:
        A function of vectors, shape ``(n, chains)``, that gives what the program gives, each tensor's chains last.
    """
    return chains_first(traced) if _is_first(traced, chains) else chains_last(traced)


def block(traced: Traced, chains: int) -> int:
    """Return how many chains to take at once, so that their numbers stay near the core.

    Args:
        traced: The program of one vector.
        chains: How many there are; the blocks are of one size. With the chains last, blocks fill the lanes.
    """
    nodes = traced.graph.graph.nodes
    values = [node.meta["val"] for node in nodes if isinstance(node.meta.get("val"), Tensor)]
    if any(value.device.type != "cpu" for value in values):
        return chains
    least = 1 if _is_first(traced, chains) else _LANES
    most = max(least, _CACHE // _most_bytes(values))
    sizes = [size for size in range(least, min(most, chains) + 1, least) if chains % size == 0]
    return max(sizes, default=chains)


def _is_first(traced: Traced, chains: int) -> bool:
    vector = next(iter(traced.graph.graph.nodes)).meta["val"]
    own = [node.meta["val"] for node in of_chains(traced) if isinstance(node.meta.get("val"), Tensor)]
    has_full_lanes = chains >= _LANES and _LANES * _most_bytes(own) <= _SHARED
    least = _INTENSITY if has_full_lanes else _OF_FEW
    return vector.device.type == "cpu" and intensity(traced) >= least


def _most_bytes(values: Sequence[Tensor]) -> int:
    return max(value.numel() * value.element_size() for value in values)
