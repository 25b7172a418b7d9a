"""The main job end to end on very few epochs, and back from its folder."""

import dataclasses
import json
import logging
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch

from bnn_pyro.data import Dataset, Split, load
from bnn_pyro.inference.mcmc import starts
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.svi.schedule import Schedule
from bnn_pyro.inference.training.ensemble import train_ensemble
from bnn_pyro.likelihoods import GaussianNoise, MeanDependentNoise, RowWeights
from bnn_pyro.posterior.ensemble import Ensemble
from bnn_pyro.posterior.prune import prune
from bnn_pyro.recipes import Recipe, load_dense, load_pruned, load_refined, load_run, recipe, run, runs, train_run
from bnn_pyro.recipes.dense_training import DenseTraining
from bnn_pyro.recipes.input_trial import InputTrial
from bnn_pyro.recipes.noise_trial import NoiseTrial
from bnn_pyro.recipes.trials import Trials
from bnn_pyro.refinement import Refinement

QUICK = Recipe(
    prior="ss-ig",
    hidden=(8,),
    inclusion=0.1,
    dense=DenseTraining(epochs=2),
    epochs=2,
    schedule=Schedule(hold=0, freeze=0),
    kl_weight=0.5,
    batch_size=64,
)


def table(task: str, rows: int = 120) -> Dataset:
    """Return a table whose first input alone tells the target."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(rows, 3, generator=generator)
    y = (x[:, 0] > 0).long() if task == "classification" else x[:, 0].sin()
    train, test = Split(x[:-40], y[:-40]), Split(x[-40:], y[-40:])
    if task == "classification":
        return Dataset("made.csv", "classification", train, None, test, 2)
    return Dataset("made.csv", "regression", train, None, test, None, y_mean=1.0, y_std=3.0)


def test_the_job_on_digits_leaves_the_world_alone_and_can_be_repeated() -> None:
    dataset, state = load("digits"), torch.get_rng_state()
    first, second = (run(dataset, QUICK, seed=1) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(pyro.get_param_store()) == 0
    assert dataset.train.x.shape == (len(dataset.train), 1, 8, 8)
    scores = [key for key in first if "test_" in key]
    assert len(scores) == 16
    assert [first[key] for key in scores] == [second[key] for key in scores]
    assert run(dataset, QUICK, seed=2)["test_nll"] != first["test_nll"]
    assert first["seconds"] > 0
    assert first["nodes_kept"]["hidden1"][1] == 8


def flattened(config: dict[str, Any]) -> dict[str, Any]:
    """Return a run's settings as they were written at first, when none was inside another."""
    rest = {name: value for name, value in config.items() if name not in ("dense", "schedule", "rates")}
    schedule = {name: v for name, v in config["schedule"].items() if name not in ("temperature", "patience")}
    dense = {f"pretrain_{name}": value for name, value in config["dense"].items()}
    return {**rest, **schedule, **dense, "learning_rates": config["rates"]}


def test_a_run_can_be_loaded_from_its_folder(tmp_path: Path) -> None:
    dataset = load("digits")
    settings = dataclasses.replace(QUICK, net="residual-mlp", hidden=(8, 6), select_inputs=True)
    metrics = run(dataset, settings, seed=4, out=tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config.items() >= {"data": "digits", "net": "residual-mlp", "prior": "ss-ig", "seed": 4, "epochs": 2}.items()
    state = torch.get_rng_state()
    posterior = load_run(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), state)
    scores = posterior.evaluate_median(dataset.test.x.flatten(1), dataset.test.y)
    assert {f"test_{name}": value for name, value in scores.items()}.items() <= metrics.items()
    assert posterior.kl_weight == 0.5
    assert len(posterior.history) == 2
    pruned = load_pruned(tmp_path / "run")(dataset.test.x.flatten(1))
    assert config.pop("normalize") is False  # which runs from before there was this setting do not have
    assert config.pop("augmentation") is None
    flat = flattened(config)
    assert {"hold", "pretrain_epochs", "learning_rates"} < flat.keys() and "schedule" not in flat
    for older in (config, flat):
        (tmp_path / "run" / "config.json").write_text(json.dumps(older))
        assert load_run(tmp_path / "run").evaluate_median(dataset.test.x.flatten(1), dataset.test.y) == scores
        assert torch.equal(load_pruned(tmp_path / "run")(dataset.test.x.flatten(1)), pruned)


