"""SVI on a CUDA device: priors, guides, engines, options, files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal

from bnn_pyro import (
    Checkpoint,
    Compute,
    GaussianNoise,
    HeteroscedasticNoise,
    Schedule,
    SparseELBO,
    SpikeSlab,
    fit,
    load_posterior,
    prune,
    save_posterior,
)
from bnn_pyro.data.augmentation import Augmentation
from bnn_pyro.inference import CompiledELBO
from bnn_pyro.priors import half_cauchy, spike_slab_group_horseshoe
from bnn_pyro.priors.gaussian import Gaussian
from bnn_pyro.priors.group_horseshoe import GroupHorseshoe
from bnn_pyro.priors.group_lasso import GroupLasso
from guides import AutoCentered, AutoProgram, AutoSpikeSlab
from tests.on_gpu.uses import ENGINES, FIT, Rows, conv_net, devices, perceptron

pytestmark = pytest.mark.gpu


class Stop(Exception):
    """A run is stopped on its way."""


def stop_after(epoch: int) -> Any:
    """Return a callback that stops a run after an epoch."""

    def callback(record: dict[str, Any], posterior: object) -> None:
        if record["epoch"] == epoch:
            raise Stop

    return callback


@pytest.mark.parametrize("engine", ["eager", "traced"])
@pytest.mark.parametrize("slab", [GroupHorseshoe(), GroupLasso(), Gaussian()], ids=lambda slab: type(slab).__name__)
def test_priors(rows: Rows, slab: Any, engine: Any) -> None:
    model = perceptron(rows, prior=SpikeSlab(slab, inclusion=0.05))
    posterior = fit(model, rows.classified, compute=Compute(engine=engine), **FIT)
    assert devices(posterior.model, posterior.guide) == {"cuda"}


def test_a_bare_slab_that_learns_its_width(rows: Rows) -> None:
    model = perceptron(rows, prior=GroupHorseshoe(learn_slab_width=True), select_inputs=False)
    fit(model, rows.classified, **{**FIT, "schedule": Schedule()})


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["centered", "disarm", "relaxed"])
def test_guides(rows: Rows, kind: str, engine: Any) -> None:
    model = perceptron(rows)
    made: dict[str, Callable[[], AutoProgram]] = {
        "centered": lambda: AutoCentered(model.prior),
        "disarm": lambda: AutoSpikeSlab(model.prior, gate_gradient="disarm"),
        "relaxed": lambda: AutoSpikeSlab(model.prior, gates="relaxed"),
    }
    fit(model, rows.classified, guide=made[kind](), compute=Compute(engine=engine), **FIT)


def test_a_guide_of_pyro(rows: Rows) -> None:
    model = perceptron(rows)
    posterior = fit(model, rows.classified, guide=AutoNormal(model.prior), **{**FIT, "schedule": Schedule()})
    assert devices(posterior.predict(rows.x, num_samples=2), prune(posterior)) == {"cuda"}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("local", [True, "exact"])
def test_local_reparameterization(rows: Rows, local: Any, engine: Any) -> None:
    elbo = SparseELBO(local_reparameterization=local)
    fit(perceptron(rows), rows.classified, elbo=elbo, compute=Compute(engine=engine), **FIT)


@pytest.mark.parametrize("likelihood", [GaussianNoise(), HeteroscedasticNoise()], ids=lambda one: type(one).__name__)
def test_real_targets(rows: Rows, likelihood: Any) -> None:
    outputs = 2 if isinstance(likelihood, HeteroscedasticNoise) else 1
    posterior = fit(perceptron(rows, outputs, likelihood=likelihood), rows.regressed, **FIT)
    posterior.evaluate(*rows.regressed, num_samples=3)


@pytest.mark.parametrize("engine", ENGINES)
def test_images_in_bf16_with_channels_last_and_augmentation(rows: Rows, engine: Any) -> None:
    compute = Compute(engine=engine, precision="bf16", channels_last=True)
    posterior = fit(conv_net(rows), rows.seen, augmentation=Augmentation(padding=1), compute=compute, **FIT)
    assert devices(posterior.model) == {"cuda"}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_batch_in_parts(rows: Rows, engine: Any) -> None:
    fit(perceptron(rows), rows.classified, compute=Compute(engine=engine, accumulate=2), **FIT)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, pyro.optim.ClippedAdam({"lr": 0.01})], ids=["torch", "pyro"])
def test_optimizers(rows: Rows, optimizer: Any) -> None:
    clip_norm = 1.0 if optimizer is torch.optim.Adam else None
    fit(perceptron(rows), rows.classified, optimizer=optimizer, clip_norm=clip_norm, **FIT)


def test_bounds_of_pyro(rows: Rows) -> None:
    fit(perceptron(rows), rows.classified, elbo=TraceMeanField_ELBO(), **FIT)


def test_validation_patience_and_temperature(rows: Rows) -> None:
    schedule = Schedule(hold=1, freeze=1, patience=2, temperature=(1.0, 0.1))
    fit(perceptron(rows, num_data=36), rows.classified, validation=0.25, **{**FIT, "schedule": schedule})
    held_out = (rows.x.cpu(), rows.classes.cpu())
    fit(perceptron(rows), rows.classified, validation=held_out, **FIT)


def test_the_same_seed_gives_the_same_posterior(rows: Rows) -> None:
    one, other = (fit(perceptron(rows), rows.classified, **FIT) for _ in range(2))
    pairs = zip(one.guide.state_dict().values(), other.guide.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("shrink_below", [None, 0.45])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_is_resumed(rows: Rows, tmp_path: Path, engine: Any, shrink_below: float | None) -> None:
    schedule = Schedule(hold=1, freeze=1, shrink_below=shrink_below)
    options = {**FIT, "epochs": 9, "schedule": schedule, "compute": Compute(engine=engine)}
    whole = fit(perceptron(rows), rows.classified, **options)
    saving = Checkpoint(tmp_path / "run.pt")
    with pytest.raises(Stop):
        fit(perceptron(rows), rows.classified, checkpoint=saving, callback=stop_after(5), **options)
    again = fit(perceptron(rows), rows.classified, checkpoint=saving, **options)
    pairs = zip(whole.guide.state_dict().values(), again.guide.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_run_changes_the_device(rows: Rows, tmp_path: Path) -> None:
    host = Rows("cpu")
    for first, second, name in ((rows, host, "down.pt"), (host, rows, "up.pt")):
        with pytest.raises(Stop):
            fit(perceptron(first), first.classified, checkpoint=tmp_path / name, callback=stop_after(2), **FIT)
        posterior = fit(perceptron(second), second.classified, checkpoint=tmp_path / name, **FIT)
        assert devices(posterior.guide) == {second.device.type}


def test_model_and_data_on_two_devices(rows: Rows) -> None:
    host = Rows("cpu")
    assert devices(fit(perceptron(host), rows.classified, **FIT).model) == {"cuda"}
    assert devices(fit(perceptron(rows), host.classified, **FIT).model) == {"cpu"}


def test_what_a_posterior_does(rows: Rows, tmp_path: Path) -> None:
    posterior = fit(perceptron(rows), rows.classified, **FIT)
    assert devices(posterior.predict(rows.x.cpu(), num_samples=3), posterior.median_model()) == {"cuda"}
    posterior.evaluate(rows.x.cpu(), rows.classes.cpu(), num_samples=3)
    keep = {name: torch.arange(len(mask), device=mask.device) % 2 == 0 for name, mask in posterior.keep().items()}
    for masks in (keep, {name: mask.cpu() for name, mask in keep.items()}):
        small, shrunk = prune(posterior, keep=masks), posterior.shrink(keep=masks)
        assert devices(small, shrunk.model, shrunk.guide) == {"cuda"}
        torch.testing.assert_close(small(rows.x), posterior.median_model(keep=masks)(rows.x))
    fit(shrunk.model, rows.classified, guide=shrunk.guide, **FIT)
    save_posterior(posterior, tmp_path / "posterior.pt")
    for place in (rows, Rows("cpu")):
        loaded = load_posterior(tmp_path / "posterior.pt", perceptron(place))
        assert devices(loaded.predict(place.x, num_samples=2), loaded.model) == {place.device.type}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("elbo", [TraceMeanField_ELBO, Trace_ELBO], ids=lambda elbo: str(elbo.__name__))
def test_a_custom_model(rows: Rows, elbo: Any, engine: Any) -> None:
    def model(x: torch.Tensor, y: torch.Tensor | None = None) -> Any:
        scale = half_cauchy("scale", x.new_ones(()))
        w = spike_slab_group_horseshoe("w", (x.shape[1],), global_scale=scale, inclusion=0.3)
        noise = pyro.sample("noise", pyro.distributions.HalfCauchy(x.new_ones(())))
        with pyro.plate("data", len(x)):
            return pyro.sample("y", pyro.distributions.Normal(x @ w, noise), obs=y)

    guide = AutoSpikeSlab(model, *rows.regressed)
    assert devices(guide) == {"cuda"}
    optimizer = pyro.optim.ClippedAdam({"lr": 0.05})
    svi = SVI(model, guide, optimizer, loss=CompiledELBO(elbo(), engine=engine))
    losses = [svi.step(*rows.regressed) for _ in range(3)]
    assert all(loss == loss for loss in losses)
