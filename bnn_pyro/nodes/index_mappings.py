"""Torch-Pruning's index mappings on arrays: which channels an edge of its graph leads on, and where.

Torch-Pruning maps lists of channels, one object each, which takes seconds for layers of thousands of channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bnn_pyro.nodes.ties import Numbers


class Channel(NamedTuple):
    """A channel and the one it comes from, under the names that Torch-Pruning's index mappings read and return."""

    idx: int
    root_idx: int


IndexMapping = Callable[[Sequence[Channel]], Sequence[Channel]]


def mapped(roots: Numbers, channels: Numbers, mappings: Iterable[IndexMapping | None]) -> tuple[Numbers, Numbers]:
    """Return which of the roots of channels are led on, and where the mappings of an edge lead each of them.

    Args:
        roots: Where each channel comes from, shape ``(channels,)``.
        channels: The channels.
        mappings: What maps them, one after the other; None maps nothing.

    Returns:
        Roots and channels, one for one, of which there may be more or fewer than before.
    """
    for mapping in mappings:
        if mapping is not None:
            rule = _RULES.get(type(mapping).__name__, _one_by_one)
            roots, channels = rule(mapping, roots, channels)
    return roots, channels


_Pairs = tuple[Numbers, Numbers]


def _one_by_one(mapping: IndexMapping, roots: Numbers, channels: Numbers) -> _Pairs:
    """Map by a mapping's own code; what has lost its root is led nowhere."""
    given = [Channel(*pair) for pair in zip(channels.tolist(), roots.tolist(), strict=True)]
    pairs = [(channel.root_idx, channel.idx) for channel in mapping(given) if channel.root_idx is not None]
    here, there = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return here, there


def _flatten(mapping: Any, roots: Numbers, channels: Numbers) -> _Pairs:
    """Each channel becomes a run of them; the other way round a run becomes one."""
    stride = mapping._stride
    if not mapping.reverse:
        return roots.repeat(stride), (channels[:, None] * stride + np.arange(stride)).reshape(-1)
    here, there = np.unique(np.stack([roots, channels // stride]), axis=1)
    return here, there


def _concatenate(mapping: Any, roots: Numbers, channels: Numbers) -> _Pairs:
    """Channels of a part become channels of the whole; the other way round those of the part alone are led on."""
    start, end = mapping.offset[:2]
    return _within(roots, channels, start, end) if mapping.reverse else (roots, channels + start)


def _split(mapping: Any, roots: Numbers, channels: Numbers) -> _Pairs:
    """Channels of the whole become channels of a part, and the other way round."""
    start, end = mapping.offset[:2]
    return (roots, channels + start) if mapping.reverse else _within(roots, channels, start, end)


def _within(roots: Numbers, channels: Numbers, start: int, end: int) -> _Pairs:
    inside = (channels >= start) & (channels < end)
    return roots[inside], channels[inside] - start


def _slice(mapping: Any, roots: Numbers, channels: Numbers) -> _Pairs:
    """Some channels, evenly spaced, become others, and the other way round."""
    if mapping.reverse:
        return roots, channels * mapping.step + mapping.start
    inside = (channels >= mapping.start) & (channels < mapping.end) & ((channels - mapping.start) % mapping.step == 0)
    return roots[inside], (channels[inside] - mapping.start) // mapping.step


_RULES: dict[str, Callable[[Any, Numbers, Numbers], _Pairs]] = {
    "_FlattenIndexMapping": _flatten,
    "_ConcatIndexMapping": _concatenate,
    "_SplitIndexMapping": _split,
    "_SliceIndexMapping": _slice,
}
"""By the names of their classes, which are private: a test holds each against its mapping's own code."""
