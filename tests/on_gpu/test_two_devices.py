"""Data on a device that is not the current one: the run stays there, and leaves both devices' generators alone."""

from typing import Any

import pyro
import pytest
import torch
from torch import Tensor

from bnn_pyro import GaussianNoise, SamplingPlan, fit, sample
from bnn_pyro.devices import device_count
from bnn_pyro.priors import spike_slab_gaussian
from tests.on_gpu.uses import FIT, Rows, devices, perceptron

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(device_count("cuda") < 2, reason="needs two CUDA devices")]
PLAN = SamplingPlan(kernel="chees", chains=2, warmup=4, draws=4, max_tree_depth=2)


@pytest.fixture
def rows() -> Rows:
    torch.cuda.set_device(0)
    return Rows("cuda:1")


def generators() -> list[Tensor]:
    """Return the states of both devices' generators."""
    return [torch.cuda.get_rng_state(number) for number in range(2)]


def model(x: Tensor, y: Tensor | None = None, *, noise: float = 0.0) -> Any:
    """A linear regression; with noise its mean is drawn besides."""
    w = spike_slab_gaussian("w", (x.shape[1],), inclusion=0.3, like=x)
    mean = x @ w + noise * torch.randn(len(x), device=x.device) if noise else x @ w
    with pyro.plate("data", len(x)):
        return pyro.sample("y", pyro.distributions.Normal(mean, x.new_ones(())), obs=y)


@pytest.mark.parametrize("kernel", ["fit", "chees"])
def test_a_seed_leaves_both_devices_as_they_were(rows: Rows, kernel: str) -> None:
    before = generators()
    if kernel == "fit":
        found = fit(perceptron(rows), rows.classified, **FIT).model
    else:
        network = perceptron(rows, 1, likelihood=GaussianNoise(), select_inputs=False)
        found = sample(network, rows.regressed, PLAN, seed=0, progress=False, engine="eager").model
    assert all(map(torch.equal, before, generators()))
    assert devices(found) == {"cuda"} and next(found.parameters()).device == rows.x.device
    assert torch.cuda.current_device() == 0


def test_draws_beside_the_sites_are_refused(rows: Rows) -> None:
    before = generators()
    with pytest.raises(ValueError, match="model must not draw anything but its sites"):
        sample(lambda x, y: model(x, y, noise=0.1), rows.regressed, PLAN, seed=0, progress=False, engine="eager")
    assert all(map(torch.equal, before, generators()))


def test_a_model_without_a_network_is_sampled_there(rows: Rows) -> None:
    before = generators()
    draws = sample(model, rows.regressed, PLAN, seed=0, progress=False, engine="eager")
    assert {value.device for value in draws.values.values()} == {rows.x.device}
    assert all(map(torch.equal, before, generators()))