def test_the_job_on_images_as_they_are(tmp_path: Path) -> None:
    x, y = torch.rand(60, 1, 16, 16), torch.arange(60) % 2
    x[y == 1] += 0.5
    train, test = Split(x[:40], y[:40]), Split(x[40:], y[40:])
    dataset = Dataset("made.npz", "classification", train, None, test, 2)
    settings = dataclasses.replace(QUICK, net="lenet", hidden=(2, 3, 4))
    metrics = run(dataset, settings, out=tmp_path / "run")
    assert {name: total for name, (_, total) in metrics["nodes_kept"].items()} == {"conv1": 2, "conv2": 3, "hidden1": 4}
    assert metrics["pruned_max_abs_diff"] <= 1e-5
    scores = load_run(tmp_path / "run").evaluate_median(test.x, test.y)
    assert scores["nll"] == metrics["test_nll"]
    program = torch.export.load(tmp_path / "run" / "pruned.pt2").module()
    assert torch.allclose(program(test.x), load_pruned(tmp_path / "run")(test.x), atol=1e-5)


def test_images_are_normalised_by_the_net_itself(tmp_path: Path) -> None:
    """The run, its exported program and the nets that are loaded from it all take the images as they come."""
    x, y = torch.rand(60, 3, 16, 16), torch.arange(60) % 2
    x = 0.2 + 0.01 * x + 0.03 * y.reshape(-1, 1, 1, 1)
    train, test = Split(x[:40], y[:40]), Split(x[40:], y[40:])
    dataset = Dataset("made.npz", "classification", train, None, test, 2)
    settings = dataclasses.replace(QUICK, net="lenet", hidden=(2, 3, 4), normalize=True)
    metrics = run(dataset, settings, out=tmp_path / "run")
    assert set(metrics["nodes_kept"]) == {"network.conv1", "network.conv2", "network.hidden1"}
    posterior, small = load_run(tmp_path / "run"), load_pruned(tmp_path / "run")
    assert posterior.evaluate_median(test.x, test.y)["nll"] == metrics["test_nll"]
    mean, std = small.get_buffer("normalize.mean"), small.get_buffer("normalize.std")
    assert torch.allclose(mean.flatten(), train.x.mean((0, 2, 3)))
    assert torch.allclose(std.flatten(), train.x.std((0, 2, 3), correction=0))
    assert torch.allclose(small(test.x), prune(posterior)(test.x), atol=1e-5)
    program = torch.export.load(tmp_path / "run" / "pruned.pt2").module()
    assert torch.allclose(program(test.x), small(test.x), atol=1e-5)


def test_an_output_folder_with_a_run_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{}")
    broken = dataclasses.replace(table("regression"), train=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="out must not hold a run already"):
        run(broken, QUICK, out=tmp_path)


def test_regression_is_learnt_and_pruned() -> None:
    settings = dataclasses.replace(
        QUICK, dense=DenseTraining(epochs=40), epochs=40, kl_weight=1.0, prior="ss-gl", select_inputs=True
    )
    metrics = run(table("regression"), settings)
    assert metrics["test_rmse"] < 0.6 * 3.0  # the standard deviation is about .65, the scale 3
    assert metrics["test_rmse"] == pytest.approx(metrics["pruned_test_rmse"], rel=1e-4)
    assert set(metrics["nodes_kept"]) == {"inputs", "hidden1"}
    assert not metrics["tempered"]


def test_a_prior_without_gates_is_a_baseline() -> None:
    settings = dataclasses.replace(QUICK, prior="ghs", inclusion=None)
    metrics = run(table("classification"), settings)
    assert metrics["params_kept"] == 1
    assert metrics["nodes_kept"] == {}
    assert metrics["pruned_max_abs_diff"] == 0


