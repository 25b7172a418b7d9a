"""A run is moved to a device by name; what the user handed in stays where it is."""

from typing import Any

import pyro
import pytest
import torch
from torch import Tensor

from bnn_pyro import GaussianNoise, OneShot, SamplingPlan, SpikeSlab, fit, fit_sghmc, networks, sample, train_dense
from bnn_pyro.posterior.draws import Draws
from bnn_pyro.priors import spike_slab_gaussian
from bnn_pyro.priors.gaussian import Gaussian
from tests.on_gpu.uses import FEATURES, FIT, Rows, devices, perceptron

pytestmark = pytest.mark.gpu
PLAN = SamplingPlan(kernel="chees", chains=2, warmup=4, draws=4, max_tree_depth=2)
SEED: dict[str, Any] = {"seed": 0, "progress": False, "device": "cuda"}


def test_training_and_sampling() -> None:
    host = Rows("cpu")
    prior = SpikeSlab(Gaussian(), inclusion=0.3)
    model = perceptron(host, 1, likelihood=GaussianNoise(), prior=prior)
    found = [
        fit(model, host.regressed, device="cuda", validation=host.regressed, **FIT).model,
        sample(model, host.regressed, PLAN, engine="eager", **SEED).model,
        fit_sghmc(model, host.regressed, OneShot(cycles=1, em=None), epochs=2, engine="eager", **SEED).model,
        train_dense(networks.mlp(FEATURES, (4,), 1), host.regressed, likelihood=GaussianNoise(), epochs=1, **SEED),
    ]
    assert devices(found) == {"cuda"}
    assert devices(model, host.regressed) == {"cpu"}


def test_a_custom_model() -> None:
    def model(x: Tensor, y: Tensor | None = None) -> Any:
        w = spike_slab_gaussian("w", (x.shape[1],), inclusion=0.3, like=x)
        with pyro.plate("data", len(x)):
            return pyro.sample("y", pyro.distributions.Normal(x @ w, torch.ones_like(x[:, 0])), obs=y)

    draws = sample(model, Rows("cpu").regressed, PLAN, engine="eager", **SEED)
    assert isinstance(draws, Draws) and devices(dict(draws.values)) == {"cuda"}
