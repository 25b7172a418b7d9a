"""Inputs that lie in a file stay there, and are copied to the device batch by batch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bnn_pyro import GaussianNoise, OneShot, SpikeSlab, fit, fit_sghmc, networks, train_dense
from bnn_pyro.data import mapped
from bnn_pyro.data.mapped import is_mapped
from bnn_pyro.inference.checks import as_pair, hold_out
from bnn_pyro.inference.training.batches import batches
from bnn_pyro.priors.gaussian import Gaussian
from tests.on_gpu.uses import FEATURES, FIT, ROWS, Rows, devices, perceptron

pytestmark = pytest.mark.gpu
HELD_OUT = 10
DEVICE: dict[str, Any] = {"device": "cuda", "validation": HELD_OUT / ROWS}


@pytest.fixture
def data(tmp_path: Path) -> tuple[Any, Tensor]:
    """Inputs in a file, and their targets."""
    x, y = Rows("cpu").regressed
    np.save(tmp_path / "x.npy", x.numpy())
    return np.load(tmp_path / "x.npy", mmap_mode="r"), y


def test_batches_are_on_the_device_of_the_targets(data: tuple[Any, Tensor]) -> None:
    x, y = as_pair("data", data, device="cuda", may_stream=True)
    assert is_mapped(x) and x.device.type == "cpu" and y.device.type == "cuda"
    assert as_pair("data", data, device="cuda")[0].device.type == "cuda"
    found = list(batches(x, torch.arange(len(y), device="cuda"), 5))
    assert devices(found) == {"cuda"}
    for xs, rows in found:
        assert torch.equal(xs.cpu(), x[rows.cpu()])


def test_rows_held_out_of_a_file_are_on_the_device_or_in_a_file(
    data: tuple[Any, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = as_pair("data", data, device="cuda", may_stream=True)
    assert devices(hold_out(x, y, 0.25)) == {"cuda"}
    monkeypatch.setattr(mapped, "IN_MEMORY", 0)
    parts = hold_out(x, y, 0.25)
    assert parts[1] is not None and all(is_mapped(part[0]) and part[1].is_cuda for part in parts if part is not None)


@pytest.mark.parametrize("in_memory", [0, 2**30], ids=["all in files", "few rows in memory"])
def test_training_is_that_of_inputs_on_the_device(
    data: tuple[Any, Tensor], in_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same losses, where rows are held out of the file, and the same predictions of rows in it."""
    monkeypatch.setattr(mapped, "IN_MEMORY", in_memory)
    prior = SpikeSlab(Gaussian(), inclusion=0.3)
    model = perceptron(Rows("cpu"), 1, likelihood=GaussianNoise(), prior=prior, num_data=ROWS - HELD_OUT)
    given = (data, Rows("cpu").regressed)
    plan, options = OneShot(cycles=1, em=None), {**DEVICE, "seed": 0, "epochs": 2, "progress": False}
    net = networks.mlp(FEATURES, (6,), 1)
    fits = [fit(model, rows, **DEVICE, **FIT) for rows in given]
    chains = [fit_sghmc(model, rows, plan, engine="eager", **options) for rows in given]
    for pair in (fits, chains):
        streamed, resident = pair
        assert [r["loss"] for r in streamed.history] == [r["loss"] for r in resident.history]
        assert resident.evaluate_median(*data) == pytest.approx(streamed.evaluate_median(*given[1]))
    torch.testing.assert_close(*(chains[0].predictive(rows).mean for rows, _ in given))
    nets = [train_dense(net, rows, likelihood=GaussianNoise(), **options) for rows in given]
    for of_file, of_tensor in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(of_file, of_tensor)
    assert devices(nets, [posterior.model for posterior in (*fits, *chains)]) == {"cuda"}
