"""Where the uses run: data on a CUDA device, and a program whose default device it is."""

from collections.abc import Iterator

import pytest
import torch

from tests.on_gpu.uses import Rows


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the eager engine under a default device: a traced step is made by the same Python."""
    left = []
    for item in items:
        parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if (parameters.get("rows"), parameters.get("engine")) != ("default", "eager"):
            left.append(item)
    items[:] = left


@pytest.fixture(params=["data", "default"])
def rows(request: pytest.FixtureRequest) -> Iterator[Rows]:
    """Rows on the device: moved there by the user, or in a program that calls ``torch.set_default_device``."""
    if request.param == "data":
        yield Rows("cuda")
        return
    with torch.device("cuda"):
        yield Rows("cuda")