def test_a_run_is_trained_without_test_rows_and_is_that_which_is_measured() -> None:
    dataset, state = table("regression"), torch.get_rng_state()
    nothing = Split(dataset.test.x[:0], dataset.test.y[:0])
    finished = train_run(dataclasses.replace(dataset, test=nothing), QUICK, seed=3, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert finished.refined is None and finished.not_refined == ""
    scores = finished.posterior.evaluate_median(dataset.test.x, dataset.test.y, y_std=dataset.y_std)
    assert run(dataset, QUICK, seed=3, progress=False)["test_nll"] == scores["nll"]
    with pytest.raises(ValueError, match="device must be cpu or cuda, got 'abacus'"):
        train_run(dataset, QUICK, device="abacus")


def test_validation_rows_are_watched() -> None:
    dataset = table("classification")
    watched = dataclasses.replace(dataset, validation=dataset.test)
    assert "test_accuracy" in run(watched, QUICK)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device, message in (
        ("cuda", "device must be cpu where"),
        ("abacus", "device must be cpu or cuda, got 'abacus'"),
        ("cuda:7", "device must be cpu where torch finds no CUDA device, got 'cuda:7'"),
    ):
        with pytest.raises(ValueError, match=message):
            run(table("regression"), QUICK, device=device)


@pytest.mark.parametrize(
    "spoil", [lambda config: None, lambda config: config.write_text("{}"), lambda config: config.write_text("{")]
)
def test_a_folder_without_a_run_is_not_loaded(spoil: Callable[[Path], object], tmp_path: Path) -> None:
    spoil(tmp_path / "config.json")
    for loaded in (load_run, load_pruned):
        with pytest.raises(ValueError, match="folder must hold the config.json of a run"):
            loaded(tmp_path)


def test_sampling_is_done_measured_written_and_loaded(tmp_path: Path) -> None:
    dataset = table("classification")
    settings = dataclasses.replace(recipe("made.csv", rows=80, method="sghmc"), hidden=(6,), select_inputs=True)
    metrics = run(dataset, settings.with_epochs(300), seed=1, out=tmp_path / "run")
    assert metrics["temperature"] == "cooled" and metrics["tempered"] and metrics["kl_weight"] == 1
    assert metrics["test_accuracy"] == metrics["pruned_test_accuracy"] > 0.8
    assert metrics["pruned_max_abs_diff"] < 1e-4
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["method"] == "sghmc" and config["one_shot"]["cycles"] == 1
    assert "draws of a cooled sampler" in (tmp_path / "run" / "report.md").read_text()
    again = load_run(tmp_path / "run")
    assert isinstance(again, Ensemble) and len(again.snapshots) == 10
    assert again.evaluate_median(dataset.test.x, dataset.test.y)["accuracy"] == pytest.approx(metrics["test_accuracy"])
    pruned = load_pruned(tmp_path / "run")(dataset.test.x).argmax(1)
    assert float((pruned == dataset.test.y).float().mean()) == pytest.approx(metrics["test_accuracy"])


def test_the_dense_net_is_loaded_too(tmp_path: Path) -> None:
    dataset = table("classification")
    metrics = run(dataset, QUICK, seed=1, out=tmp_path / "run")
    right = load_dense(tmp_path / "run")(dataset.test.x).argmax(1) == dataset.test.y
    assert float(right.float().mean()) == pytest.approx(metrics["dense_test_accuracy"])


# ---- refined ---------------------------------------------------------------------------------------------------------
SHORT = Refinement(plan=SamplingPlan(kernel="mclmc", chains=3, warmup=40, draws=6, thinning=2), until=None)


@pytest.fixture
def short_ensembles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "train_ensemble", partial(train_ensemble, steps=200))


@pytest.mark.parametrize("method", ["svi", "sghmc", "no gates"])
@pytest.mark.usefixtures("short_ensembles")
def test_posteriors_of_all_kinds_are_refined_on_training_rows_alone(method: str, tmp_path: Path) -> None:
    dataset = table("classification", rows=160)
    rows = dataset.train
    train, held_out = Split(rows.x[:80], rows.y[:80]), Split(rows.x[80:], rows.y[80:])
    watched = dataclasses.replace(dataset, train=train, validation=held_out)
    settings = dataclasses.replace(QUICK, refinement=SHORT)
    if method == "no gates":
        settings = dataclasses.replace(settings, prior="gl", inclusion=None)
    if method == "sghmc":
        own = recipe("made.csv", rows=80, method="sghmc").with_epochs(20)
        settings = dataclasses.replace(own, hidden=(6,), refinement=SHORT)
    metrics = run(watched, settings, seed=1, out=tmp_path / "run", progress=False)
    assert metrics["refined_draws"] == 18 and "refined_minus_posterior_nll" in metrics
    found = load_refined(tmp_path / "run")
    assert found.model.num_data == 80
    scores = found.evaluate(dataset.test.x, dataset.test.y)
    assert metrics["refined_test_nll"] == pytest.approx(scores["nll"], rel=1e-5)
    assert "## Refined network" in (tmp_path / "run" / "report.md").read_text()


