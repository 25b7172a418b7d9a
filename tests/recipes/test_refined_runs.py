"""A run that is there already is refined, and read back from its folder."""

import dataclasses
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from bnn_pyro.inference.mcmc import starts
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.training.ensemble import train_ensemble
from bnn_pyro.priors import Gaussian
from bnn_pyro.recipes import load_refined, load_run, refine_run, run
from bnn_pyro.recipes import refined_runs as refined_module
from bnn_pyro.refinement import Refinement
from bnn_pyro.reports.folder import RUN_FILES
from bnn_pyro.reports.refined_files import REFINED_FILES
from tests.recipes.test_runs import QUICK, table

SHORT = Refinement(plan=SamplingPlan(kernel="mclmc", chains=3, warmup=40, draws=6, thinning=2), until=None)
DATA = table("regression")


@pytest.fixture(autouse=True)
def short_ensembles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "train_ensemble", partial(train_ensemble, steps=200))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a regression that is not refined; tests work on copies."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    run(DATA, QUICK, seed=4, out=folder)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def refined(folder: Path, **options: Any) -> dict[str, Any]:
    return refine_run(folder, DATA, options.pop("refinement", SHORT), progress=False, **options)


def numbers(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found


def test_results_are_added_to_those_that_are_there(folder: Path) -> None:
    before, state = numbers(folder), torch.get_rng_state()
    pictures = {name: (folder / name).read_bytes() for name in ("calibration.png", "partial_dependence.png")}
    metrics = refined(folder)
    assert all((folder / name).read_bytes() != old for name, old in pictures.items())  # the refined network is in them
    assert torch.equal(torch.get_rng_state(), state)
    assert numbers(folder) == metrics
    assert all(metrics[name] == value for name, value in before.items() if name != "warnings")
    assert {"refined_test_rmse", "refined_minus_dense_nll", "refined_minus_pruned_nll"} < metrics.keys()
    assert metrics["refined_chains"] == 3 and metrics["refined_draws"] == metrics["ensemble_draws"] == 18
    assert metrics["program_bytes"].keys() == {"ensemble", "pruned", "dense"}
    assert {path.name for path in folder.iterdir()} == {*RUN_FILES, *REFINED_FILES}
    page = (folder / "report.md").read_text()
    assert "refined network: covers" in page and "(partial_dependence.png)" in page
    assert "## Refined network" in page and "(bands.png)" in page and "(training.png)" in page
    config = json.loads((folder / "config.json").read_text())
    assert config["refinement"]["plan"]["chains"] == 3 and config["refinement_seed"] == 4
    found = load_refined(folder)
    scores = found.evaluate(DATA.test.x, DATA.test.y, y_std=DATA.y_std)
    assert {name: metrics[f"refined_test_{name}"] for name in scores} == pytest.approx(scores, rel=1e-5)
    mean, _ = torch.export.load(folder / "ensemble.pt2").module()(DATA.test.x)
    torch.testing.assert_close(mean, found.predict(DATA.test.x))


def test_a_run_that_is_refined_at_once_gives_the_same(finished: Path, tmp_path: Path, folder: Path) -> None:
    settings = dataclasses.replace(QUICK, refinement=SHORT)
    at_once = run(DATA, settings, seed=4, out=tmp_path / "other", progress=False)
    later = refined(folder)
    for name in ("test_nll", "posterior_test_nll", "refined_test_nll", "refined_r_hat", "refined_minus_pruned_nll"):
        assert at_once[name] == pytest.approx(later[name], rel=1e-4)
    assert at_once["refined_minus_dense_nll"] == pytest.approx(later["refined_minus_dense_nll"], rel=1e-4)
    assert at_once.keys() == later.keys()
    x = DATA.test.x
    torch.testing.assert_close(load_refined(tmp_path / "other").predict(x), load_refined(folder).predict(x))


def test_it_is_refined_again_only_when_asked_to(folder: Path) -> None:
    first = refined(folder)
    with pytest.raises(ValueError, match="run must not be refined already, got .*--force, or replace=True"):
        refined(folder)
    other = dataclasses.replace(SHORT, slab=Gaussian(0.1), start="draws", weights="stacking")
    second = refined(folder, refinement=other, seed=9, replace=True)
    assert second["refined_test_nll"] != first["refined_test_nll"] and second["test_nll"] == first["test_nll"]
    assert first["refined_weights"] == "equal" and second["refined_weights"] == "stacking"
    assert load_refined(folder).model.slab == Gaussian(0.1) and load_refined(folder).chain_weights is not None
    assert isinstance(load_run(folder).model.slab, Gaussian) and load_run(folder).model.slab != Gaussian(0.1)


def test_a_call_that_was_stopped_is_resumed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even after the draws were written: the numbers are what tells that a run is refined."""

    def fail(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(refined_module, "measure_refined", fail)
        with pytest.raises(KeyboardInterrupt):
            refined(folder)
    assert (folder / "refine.partial").exists() and "refined_draws" not in numbers(folder)
    draws = load_refined(folder).draws.vectors
    with pytest.raises(ValueError, match="checkpoint must be a file of the same model, data and options.*seed"):
        refined(folder, seed=5)
    refined(folder)
    assert torch.equal(load_refined(folder).draws.vectors, draws)
    assert not (folder / "refine.partial").exists()


def test_runs_from_before_dense_nets_were_written_are_compared_without(folder: Path) -> None:
    shutil.rmtree(folder / "dense")
    config = json.loads((folder / "config.json").read_text())
    older = {name: value for name, value in config.items() if "refine" not in name and name != "target"}
    (folder / "config.json").write_text(json.dumps(older))
    metrics = refined(folder)
    assert "refined_minus_dense_nll" not in metrics and "refined_minus_pruned_nll" in metrics
    assert metrics["program_bytes"].keys() == {"ensemble", "pruned"} and "dense_test_nll" in metrics
    assert load_refined(folder).chains == 3


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (table("classification"), "with task classification, not regression"),
        (table("regression", rows=100), "with num_data 60, not 80"),
        (dataclasses.replace(DATA, y_std=2.0), "with y_std 2, not 3"),
    ],
)
def test_other_data_are_refused(dataset: Any, words: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=f"data must be those of the run, 'made.csv', got 'made.csv' {words}"):
        refine_run(folder, dataset, SHORT)
    assert not (folder / "refine.partial").exists()


def test_what_is_no_refined_run_is_not_loaded(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run must be refined, got .*: bnn-pyro refine does it"):
        load_refined(folder)
    with pytest.raises(ValueError, match="folder must hold the config.json of a run"):
        load_refined(tmp_path)
    (folder / "metrics.json").unlink()
    with pytest.raises(ValueError, match="folder must hold the metrics.json of a run"):
        refined(folder)
