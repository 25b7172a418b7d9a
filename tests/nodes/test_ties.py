"""That tied entries are found, with the reasons against removing them."""

import numpy as np
import pytest

from bnn_pyro.nodes.ties import Ties, connected

A, B, C = ("a", 0), ("b", 0), ("c", 1)


def numbers(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_tied_entries_have_one_label() -> None:
    ties = Ties()
    ties.unite(A, numbers(0, 1, 2), B, numbers(3, 2, 1))
    ties.unite(B, numbers(3, 1), C, numbers(0, 0))
    a, b, c = (ties.labels(side, 5) for side in (A, B, C))
    assert a[0] == b[3] == b[1] == a[2] == c[0] and a[1] == b[2] != a[0]
    assert a[3:].tolist() == [-1, -1] and ties.sides == [A, B, C]
    assert ties.labels(("unknown", 0), 2).tolist() == [-1, -1]


def test_a_reason_holds_for_all_that_is_tied_and_the_first_one_counts() -> None:
    ties = Ties()
    ties.block(A, numbers(0), "first")
    ties.unite(A, numbers(0, 1), B, numbers(0, 1))
    ties.block(B, numbers(0, 1), "second")
    ties.block(C, numbers(), "for none")
    assert ties.reasons(ties.labels(B, 3)) == ["first", "second", None]
    ties.unite(C, numbers(0), C, numbers(0))
    labels = ties.labels(C, 2)
    assert ties.reasons(labels) == [None, None] and ties.is_free(labels).tolist() == [True, False]
    assert not ties.is_free(ties.labels(A, 2)).any()


@pytest.mark.parametrize("seed", range(3))
def test_connected_components_have_the_number_of_their_smallest_vertex(seed: int) -> None:
    generator = np.random.default_rng(seed)
    edges = generator.integers(0, 60, (2, 40))
    labels = connected(60, *edges)
    assert (labels[edges[0]] == labels[edges[1]]).all() and (labels <= np.arange(60)).all()
    merged = {vertex: {vertex} for vertex in range(60)}
    for one, other in edges.T.tolist():
        union = merged[one] | merged[other]
        merged |= dict.fromkeys(union, union)
    assert labels.tolist() == [min(merged[vertex]) for vertex in range(60)]
