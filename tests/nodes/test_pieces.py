"""Splits and concatenations: which channels become which, and nets whose channels go on in pieces."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.nodes import find_nodes
from bnn_pyro.nodes.pieces import Piece, backwards, cuts, onwards, pieces
from bnn_pyro.pruning.cutting import cut

IMAGES = frozenset({4})


def tensor(*shape: int) -> Tensor:
    return torch.randn(*shape, requires_grad=True) * 1


def test_pieces_of_a_split_are_those_of_torch() -> None:
    first, second = tensor(2, 7, 3, 3).split([3, 4], 1)
    joined: Any = torch.cat([second, torch.ones(2, 2, 3, 3), first, second], 1).grad_fn
    assert cuts(first.grad_fn, IMAGES) == [(0, 3), (3, 4)]
    found = pieces(first.grad_fn, joined, IMAGES)
    assert found == [Piece(3, 4, 0), Piece(0, 3, 6), Piece(3, 4, 9)]
    places, there = onwards(np.array([1, 5]), found)
    assert places.tolist() == [1, 0, 1] and there.tolist() == [2, 7, 11]
    places, there = backwards(np.array([2, 4, 7, 11]), found)
    assert places.tolist() == [0, 2, 3] and there.tolist() == [5, 1, 5]


def test_the_dimension_may_be_counted_from_the_end() -> None:
    first, second = tensor(2, 5, 6).chunk(2, -1)
    assert cuts(first.grad_fn, IMAGES) == [(0, 3), (3, 3)]
    both: Any = torch.cat([second, first], -1).grad_fn
    assert pieces(first.grad_fn, both, IMAGES) == [Piece(3, 3, 0), Piece(0, 3, 3)]


def test_what_splits_no_channels_is_left_alone() -> None:
    rows, other = tensor(2, 6, 3, 3).split(1, 0)[0], tensor(1, 6, 3, 3)
    assert cuts(rows.grad_fn, IMAGES) is None and cuts(other.grad_fn, IMAGES) is None
    below: Any = torch.cat([rows, other], 2).grad_fn
    assert pieces(rows.grad_fn, below, IMAGES) is None
    ones = torch.ones(1, 1, 3, 3)
    unknown: Any = torch.cat([rows, ones, ones], 1).grad_fn
    assert pieces(rows.grad_fn, unknown, IMAGES) is None


# ---- nets ------------------------------------------------------------------------------------------------------------


def block(inputs: int, outputs: int, size: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, padding=size // 2), nn.BatchNorm2d(outputs), nn.SiLU())


class Bottleneck(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = block(channels, 5, 3), block(5, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = x + self.second(self.first(x))
        return output


class C2f(nn.Module):
    """A part of the channels is worked on again and again, and all parts go on, as in detectors of the YOLO family."""

    def __init__(self, split: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.split = split
        self.before, self.after, self.out = block(3, 8), block(16, 6), nn.Linear(6, 2)
        self.parts = nn.ModuleList(Bottleneck(4) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        found = list(self.split(self.before(x)))
        for part in self.parts:
            found.append(part(found[-1]))
        output: Tensor = self.out(self.after(torch.cat(found, 1)).mean((2, 3)))
        return output


class Gated(nn.Module):
    """Halves of the last dimension in another order beside a layer of their own, in sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(3, 8), nn.Linear(4, 5), nn.Linear(13, 2)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.a(x).relu().chunk(2, -1)
        output: Tensor = self.out(torch.cat([second, self.b(first).relu(), first], -1).mean(1))
        return output


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, int]]] = {
    "C2f": (
        lambda: C2f(lambda x: x.chunk(2, 1)),
        (2, 3, 6, 6),
        {"before.0": 4, "after.0": 6, "parts.0.first.0": 5, "parts.1.first.0": 5},
    ),
    "halves of sequences": (Gated, (2, 7, 3), {"a": 4, "b": 5}),
}


@pytest.mark.parametrize(("make", "shape", "sizes"), NETS.values(), ids=NETS.keys())
def test_pieces_go_together_and_without_loss(
    make: Callable[[], nn.Module], shape: tuple[int, ...], sizes: dict[str, int]
) -> None:
    """A chunk cuts in the middle, wherever that is: the halves of a node go together."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net, x = make().double().eval(), torch.randn(shape, dtype=torch.float64)
    found = find_nodes(net, x)
    assert {group.name: group.size for group in found.groups} == sizes and set(found.dense) == {"out"}
    keep = {group.name: torch.arange(group.size) % 3 > 0 for group in found.groups}
    with torch.no_grad():
        for group in found.groups:
            for axis in group.readers:
                closed = (~axis.spread(keep[group.name])).nonzero().flatten()
                net.get_parameter(axis.parameter).index_fill_(axis.dim, closed, 0.0)
    small = cut(net, found.groups, keep)
    assert sum(p.numel() for p in small.parameters()) < 0.7 * sum(p.numel() for p in net.parameters())
    torch.testing.assert_close(small(x), net(x))


def test_a_split_at_a_fixed_place_is_the_reason() -> None:
    found = find_nodes(C2f(lambda x: x.split(4, 1)), torch.randn(2, 3, 6, 6))
    assert {group.name for group in found.groups} == {"after.0", "parts.0.first.0", "parts.1.first.0"}
    assert "the net does not run without some of its channels" in found.dense["before.0"]
