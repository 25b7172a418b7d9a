"""The world every test runs in: a fixed seed, an empty parameter store, validation on, one thread."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pyro
import pytest
import torch

from bnn_pyro.tracing.programs import forget_programs

os.environ.setdefault("MPLBACKEND", "Agg")  # Plots are drawn where no display is.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as for a job in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_warn_always(True)  # torch warns once per process by default: which test fails would depend on the order.


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that need a GPU where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def world() -> Iterator[None]:
    """Start each test from the same seed, an empty parameter store, validated distributions and no compiled program."""
    forget_programs()
    torch.set_num_threads(1)
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    with pyro.validation_enabled(True):
        yield
    pyro.clear_param_store()
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of data sets beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder shared/data with the data sets is not beside the repository")
    return folder