@pytest.mark.usefixtures("short_ensembles")
def test_what_is_not_worth_it_is_refined_only_if_asked_to() -> None:
    dataset = table("classification", rows=6_000)  # 8 nodes of 3 inputs: 50 parameters, .0084 per row
    optional = dataclasses.replace(QUICK, refinement=SHORT, refine_if_worth=True)
    metrics = run(dataset, optional, progress=False)
    assert "less than 0.01: their uncertainty is small beside the noise" in metrics["not_refined"]
    assert "refined_draws" not in metrics
    metrics = run(dataset, dataclasses.replace(optional, refine_if_worth=False), progress=False)
    assert metrics["refined_draws"] == 18 and "not_refined" not in metrics
    few = run(table("classification"), optional, progress=False)
    assert few["refined_draws"] == 18


@pytest.mark.usefixtures("short_ensembles")
def test_the_whole_network_is_sampled_beside_it(tmp_path: Path) -> None:
    settings = dataclasses.replace(QUICK, refinement=SHORT, reference=True)
    metrics = run(table("regression"), settings, seed=1, out=tmp_path / "run", progress=False)
    assert metrics["reference_draws"] == 18 and "refined_minus_reference_nll" in metrics
    assert "whole network, sampled, 18 draws" in (tmp_path / "run" / "report.md").read_text()
    with pytest.raises(ValueError, match="reference needs a refinement, got None"):
        dataclasses.replace(QUICK, reference=True)


