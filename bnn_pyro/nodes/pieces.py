"""Splits and concatenations of channels, and which channels become which, read from autograd.

Torch-Pruning numbers the pieces of a split in the order in which it meets their readers, lets a reader of two of them
read one twice, and takes such a piece to be as wide as what was split. Autograd's functions know which piece each of
their inputs is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnn_pyro.nodes.mixing import channel_dim

Numbers = NDArray[np.int64]


class Piece(NamedTuple):
    """Channels of one tensor that become channels of another, in their order.

    Attributes:
        start: The first of them, in the tensor that they come from.
        length: How many they are.
        first: The first channel of the other tensor.
    """

    start: int
    length: int
    first: int


def cuts(operation: Any, convolved: frozenset[int]) -> list[tuple[int, int]] | None:
    """Return the first channel and the number of channels of each piece; None of what splits no channels.

    Args:
        operation: An autograd function.
        convolved: The numbers of dimensions of the tensors that convolutions of the net read.
    """
    if not type(operation).__name__.startswith(("SplitBackward", "SplitWithSizesBackward")):
        return None
    shapes = [tensor.shape for tensor in operation._input_metadata]  # of what flows back, which are the pieces
    dim = channel_dim(shapes[0], convolved)
    if _dim(operation, shapes[0]) != dim:
        return None
    lengths = [int(shape[dim]) for shape in shapes]
    return list(zip(np.cumsum([0, *lengths[:-1]]).tolist(), lengths, strict=True))


def pieces(source: Any, result: Any, convolved: frozenset[int]) -> list[Piece] | None:
    """Return the pieces of a tensor that an operation reads; None where it reads all of it, and nothing else.

    Args:
        source: The autograd function of the tensor; of a split that of all its pieces, which count as one tensor.
        result: That of the operation, such as a concatenation.
        convolved: The numbers of dimensions of the tensors that convolutions of the net read.
    """
    parts, firsts = cuts(source, convolved), _firsts(result, convolved)
    if parts is None and firsts is None:
        return None
    found = []
    for place, (before, number) in enumerate(result.next_functions):
        if before is source:
            first, length = firsts[place] if firsts else (0, 0)
            start, length = (0, length) if parts is None else parts[number]
            found.append(Piece(start, length, first))
    return found


def onwards(channels: Numbers, found: Sequence[Piece]) -> tuple[Numbers, Numbers]:
    """Return which channels are read, by their places in a list, and what they become, one for one.

    Args:
        channels: Numbers of channels of the tensor that is read.
        found: Its pieces that are read.
    """
    empty = np.empty(0, dtype=np.int64)
    places = [((channels >= p.start) & (channels < p.start + p.length)).nonzero()[0] for p in found]
    moved = [channels[some] - p.start + p.first for some, p in zip(places, found, strict=True)]
    return np.concatenate([empty, *places]), np.concatenate([empty, *moved])


def backwards(channels: Numbers, found: Sequence[Piece]) -> tuple[Numbers, Numbers]:
    """Return which channels of a result come from a tensor, by their places in a list, and from which, one for one.

    Args:
        channels: Numbers of channels of the result.
        found: The pieces of the tensor that are read.
    """
    return onwards(channels, [Piece(piece.first, piece.length, piece.start) for piece in found])


def _firsts(operation: Any, convolved: frozenset[int]) -> list[tuple[int, int]] | None:
    """Return where the channels of each input of a concatenation begin, and how many they are; None of others."""
    if not type(operation).__name__.startswith("CatBackward"):
        return None
    shape = operation._input_metadata[0].shape
    dim = channel_dim(shape, convolved)
    if _dim(operation, shape) != dim:
        return None
    known = [None if before is None else _length(before, number, dim) for before, number in operation.next_functions]
    if known.count(None) > 1:
        return None  # of inputs without a gradient autograd knows no shape
    rest = int(shape[dim]) - sum(length or 0 for length in known)
    lengths = [rest if length is None else length for length in known]
    return list(zip(np.cumsum([0, *lengths[:-1]]).tolist(), lengths, strict=True))


def _length(operation: Any, number: int, dim: int) -> int:
    """Return how long a dimension of one of the results of an autograd function is."""
    shape = operation.variable.shape if hasattr(operation, "variable") else operation._input_metadata[number].shape
    return int(shape[dim])


def _dim(operation: Any, shape: Sequence[int]) -> int:
    """Return the dimension along which an operation works; autograd keeps negative ones as unsigned numbers."""
    dim = int(operation._saved_dim)
    return (dim - 2**64 if dim >= 2**63 else dim) % len(shape)
