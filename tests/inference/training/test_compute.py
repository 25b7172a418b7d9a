"""How steps are computed: names and numbers that are checked at once, and inputs that they fit."""

from typing import Any

import pytest
import torch

from bnn_pyro.inference.training.compute import Compute


def test_the_layout_of_batches() -> None:
    assert Compute().layout == torch.contiguous_format
    assert Compute(channels_last=True).layout == torch.channels_last


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "fast"}, "engine must be one of auto, compiled, traced, eager, got 'fast'"),
        ({"precision": "fp16"}, "precision must be one of None, 'bf16', got 'fp16'"),
        ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
    ],
)
def test_what_there_is_not(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Compute(**options)


def test_what_does_not_fit_the_inputs() -> None:
    images = torch.zeros(4, 3, 5, 5)
    Compute(precision="bf16", channels_last=True).check_inputs(images)
    with pytest.raises(ValueError, match="precision='bf16' needs inputs in float32, got torch.float64: convert"):
        Compute(precision="bf16").check_inputs(images.double())
    with pytest.raises(ValueError, match=r"channels_last needs images of shape .* got inputs of shape \(4, 75\)"):
        Compute(channels_last=True).check_inputs(images.flatten(1))
