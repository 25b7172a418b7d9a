"""A run's folder: its files, and that nothing is overwritten or left half done."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bnn_pyro.export import load_net
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.files import load_posterior
from bnn_pyro.refinement import selected_network
from bnn_pyro.reports import folder as folder_module
from bnn_pyro.reports.folder import RUN_FILES, check_run_folder, run_folder, write_report
from bnn_pyro.reports.measures import Run, evaluate_run
from bnn_pyro.reports.refined_files import REFINED_FILES
from bnn_pyro.reports.tables import TABLE_FILES
from tests.reports.finished import CONFIG, classification, refined, regression


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, Any], Path]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("report") / "a" / "run"
    run = classification(select_inputs=True)
    evaluation = evaluate_run(run)
    write_report(folder, run, evaluation, config=CONFIG, save_checkpoint=lambda path: path.touch())
    return run, evaluation.metrics, folder


def test_a_net_of_which_nothing_is_left_is_measured_and_written(tmp_path: Path) -> None:
    run = classification(torch.zeros(6, dtype=torch.bool))
    evaluation = evaluate_run(run)
    assert evaluation.metrics["params"] == [3, 51]  # the biases of the output
    write_report(tmp_path / "run", run, evaluation, config=CONFIG)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == set(RUN_FILES) - {"first_layer.png", "checkpoint.pt"}


# the folder
def test_a_run_has_all_its_files(written: tuple[Run, dict[str, Any], Path]) -> None:
    _, metrics, folder = written
    assert {path.name for path in folder.iterdir()} == set(RUN_FILES)
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert json.loads((folder / "config.json").read_text()) == CONFIG
    assert [path.name for path in folder.parent.iterdir()] == ["run"]
    page = (folder / "report.md").read_text()
    for name in ("training", "inclusion", "calibration", "first_layer", "partial_dependence"):
        assert f"({name}.png)" in page
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_exported_net_takes_any_number_of_rows(written: tuple[Run, dict[str, Any], Path]) -> None:
    run, _, folder = written
    loaded = torch.export.load(folder / "pruned.pt2").module()
    for rows in (1, 2, 7, 300):
        x = torch.randn(rows, 4)
        torch.testing.assert_close(loaded(x), run.pruned(x))


def test_the_weights_fit_another_net_of_the_class(written: tuple[Run, dict[str, Any], Path]) -> None:
    run, _, folder = written
    x = torch.randn(7, 4)
    assert torch.equal(load_net(folder, mlp(4, (6,), 3))(x), run.pruned(x))


def test_the_dense_net_is_there_too(written: tuple[Run, dict[str, Any], Path]) -> None:
    run, _, folder = written
    x = torch.randn(7, 4)
    assert torch.equal(load_net(folder / "dense", mlp(4, (6,), 3))(x), run.dense(x))


def test_a_refined_run_has_more_files(tmp_path: Path) -> None:
    run = refined(regression())
    evaluation = evaluate_run(run)
    write_report(tmp_path / "run", run, evaluation, config=CONFIG)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {*RUN_FILES, *REFINED_FILES} - {"checkpoint.pt"}
    page = (tmp_path / "run" / "report.md").read_text()
    assert "## Refined network" in page and "(bands.png)" in page
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == evaluation.metrics
    again = load_posterior(tmp_path / "run" / "refined.pt", selected_network(run.posterior))
    x = torch.randn(300, 4)
    assert run.refined is not None and torch.equal(again.predict(x), run.refined.predict(x))
    mean, sd = torch.export.load(tmp_path / "run" / "ensemble.pt2").module()(x)
    drawn = run.refined.predict(x, num_samples=100, return_draws=True)
    torch.testing.assert_close((mean, sd), drawn.moments())  # type: ignore[union-attr]


@pytest.mark.parametrize("broken", ["export_net", "plot_calibration"])
def test_a_program_or_picture_that_fails_costs_no_posterior(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("no such operation")

    run = refined(regression())
    evaluation = evaluate_run(run)
    monkeypatch.setattr(folder_module, broken, fail)
    with pytest.raises(RuntimeError, match="no such operation"):
        write_report(tmp_path / "run", run, evaluation, config=CONFIG, save_checkpoint=lambda path: path.touch())
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {"refined.pt", "checkpoint.pt", "config.json", "metrics.json", "dense"}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_does_not_apply_is_left_out(tmp_path: Path) -> None:
    run = classification(None)
    write_report(tmp_path / "run", run, evaluate_run(run), config={})
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == set(RUN_FILES) - {"inclusion.png", "checkpoint.pt"}


@pytest.mark.parametrize("name", [*RUN_FILES, *REFINED_FILES, *TABLE_FILES])
def test_a_folder_with_a_run_is_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"out must not hold a run already, got .* with {name}"):
        check_run_folder(tmp_path)
    with pytest.raises(ValueError, match="out must not hold a run already"), run_folder(tmp_path):
        pytest.fail("the folder must be refused before anything is written")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_folder_of_other_things_is_added_to(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with run_folder(tmp_path) as folder:
        (folder / "report.md").write_text("page")
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "report.md"}


@pytest.mark.parametrize("exists", [True, False])
def test_a_failure_leaves_nothing(exists: bool, tmp_path: Path) -> None:
    out = tmp_path / "run"
    if exists:
        out.mkdir()
    with pytest.raises(KeyboardInterrupt), run_folder(out) as folder:
        (folder / "report.md").write_text("page")
        raise KeyboardInterrupt
    assert list(tmp_path.rglob("*")) == ([out] if exists else [])


def test_of_two_runs_with_one_folder_the_first_to_end_stays(tmp_path: Path) -> None:
    def second() -> None:
        with run_folder(tmp_path / "run") as folder:
            (folder / "report.md").write_text("second")
            with run_folder(tmp_path / "run") as other:
                (other / "report.md").write_text("first")

    with pytest.raises(ValueError, match="out must not hold a run already"):
        second()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["run", "run/report.md"]
    assert (tmp_path / "run" / "report.md").read_text() == "first"


@pytest.mark.parametrize("below", [lambda file: file, lambda file: file / "run"])
def test_a_file_is_no_folder(below: Callable[[Path], Path], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(ValueError, match="out must be a folder that can be written to"):
        check_run_folder(below(file))
