"""Which operations keep channels apart, as the shapes of tensors tell."""

import pytest

from bnn_pyro.nodes.mixing import IS_MIXED, IS_SPREAD, channel_dim, holds, mixing

IMAGES = frozenset({4})


def test_channels_are_where_a_convolution_or_a_linear_layer_reads_them() -> None:
    assert channel_dim((2, 8, 5, 5), IMAGES) == 1
    assert channel_dim((2, 5, 8), IMAGES) == 2
    assert channel_dim((2, 5, 5, 8), frozenset()) == 3


@pytest.mark.parametrize(
    ("source", "result", "reason"),
    [
        ((2, 8, 5, 5), (2, 8, 5, 5), None),
        ((2, 8, 1, 1), (2, 8, 5, 5), None),
        ((8, 1, 1), (2, 8, 5, 5), None),
        ((2, 8, 5, 5), (2, 8), None),
        ((2, 8, 1, 1), (2, 1, 1, 8), None),
        ((2, 1, 5, 5), (2, 1, 5, 5), None),
        ((2, 1, 5, 5), (2, 8, 5, 5), IS_SPREAD),
        ((5, 5), (2, 8, 5, 5), IS_SPREAD),
        ((2, 8, 5, 5), (2, 1, 5, 5), IS_MIXED),
        ((2, 8, 5, 5), (2, 1, 1, 1), IS_MIXED),
        ((2, 8), (), IS_MIXED),
        ((2, 7, 1), (2, 7, 6), IS_SPREAD),
        ((2, 7, 6), (2, 7, 1), IS_MIXED),
        ((), (), None),
    ],
)
def test_what_becomes_of_the_channels(source: tuple[int, ...], result: tuple[int, ...], reason: str | None) -> None:
    assert mixing(source, result, IMAGES) == reason


def test_a_tensor_holds_as_many_channels_as_its_dimension_is_long() -> None:
    assert holds((2, 8, 5, 5), 8, IMAGES) and not holds((2, 8, 5, 5), 9, IMAGES)
    assert holds((), 9, IMAGES)
