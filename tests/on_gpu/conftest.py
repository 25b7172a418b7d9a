"""Where the uses run: data on a CUDA device, and a program whose default device it is."""

from collections.abc import Iterator

import pytest
import torch

from tests.on_gpu.uses import Rows


@pytest.fixture(params=["data", "default"])
def rows(request: pytest.FixtureRequest) -> Iterator[Rows]:
    """Rows on the device: moved there by the user, or in a program that calls ``torch.set_default_device``."""
    if request.param == "data":
        yield Rows("cuda")
        return
    with torch.device("cuda"):
        yield Rows("cuda")