def test_a_network_that_cannot_be_sampled_costs_no_posterior(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise ValueError("the loss of every member must stay finite")

    monkeypatch.setattr(starts, "train_ensemble", fail)
    metrics = run(table("regression"), dataclasses.replace(QUICK, refinement=SHORT), out=tmp_path / "run")
    assert metrics["not_refined"] == "the loss of every member must stay finite"
    assert "the pruned network is not refined: the loss of every member" in caplog.text
    assert load_run(tmp_path / "run").kl_weight == 0.5


def test_a_run_of_which_nothing_is_left_is_not_refined_with_a_warning(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    sparse = dataclasses.replace(QUICK, inclusion=1e-12, init_inclusion=0.01, refinement=SHORT)
    with caplog.at_level(logging.WARNING):
        metrics = run(table("regression"), sparse, out=tmp_path / "run", progress=False)
    assert metrics["nodes_kept"] == {"hidden1": [0, 8]}
    assert "must keep a node of every group to be sampled, got none of 'hidden1'" in metrics["not_refined"]
    assert f"the pruned network is not refined: {metrics['not_refined']}" in caplog.text
    assert not (tmp_path / "run" / "refined.pt").exists()
    assert f"was not refined: {metrics['not_refined']}" in (tmp_path / "run" / "report.md").read_text()
    optional = run(table("regression"), dataclasses.replace(sparse, refine_if_worth=True), progress=False)
    assert optional["not_refined"] == "no node of 'hidden1' is left"


def test_where_nothing_is_left_it_is_fitted_again_at_lower_kl_weights(caplog: pytest.LogCaptureFixture) -> None:
    """At a tenth each time, as long as that is not below the least one."""
    sparse = dataclasses.replace(QUICK, inclusion=1e-12, init_inclusion=0.01, kl_weight=0.5, least_kl_weight=0.005)
    finished = train_run(table("regression"), sparse, progress=False)
    assert finished.posterior.kl_weight == pytest.approx(0.005)
    again = [record.getMessage() for record in caplog.records if "fitted again" in record.getMessage()]
    assert again == [f"fitted again at KL weight {w}, as no node of 'hidden1' was left" for w in ("0.05", "0.005")]
    full = train_run(table("regression"), dataclasses.replace(QUICK, least_kl_weight=0.01), progress=False)
    assert full.posterior.kl_weight == 0.5


@pytest.mark.parametrize("gain", [0.1, -0.1])
def test_held_out_rows_decide_on_inputs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gain: float) -> None:
    trial = InputTrial(gain, 0.05, 24, (0.25, 0.75, 0.875))
    monkeypatch.setattr(runs, "hold_trials", lambda *_, **__: Trials(inputs=trial))
    asked = dataclasses.replace(QUICK, select_inputs="auto")
    metrics = run(table("regression"), asked, seed=1, out=tmp_path / "run", progress=False)
    assert set(metrics["nodes_kept"]) == {"hidden1"} and metrics["input_trial"] == trial.record()
    page = (tmp_path / "run" / "report.md").read_text()
    gained, read = ("gain 0.100", "these inputs alone") if gain > 0 else ("lose 0.100", "all inputs")
    assert f"held-out rows {gained} (standard error 0.050) in CRPS, in standard deviations" in page
    assert f"; so the network reads {read}." in page
    loaded, same = load_run(tmp_path / "run"), dataclasses.replace(QUICK, reads=(1, 2) if gain > 0 else None)
    selection = loaded.model.selection  # as its folder knows what was decided
    assert (selection is None) if gain < 0 else (selection is not None and selection.tolist() == [1, 2])
    assert run(table("regression"), same, seed=1, progress=False)["test_nll"] == metrics["test_nll"]
    x = table("regression").test.x.clone()
    expected, median = load_pruned(tmp_path / "run")(x), loaded.median_model()(x)
    assert torch.allclose(expected, median, atol=1e-6)
    x[:, 0] += 7.0
    assert torch.equal(load_pruned(tmp_path / "run")(x), expected) is (gain > 0)


def test_a_run_whose_rows_have_weights_is_loaded(tmp_path: Path) -> None:
    whole = table("regression")
    weighted = dataclasses.replace(whole.train, weight=torch.arange(1.0, len(whole.train) + 1) / 50)
    settings = dataclasses.replace(QUICK, refinement=SHORT)
    metrics = run(dataclasses.replace(whole, train=weighted), settings, seed=1, out=tmp_path / "run", progress=False)
    for loaded, part in ((load_run(tmp_path / "run"), "posterior"), (load_refined(tmp_path / "run"), "refined")):
        assert loaded.model.likelihood == RowWeights(GaussianNoise())
        assert loaded.evaluate(*settings.tensors(whole.test))["nll"] == pytest.approx(
            metrics[f"{part}_test_nll"] - math.log(whole.y_std), rel=0.05
        )


@pytest.mark.parametrize("gain", [0.2, 0.01])
def test_held_out_rows_decide_on_the_noise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gain: float) -> None:
    trial = NoiseTrial(gain, 0.05, 24)
    monkeypatch.setattr(runs, "hold_trials", lambda *_, **__: Trials(noise=trial))
    asked = dataclasses.replace(QUICK, noise="auto", refinement=SHORT)
    metrics = run(table("regression"), asked, seed=1, out=tmp_path / "run", progress=False)
    assert metrics["noise_trial"] == trial.record()
    page = (tmp_path / "run" / "report.md").read_text()
    assert f"24 held-out rows gain {gain:.3f} (standard error 0.050) in log score; so " in page
    assert load_run(tmp_path / "run").model.likelihood == GaussianNoise()
    refined = load_refined(tmp_path / "run")  # as its folder knows what was decided
    assert refined.model.likelihood == (MeanDependentNoise() if gain > 0.05 else GaussianNoise())
    found = refined.evaluate(*QUICK.tensors(table("regression").test), y_std=3.0)
    assert found["nll"] == pytest.approx(metrics["refined_test_nll"], rel=1e-4)


@pytest.mark.gpu
def test_one_shot_pruning_on_a_gpu() -> None:
    """Its network is a new one, and no copy of the dense one, which is on the device already."""
    one_shot = dataclasses.replace(recipe("digits", method="sghmc").with_epochs(2), hidden=(8,))
    assert run(load("digits"), one_shot, device="cuda", progress=False)["test_accuracy"] > 0


@pytest.mark.gpu
def test_the_job_on_a_gpu(tmp_path: Path) -> None:
    metrics = run(load("digits"), dataclasses.replace(QUICK, select_inputs=True), device="cuda", out=tmp_path / "run")
    assert metrics["pruned_max_abs_diff"] < 1e-4
    assert torch.export.load(tmp_path / "run" / "pruned.pt2").module()(torch.zeros(3, 64)).shape == (3, 10)
