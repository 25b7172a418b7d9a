"""Images are cropped, flipped and erased as documented, each by itself and with the right frequencies."""

import dataclasses
import json
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bnn_pyro.data.augmentation import Augmentation

NOTHING: dict[str, Any] = {"padding": 0, "flip": 0.0, "erase": 0.0}


def images(rows: int = 50, height: int = 6, width: int = 8) -> Tensor:
    """Images in which every pixel is another number, none of them 0."""
    return 1 + torch.arange(2 * height * width, dtype=torch.float64).reshape(1, 2, height, width).repeat(rows, 1, 1, 1)


def test_nothing_is_changed_without_a_change() -> None:
    assert torch.equal(Augmentation(**NOTHING)(images()), images())


def test_crops_are_windows_of_the_image_with_a_border() -> None:
    x = images(rows=400)
    before = x.clone()
    cropped = Augmentation(**{**NOTHING, "padding": 2})(x)
    assert torch.equal(x, before) and cropped.shape == x.shape and cropped.is_contiguous()
    bordered = F.pad(x[0], [2] * 4)
    windows = {(i, j): bordered[:, i : i + 6, j : j + 8] for i in range(5) for j in range(5)}
    found = [next(place for place, window in windows.items() if torch.equal(image, window)) for image in cropped]
    assert set(found) == set(windows)  # 400 draws of 25 windows: one is missing in 1 of 500,000 runs


def test_flips_have_their_probability() -> None:
    x = images(rows=2_000)
    flipped = Augmentation(**{**NOTHING, "flip": 0.3})(x)
    is_flipped = (flipped == x.flip(-1)).flatten(1).all(1)
    assert torch.equal(flipped[~is_flipped], x[~is_flipped])
    assert abs(float(is_flipped.double().mean()) - 0.3) < 4.5 * (0.21 / 2_000) ** 0.5
    assert torch.equal(Augmentation(**{**NOTHING, "flip": 1.0})(x), x.flip(-1))


def test_what_is_erased_is_a_rectangle_of_the_asked_area_and_aspect() -> None:
    x = images(rows=1_000, height=32, width=32)
    erased = Augmentation(**{**NOTHING, "erase": 0.7, "fill": (-1.0, -2.0)})(x)
    gone = erased != x
    assert torch.equal(gone[:, 0], gone[:, 1])
    assert (erased[:, 0][gone[:, 0]] == -1).all() and (erased[:, 1][gone[:, 1]] == -2).all()
    some = gone[:, 0][gone[:, 0].any(-1).any(-1)]
    assert abs(len(some) / 1_000 - 0.7) < 4.5 * (0.21 / 1_000) ** 0.5
    tall, wide = some.any(2).sum(1), some.any(1).sum(1)
    assert torch.equal(tall * wide, some.sum((1, 2)))
    for sides, others in ((some.any(2), tall), (some.any(1), wide)):
        assert ((sides[:, 1:] != sides[:, :-1]).sum(1) <= 2).all() and (others < 32).all()
    area, aspect = tall * wide / 1024, (tall / wide).log()
    assert 0.01 < area.min() < 0.05 and 0.35 < area.max() < 0.45
    assert aspect.abs().max() < 1.5 and abs(float(aspect.mean())) < 0.12  # log .3 is -1.2; rounding moves small ones
    assert abs(float(area.mean()) - 0.2) < 0.03  # .21, less as large ones must fit


def test_corners_reach_all_sides() -> None:
    erased = Augmentation(**{**NOTHING, "erase": 1.0})(images(rows=1_000, height=12, width=12)) == 0
    for side in (erased[..., 0, :], erased[..., -1, :], erased[..., 0], erased[..., -1]):
        assert 0.1 < float(side.any(-1).any(-1).double().mean()) < 0.9


def test_a_rectangle_that_never_fits_is_not_erased() -> None:
    x = images(rows=20, height=4, width=4)
    assert torch.equal(Augmentation(**{**NOTHING, "erase": 1.0, "erased_area": (1.0, 1.0)})(x), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_stays_and_the_generator_decides(dtype: torch.dtype) -> None:
    x, change = images().to(dtype), Augmentation(padding=2)
    torch.manual_seed(3)
    first = change(x)
    torch.manual_seed(3)
    assert torch.equal(change(x), first) and first.dtype == dtype
    assert not torch.equal(change(x), first)


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    x = images().cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert Augmentation()(x).is_cuda
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": -1}, "padding must be at least 0, got -1"),
        ({"flip": 1.5}, r"flip must be a probability in \[0, 1\], got 1.5"),
        ({"erase": -0.1}, r"erase must be a probability in \[0, 1\], got -0.1"),
        ({"erased_area": (0.4, 0.2)}, "erased_area must be two fractions"),
        ({"erased_area": (0.0, 0.2)}, "erased_area must be two fractions"),
        ({"erased_aspect": 3.0}, "erased_aspect must be in"),
    ],
)
def test_bad_numbers_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x must be images of shape .* got \(3, 8\)"):
        Augmentation()(torch.zeros(3, 8))


def test_settings_from_a_file() -> None:
    augmentation = Augmentation(padding=2, erased_area=(0.1, 0.2), fill=(0.1, 0.2, 0.3))
    values = json.loads(json.dumps(dataclasses.asdict(augmentation)))
    assert values["erased_area"] == [0.1, 0.2] and Augmentation.of(values) == augmentation
    with pytest.raises(ValueError, match="padding must be at least 0, got -1"):
        Augmentation.of({**values, "padding": -1})
