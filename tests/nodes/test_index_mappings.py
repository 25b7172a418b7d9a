"""Index mappings on arrays: those of Torch-Pruning's own code, channel by channel."""

from typing import Any

import numpy as np
import pytest
from torch_pruning.dependency import index_mapping as own

from bnn_pyro.nodes.index_mappings import _RULES, Channel, mapped

CHANNELS = np.array([0, 1, 3, 4, 5, 8, 9, 11], dtype=np.int64)
ROOTS = 100 + CHANNELS
MAPPINGS: list[Any] = [
    mapping
    for reverse in (False, True)
    for mapping in (
        own._FlattenIndexMapping(stride=3, reverse=reverse),
        own._ConcatIndexMapping(offset=[3, 9], reverse=reverse),
        own._SplitIndexMapping(offset=[3, 9], reverse=reverse),
        own._SliceIndexMapping(dim=1, start=1, step=2, end=10, reverse=reverse),
        own._GQAIndexMapping(repeat=2, head_dim=2, reverse=reverse),
    )
]


def pairs_of(mapping: Any) -> set[tuple[int, int]]:
    found = mapping([Channel(*pair) for pair in zip(CHANNELS.tolist(), ROOTS.tolist(), strict=True)])
    return {(channel.root_idx, channel.idx) for channel in found if channel.root_idx is not None}


@pytest.mark.parametrize("mapping", MAPPINGS, ids=lambda m: f"{type(m).__name__}-{m.reverse}")
def test_arrays_are_mapped_as_channels_one_by_one(mapping: Any) -> None:
    here, there = mapped(ROOTS, CHANNELS, [None, mapping])
    found = list(zip(here.tolist(), there.tolist(), strict=True))
    assert set(found) == pairs_of(mapping) and len(found) == len(set(found))
    nothing = mapped(ROOTS[:0], CHANNELS[:0], [mapping])
    assert [len(part) for part in nothing] == [0, 0]


def test_every_rule_is_that_of_a_class() -> None:
    assert _RULES.keys() == {type(mapping).__name__ for mapping in MAPPINGS} - {"_GQAIndexMapping"}


def test_mappings_follow_each_other() -> None:
    both = [own._FlattenIndexMapping(stride=2), own._SplitIndexMapping(offset=[2, 20])]
    here, there = mapped(ROOTS, CHANNELS, both)
    flat = [(root, 2 * channel + k - 2) for root, channel in zip(ROOTS, CHANNELS, strict=True) for k in range(2)]
    assert list(zip(here, there, strict=True)) == [(root, channel) for root, channel in flat if 0 <= channel < 18]
    assert mapped(ROOTS, CHANNELS, [None, None]) == (ROOTS, CHANNELS)
