"""Sampling on a CUDA device: Markov chains, snapshots of SGHMC, and dense training."""

from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from torch import Tensor

from bnn_pyro import (
    Categorical,
    GaussianNoise,
    GroupEM,
    OneShot,
    Sampler,
    SamplingPlan,
    SpikeSlab,
    fit,
    fit_sghmc,
    load_posterior,
    networks,
    prune,
    sample,
    save_posterior,
    train_dense,
)
from bnn_pyro.posterior.draws import Draws
from bnn_pyro.priors import half_cauchy, spike_slab_group_horseshoe
from bnn_pyro.priors.gaussian import Gaussian
from bnn_pyro.pruning.batch_norm import recompute_batch_norm
from tests.on_gpu.uses import CLASSES, ENGINES, FEATURES, FIT, Rows, SmallConvNet, conv_net, devices, perceptron

pytestmark = pytest.mark.gpu
HMC: dict[str, Any] = {"chains": 2, "warmup": 6, "draws": 6, "max_tree_depth": 2}
SEED: dict[str, Any] = {"seed": 0, "progress": False}


def real_valued(rows: Rows, *, select_inputs: bool = False, device: str | None = None) -> Any:
    """Return a regression network whose posterior is sampled."""
    prior = SpikeSlab(Gaussian(), inclusion=0.3)
    return perceptron(rows, 1, likelihood=GaussianNoise(), prior=prior, select_inputs=select_inputs, device=device)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kernel", ["nuts", "hmc", "chees", "mclmc", "mams"])
def test_kernels(rows: Rows, tmp_path: Path, kernel: Any, engine: Any) -> None:
    length: dict[str, Any] = {"trajectory_length": 0.1} if kernel == "hmc" else {}
    plan = SamplingPlan(kernel=kernel, **HMC, **length)
    sampled = sample(real_valued(rows), rows.regressed, plan, engine=engine, **SEED)
    assert devices(sampled.predict(rows.x, num_samples=2), sampled.median_model(), prune(sampled)) == {"cuda"}
    if engine == "traced":
        return
    sampled.evaluate(rows.x.cpu(), rows.reals.cpu())
    save_posterior(sampled, tmp_path / "sampled.pt")
    for place in (rows, Rows("cpu")):
        loaded = load_posterior(tmp_path / "sampled.pt", real_valued(place))
        assert devices(loaded.predict(place.x, num_samples=2)) == {place.device.type}


def test_full_mass_matrices(rows: Rows) -> None:
    plan = SamplingPlan(kernel="nuts", dense_mass=True, **HMC)
    sample(perceptron(rows, select_inputs=False), rows.classified, plan, engine="eager", **SEED)


@pytest.mark.slow
def test_exact_spikes(rows: Rows) -> None:
    model = real_valued(rows, select_inputs=True)
    plan = SamplingPlan(kernel="chees", gates="exact", **HMC)
    sampled = sample(model, rows.regressed, plan, **SEED)
    assert devices(sampled.inclusion(), sampled.keep()) == {"cuda"}
    sample(model, rows.regressed, plan, pseudo_prior=fit(model, rows.regressed, **FIT), **SEED)


@pytest.mark.parametrize("kernel", ["nuts", "chees"])
def test_starts_and_a_model_on_the_host(rows: Rows, kernel: Any) -> None:
    plan = SamplingPlan(kernel=kernel, **HMC)
    options: dict[str, Any] = {**SEED, "engine": "eager"}
    sampled = sample(real_valued(rows, device="cpu"), rows.regressed, plan, **options)
    start = sampled.draws.vectors[:, -1]
    for given in (start, start.cpu()):
        sample(real_valued(rows), rows.regressed, plan, start=given, **options)


@pytest.mark.slow
def test_chains_that_start_at_dense_networks(rows: Rows) -> None:
    plan = SamplingPlan(kernel="chees", **HMC)
    sample(real_valued(rows), rows.regressed, plan, start="ensemble", engine="eager", **SEED)


@pytest.mark.parametrize("kernel", ["nuts", "chees"])
def test_a_custom_model(rows: Rows, kernel: Any) -> None:
    def model(x: Tensor, y: Tensor | None = None) -> Any:
        scale = half_cauchy("scale", x.new_ones(()))
        w = spike_slab_group_horseshoe("w", (x.shape[1],), global_scale=scale, inclusion=0.3)
        with pyro.plate("data", len(x)):
            return pyro.sample("y", pyro.distributions.Normal(x @ w, x.new_ones(())), obs=y)

    draws = sample(model, rows.regressed, SamplingPlan(kernel=kernel, **HMC), engine="eager", **SEED)
    assert isinstance(draws, Draws)
    assert str(draws) and draws.summary()


@pytest.mark.parametrize("engine", ENGINES)
def test_sghmc(rows: Rows, tmp_path: Path, engine: Any) -> None:
    model = real_valued(rows, select_inputs=True)
    plan = OneShot(cycles=2, samples_per_cycle=2, em=GroupEM(spike=0.05, hard=0.02, warmup=2))
    ensemble = fit_sghmc(model, rows.regressed, plan, epochs=6, batch_size=20, engine=engine, **SEED)
    assert devices(ensemble.predict(rows.x), prune(ensemble), ensemble.median_model()) == {"cuda"}
    ensemble.evaluate(*rows.regressed)
    save_posterior(ensemble, tmp_path / "ensemble.pt")
    for place in (rows, Rows("cpu")):
        loaded = load_posterior(tmp_path / "ensemble.pt", real_valued(place, select_inputs=True))
        assert devices(loaded.predict(place.x), loaded.keep(), prune(loaded)) == {place.device.type}


def test_sghmc_of_images(rows: Rows) -> None:
    model = conv_net(rows)
    plan = OneShot(cycles=1, sampler=Sampler(temperature=1.0), em=GroupEM(spike=0.05, hard=1e-4, warmup=1))
    prior = SpikeSlab(Gaussian(0.3), inclusion=0.3)
    model = type(model)(
        SmallConvNet().to(rows.device), rows.images[:2], prior=prior, likelihood=Categorical(), num_data=36
    )
    fit_sghmc(model, rows.seen, plan, epochs=3, batch_size=12, validation=0.25, **SEED)


def test_dense_training(rows: Rows) -> None:
    with torch.device("cpu"):
        net = networks.mlp(FEATURES, (6, 4), CLASSES)
        images = SmallConvNet()
    options: dict[str, Any] = {"likelihood": Categorical(), "epochs": 2, "batch_size": 20, **SEED}
    assert devices(train_dense(net, rows.classified, **options)) == {"cuda"}
    trained = train_dense(images, rows.seen, **options)
    assert devices(recompute_batch_norm(trained, rows.images)) == {"cuda"}
