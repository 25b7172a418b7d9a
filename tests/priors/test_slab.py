"""The slab: a Normal with one scale a node."""

from typing import Any

import pytest
import torch
from torch import Tensor

from bnn_pyro.priors import slab
from tests.models import traced


def site(*args: Any, **options: Any) -> Any:
    return traced(slab)("w", *args, **options).nodes["w"]


def test_each_row_has_its_scale() -> None:
    scale = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    base = site((3, 2, 4), scale=scale)["fn"].base_dist
    torch.testing.assert_close(base.scale, scale[:, None, None].expand(3, 2, 4))
    assert (base.loc == 0).all()


@pytest.mark.parametrize(
    ("shape", "scale", "expected"),
    [
        ((3,), torch.ones(3), (3,)),
        ((3, 2), torch.ones(5, 3), (5, 3, 2)),
        ((3, 2), torch.ones(5, 1), (5, 3, 2)),
        ((3, 2), torch.ones(5, 1, 3), (5, 1, 3, 2)),
        ((3,), torch.ones(5, 3), (5, 3)),
        ((3, 2), torch.ones(1), (3, 2)),
        ((3, 2), 2, (3, 2)),
    ],
)
def test_batches_of_scales(shape: tuple[int, ...], scale: float | Tensor, expected: tuple[int, ...]) -> None:
    found = site(shape, scale=scale)
    assert found["value"].shape == expected
    assert found["fn"].event_shape == shape
    assert found["value"].is_floating_point()


def test_hints_reach_the_site() -> None:
    start, index = torch.zeros(3, 2), torch.tensor([0, -1, 1])
    found = site((3, 2), gates={"a": -2, "b": (-1, index), "c": [-2, -1]}, init=start)
    assert found["infer"]["gates"] == {"a": -2, "b": (-1, index), "c": [-2, -1]}
    assert found["infer"]["init"] is start
    assert not {"gates", "init"} & set(site((3, 2))["infer"])


def test_a_layer_that_has_lost_all_nodes() -> None:
    assert site((0, 3))["value"].shape == (0, 3)


@pytest.mark.parametrize(
    ("shape", "scale", "message"),
    [
        ((), 1.0, "shape must have at least one dimension"),
        ((3, -1), 1.0, "no negative size, got"),
        ((3, 2), torch.ones(2), r"scale must have one entry a node \(3\), got shape \(2,\)"),
        ((3, 2), 0.0, "scale must be positive, got 0.0"),
    ],
)
def test_slab_says_what_is_wrong(shape: tuple[int, ...], scale: float | Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        slab("w", shape, scale=scale)
