"""Recipes: settings that hold together, and the main job end to end on very few epochs."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from torch import nn

from bnn_pyro.augmentation import Augmentation
from bnn_pyro.data import DATASETS, Dataset, Split, load
from bnn_pyro.ensemble import Ensemble
from bnn_pyro.networks import ResidualMLP
from bnn_pyro.networks.named import NETS
from bnn_pyro.priors import Gaussian, GroupHorseshoe, GroupLasso, SpikeSlab
from bnn_pyro.pruning import prune
from bnn_pyro.recipes import PRIORS, Recipe, check_names, load_pruned, load_run, recipe, run

QUICK = Recipe(
    prior="ss-ig",
    hidden=(8,),
    inclusion=0.1,
    pretrain_epochs=2,
    epochs=2,
    hold=0,
    freeze=0,
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


# settings


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("data", DATASETS)
def test_every_data_set_has_a_recipe_for_every_prior_and_net(data: str, net: str, prior: str) -> None:
    images = ("digits", "mnist", "fashion-mnist", "cifar10", "cifar10-jpeg")
    task = "classification" if data in images else "regression"
    for rows in (100, 50_000):
        settings = recipe(data, prior, task, net=net, rows=rows)  # type: ignore[arg-type]
        assert (settings.prior, settings.net) == (prior, net)
        assert isinstance(settings.make_prior(), SpikeSlab) == prior.startswith("ss-") == settings.has_gates
        assert settings.has_gates or settings.hold == settings.freeze == 0
        for epochs in (1, 2, 3, 7, 1000):
            assert settings.with_epochs(epochs).epochs == epochs


@pytest.mark.parametrize("prior", ["ss-ig", "ig", None])
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("data", DATASETS)
def test_every_data_set_can_be_sampled(data: str, net: str, prior: str | None) -> None:
    settings = recipe(data, prior, net=net, method="sghmc")
    assert settings.method == "sghmc" and settings.prior == (prior or "ss-ig")
    for epochs in (1, 2, 3, 1000):
        short = settings.with_epochs(epochs)
        assert short.epochs == epochs and short.one_shot is not None and short.one_shot.cycles <= epochs


def test_sampling_needs_a_gaussian_slab() -> None:
    for prior in ("ss-gl", "ghs"):
        with pytest.raises(ValueError, match=f"prior must be ss-ig or ig, .* for method sghmc, got '{prior}'"):
            recipe("digits", prior, method="sghmc")


@pytest.mark.parametrize("data", ["mnist", "fashion-mnist"])
def test_the_images_have_the_net_of_the_literature(data: str) -> None:
    settings = recipe(data)
    net = settings.make_net((1, 28, 28), 10)
    assert sum(parameter.numel() for parameter in net.parameters()) == 478_410
    assert settings.select_inputs


@pytest.mark.parametrize("data", ["mnist", "fashion-mnist"])
def test_lenet_has_settings_of_its_own_with_every_prior(data: str) -> None:
    chosen = recipe(data, "ss-ghs", net="lenet")
    assert chosen.shrink_below is not None and chosen.hold > 0  # the gates wait until the slabs have settled
    assert chosen.frozen_kl_weight is not None and chosen.frozen_kl_weight < chosen.kl_weight
    for prior in ("ss-gl", "ss-ig"):
        other = recipe(data, prior, net="lenet")
        assert dataclasses.replace(other, prior="ss-ghs") == chosen
    dense, perceptron = recipe(data, "ghs", net="lenet"), recipe(data, "ss-ghs")
    assert dense.hold == dense.freeze == 0 and dense.sigma == chosen.sigma
    assert perceptron.init_scale != chosen.init_scale and perceptron.sigma != chosen.sigma


def test_phases_keep_their_share_of_the_epochs() -> None:
    settings = Recipe(epochs=40, hold=5, freeze=4, kl_warmup=2.5)
    long, short = settings.with_epochs(80), settings.with_epochs(2)
    assert (long.hold, long.freeze, long.kl_warmup) == (10, 8, 5.0)
    assert (short.hold, short.freeze, short.kl_warmup) == (0, 0, 0.125)


def test_small_tables_have_more_epochs_than_large_ones() -> None:
    epochs = [recipe("my.csv", rows=rows).epochs for rows in (50, 500, 5_000, 50_000)]
    assert epochs == sorted(epochs, reverse=True)


def test_regression_is_not_tempered_by_default() -> None:
    assert recipe("my.csv", task="regression").kl_weight == recipe("yacht", task="regression").kl_weight == 1
    assert recipe("my.csv", task="classification").kl_weight < 1


@pytest.mark.parametrize(("prior", "slab"), [("ss-ig", Gaussian), ("ss-gl", GroupLasso), ("ghs", GroupHorseshoe)])
def test_priors_are_made_by_name(prior: str, slab: type) -> None:
    gates: dict[str, Any] = {"inclusion": 0.2} if prior.startswith("ss-") else {}
    made = Recipe(prior=prior, sigma=0.3, **gates).make_prior()
    inner = made.slab if isinstance(made, SpikeSlab) else made
    assert isinstance(inner, slab)
    assert inner.sigma == 0.3  # type: ignore[attr-defined]
    assert not isinstance(made, SpikeSlab) or made.inclusion == 0.2


def test_nets_are_made_by_name() -> None:
    net = Recipe(net="residual-mlp", hidden=(8, 4, 4)).make_net((5,), 2)
    assert isinstance(net, ResidualMLP)
    shapes = [tuple(layer.weight.shape) for layer in net.modules() if isinstance(layer, nn.Linear)]
    assert shapes == [(8, 5), (4, 8), (8, 4), (4, 8), (8, 4), (2, 8)]


def test_a_net_that_reads_images_is_made_for_their_shape() -> None:
    settings = recipe("mnist", net="lenet")
    assert settings.reads_images and not settings.select_inputs
    assert sum(p.numel() for p in settings.make_net((1, 28, 28), 10).parameters()) == 1_071_880
    settings = Recipe(net="lenet", hidden=(2, 3))
    assert settings.make_net((3, 16, 20), 4)(torch.zeros(5, 3, 16, 20)).shape == (5, 4)
    with pytest.raises(ValueError, match=r"mlp, residual-mlp for inputs of shape \(64,\), got 'lenet', which reads"):
        settings.make_net((64,), 10)
    with pytest.raises(ValueError, match="image_size must be at least 16"):
        settings.make_net((1, 8, 8), 10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"net": "vgg"}, "net must be one of mlp, residual-mlp, lenet, .*, got 'vgg'"),
        ({"net": "lenet", "hidden": (20, 50), "select_inputs": True}, "select_inputs must be False for a lenet"),
        ({"prior": "ss-x"}, "prior must be one of ss-ig, ss-gl, ss-ghs, ig, gl, ghs, got 'ss-x'"),
        ({"hidden": ()}, "hidden must be the widths"),
        ({"hidden": (50, 0)}, "hidden must be the widths"),
        ({"net": "residual-mlp", "hidden": (50,)}, "hidden must be the width of the channels"),
        ({"inclusion": 0.0}, r"inclusion must lie in \(0, 1\), got 0.0"),
        ({"inclusion": 1.0}, r"inclusion must lie in \(0, 1\), got 1.0"),
        ({"kl_weight": 0.0}, "kl_weight must be positive and finite, got 0.0"),
        ({"kl_weight": float("nan")}, "kl_weight must be positive and finite, got nan"),
        ({"sigma": -1.0}, "sigma must be positive, got -1.0"),
        ({"epochs": 0, "hold": 0, "freeze": 0}, "epochs must be at least 1, got 0"),
        ({"epochs": 20}, r"hold \+ freeze must be below epochs"),
        ({"pretrain_epochs": 0}, "pretrain_epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"prior": "gl", "inclusion": 0.1}, "select_inputs and inclusion need a prior with gates"),
        ({"prior": "gl", "select_inputs": True}, "select_inputs and inclusion need a prior with gates"),
    ],
)
def test_bad_settings_are_refused_before_there_is_data(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**settings)


def test_images_in_colour_are_changed_while_they_are_learnt_from() -> None:
    for data in ("cifar10", "cifar10-jpeg"):
        settings = recipe(data, net="resnet20")
        assert settings.augmentation is not None and settings.fit_options()["augmentation"] is settings.augmentation
        assert recipe(data).augmentation is None and recipe(data, net="resnet20", method="sghmc").augmentation is None
        values = json.loads(json.dumps(dataclasses.asdict(settings)))
        assert Augmentation.of(values["augmentation"]) == settings.augmentation
    assert recipe("mnist", net="lenet").augmentation is None
    with pytest.raises(ValueError, match="augmentation must be None for a mlp, which reads no images as they are"):
        Recipe(augmentation=Augmentation())


def test_unknown_data_lists_the_known() -> None:
    with pytest.raises(ValueError, match="data must be one of digits, mnist, fashion-mnist, .*yacht, or a path"):
        check_names(data="cifar")
    check_names(data="some/table.CSV")


# the job


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


def test_a_run_can_be_loaded_from_its_folder(tmp_path: Path) -> None:
    dataset = load("digits")
    settings = dataclasses.replace(QUICK, net="residual-mlp", hidden=(8, 6), select_inputs=True)
    metrics = run(dataset, settings, seed=4, out=tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config.items() >= {"data": "digits", "net": "residual-mlp", "prior": "ss-ig", "seed": 4, "epochs": 2}.items()
    state = torch.get_rng_state()
    posterior = load_run(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), state)
    scores = posterior.evaluate(dataset.test.x.flatten(1), dataset.test.y)
    assert {f"test_{name}": value for name, value in scores.items()}.items() <= metrics.items()
    assert posterior.kl_weight == 0.5
    assert len(posterior.history) == 2
    assert config.pop("normalize") is False  # which runs from before there was this setting do not have
    assert config.pop("augmentation") is None
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert load_run(tmp_path / "run").evaluate(dataset.test.x.flatten(1), dataset.test.y) == scores


def test_the_job_on_images_as_they_are(tmp_path: Path) -> None:
    x, y = torch.rand(60, 1, 16, 16), torch.arange(60) % 2
    x[y == 1] += 0.5
    train, test = Split(x[:40], y[:40]), Split(x[40:], y[40:])
    dataset = Dataset("made.npz", "classification", train, None, test, 2)
    settings = dataclasses.replace(QUICK, net="lenet", hidden=(2, 3, 4))
    metrics = run(dataset, settings, out=tmp_path / "run")
    assert {name: total for name, (_, total) in metrics["nodes_kept"].items()} == {"conv1": 2, "conv2": 3, "hidden1": 4}
    assert metrics["pruned_max_abs_diff"] <= 1e-5
    scores = load_run(tmp_path / "run").evaluate(test.x, test.y)
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
    assert posterior.evaluate(test.x, test.y)["nll"] == metrics["test_nll"]
    mean, std = small.get_buffer("normalize.mean"), small.get_buffer("normalize.std")
    assert torch.allclose(mean.flatten(), train.x.mean((0, 2, 3)))
    assert torch.allclose(std.flatten(), train.x.std((0, 2, 3), correction=0))
    assert torch.allclose(small(test.x), prune(posterior)(test.x), atol=1e-5)
    program = torch.export.load(tmp_path / "run" / "pruned.pt2").module()
    assert torch.allclose(program(test.x), small(test.x), atol=1e-5)


def test_only_nets_of_colour_images_normalise() -> None:
    normalizing = {(data, net) for data in DATASETS for net in NETS if recipe(data, net=net).normalize}
    images = [net for net in NETS if net not in ("mlp", "residual-mlp")]
    assert normalizing == {(data, net) for data in ("cifar10", "cifar10-jpeg") for net in images}
    with pytest.raises(ValueError, match="normalize must be False for a mlp, which reads no images"):
        Recipe(normalize=True)


def test_an_output_folder_with_a_run_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{}")
    broken = dataclasses.replace(table("regression"), train=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="out must not hold a run already"):
        run(broken, QUICK, out=tmp_path)


def test_regression_is_learnt_and_pruned() -> None:
    settings = dataclasses.replace(
        QUICK, pretrain_epochs=40, epochs=40, kl_weight=1.0, prior="ss-gl", select_inputs=True
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


def test_validation_rows_are_watched() -> None:
    dataset = table("classification")
    watched = dataclasses.replace(dataset, validation=dataset.test)
    assert "test_accuracy" in run(watched, QUICK)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device, message in (
        ("cuda", "device must be cpu where"),
        ("abacus", "device must be cpu or cuda, got 'abacus'"),
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
    assert again.evaluate(dataset.test.x, dataset.test.y)["accuracy"] == pytest.approx(metrics["test_accuracy"])
    pruned = load_pruned(tmp_path / "run")(dataset.test.x).argmax(1)
    assert float((pruned == dataset.test.y).float().mean()) == pytest.approx(metrics["test_accuracy"])


@pytest.mark.gpu
def test_the_job_on_a_gpu(tmp_path: Path) -> None:
    metrics = run(load("digits"), dataclasses.replace(QUICK, select_inputs=True), device="cuda", out=tmp_path / "run")
    assert metrics["pruned_max_abs_diff"] < 1e-4
    assert torch.export.load(tmp_path / "run" / "pruned.pt2").module()(torch.zeros(3, 64)).shape == (3, 10)
