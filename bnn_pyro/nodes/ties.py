"""Which entries of parameters can only be removed together, and which of them must stay.

There may be millions of entries, so they are numbered, and tied in arrays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bnn_pyro.nodes.parameters import Side

Numbers = NDArray[np.int64]


class Ties:
    """Entries, each a position along a side, the ties between them, and reasons against removing some."""

    def __init__(self) -> None:
        self._numbers: dict[Side, Numbers] = {}  # the numbers of the entries of a side
        self._count = 0
        self._ties: list[Numbers] = []  # pairs of numbers
        self._blocked: list[tuple[Numbers, str]] = []
        self._labels: Numbers | None = None
        self._first: Numbers | None = None  # label -> the first block that holds for it, -1 for none

    def unite(self, side: Side, positions: Numbers, other: Side, others: Numbers) -> None:
        """Tie entries to others, one for one.

        Args:
            side: The side of the first ones.
            positions: Their positions.
            other: The side of the other ones.
            others: Their positions.
        """
        pairs = np.stack([self._entries(side, positions), self._entries(other, others)])
        if (side, len(positions)) != (other, 0):
            self._ties.append(pairs)
        self._labels = self._first = None

    def block(self, side: Side, positions: Numbers, reason: str) -> None:
        """Say why entries must stay, with all that is tied to them; the first reason given holds.

        Args:
            side: Their side.
            positions: Their positions.
            reason: Why they must stay.
        """
        if len(positions):
            self._blocked.append((self._entries(side, positions), reason))
            self._first = None

    @property
    def sides(self) -> list[Side]:
        """All sides that have entries."""
        return list(self._numbers)

    def labels(self, side: Side, length: int) -> Numbers:
        """Tell which entries along a side are tied: they have the same label.

        Args:
            side: The side.
            length: The number of its positions.

        Returns:
            One label a position, shape ``(length,)``; -1 where there is no entry.
        """
        known = self._numbers.get(side, np.empty(0, dtype=np.int64))[:length]
        labels = self._tied()
        found = np.full(length, -1, dtype=np.int64)
        found[: len(known)] = labels[known]
        return found

    def reasons(self, labels: Numbers) -> list[str | None]:
        """Tell why entries must stay.

        Args:
            labels: Their labels; -1 for no entry.

        Returns:
            A reason, or None, for each.
        """
        first = self._first_blocks()
        return [self._blocked[first[label]][1] if label >= 0 and first[label] >= 0 else None for label in labels]

    def is_free(self, labels: Numbers) -> NDArray[np.bool_]:
        """Tell which entries may be removed.

        Args:
            labels: Their labels; -1 for no entry.

        Returns:
            Whether each is an entry without a reason to stay.
        """
        first = np.append(self._first_blocks(), 0)
        free: NDArray[np.bool_] = first[labels] < 0
        return free

    def _entries(self, side: Side, positions: Numbers) -> Numbers:
        """The numbers of entries, which are made where they are new."""
        known = self._numbers.get(side, np.empty(0, dtype=np.int64))
        length = int(positions.max()) + 1 if len(positions) else 0
        if length > len(known):
            more = np.arange(self._count, self._count + length - len(known))
            known = self._numbers[side] = np.concatenate([known, more])
            self._count += len(more)
            self._labels = self._first = None
        return known[positions]

    def _tied(self) -> Numbers:
        if self._labels is None:
            pairs = np.concatenate([np.empty((2, 0), dtype=np.int64), *self._ties], axis=1)
            self._labels = connected(self._count, *pairs)
        return self._labels

    def _first_blocks(self) -> Numbers:
        if self._first is None:
            labels = self._tied()
            self._first = np.full(self._count, -1, dtype=np.int64)
            for number, (entries, _) in reversed(list(enumerate(self._blocked))):
                self._first[labels[entries]] = number
        return self._first


def connected(count: int, first: Numbers, other: Numbers) -> Numbers:
    """Find the connected components of a graph.

    Args:
        count: Number of vertices.
        first: One end of each edge.
        other: The other end.

    Returns:
        The smallest vertex of the component of each vertex, shape ``(count,)``.
    """
    labels = np.arange(count)
    while True:
        ends = labels[first], labels[other]
        apart = ends[0] != ends[1]
        if not apart.any():
            return labels
        first, other = first[apart], other[apart]
        low, high = np.minimum(*ends)[apart], np.maximum(*ends)[apart]
        np.minimum.at(labels, high, low)
        while not np.array_equal(shorter := labels[labels], labels):
            labels = shorter
