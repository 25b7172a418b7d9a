"""A run's folder: its files, and that nothing is overwritten or left half done."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bnn_pyro.export import export_net, load_net, save_net
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.files import load_posterior
from bnn_pyro.refinement import selected_network
from bnn_pyro.reports import folder as folder_module
from bnn_pyro.reports.claim import PROGRESS, claimed
from bnn_pyro.reports.folder import RUN_FILES, check_run_folder, write_report
from bnn_pyro.reports.measures import Run, evaluate_run
from bnn_pyro.reports.refined_files import REFINED_FILES
from bnn_pyro.reports.tables import TABLE_FILES
from tests.reports.finished import CONFIG, classification, refined, regression, write
from tests.small_disks import no_more_than


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, Any], Path]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("report") / "a" / "run"
    run = classification(select_inputs=True)
    evaluation = evaluate_run(run)
    write(folder, run, evaluation, checkpoint=True)
    return run, evaluation.metrics, folder


def test_a_net_of_which_nothing_is_left_is_measured_and_written(tmp_path: Path) -> None:
    run = classification(torch.zeros(6, dtype=torch.bool))
    evaluation = evaluate_run(run)
    assert evaluation.metrics["params"] == [3, 51]  # the biases of the output
    write(tmp_path / "run", run, evaluation)
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
    write(tmp_path / "run", run, evaluation)
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


@pytest.mark.parametrize(
    ("broken", "left_out"), [("export_net", "pruned.pt2"), ("plot_calibration", "calibration.png")]
)
def test_a_program_or_picture_that_fails_is_one_line_and_costs_nothing_else(
    broken: str, left_out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("no such\noperation")

    run = refined(regression())
    evaluation = evaluate_run(run)
    monkeypatch.setattr(folder_module, broken, fail)
    write(tmp_path / "run", run, evaluation, checkpoint=True)
    warnings = [record.getMessage() for record in caplog.records if record.name.startswith("bnn_pyro")]
    assert warnings == [f"{left_out} is left out: no such operation"]
    assert {path.name for path in (tmp_path / "run").iterdir()} == {*RUN_FILES, *REFINED_FILES} - {left_out}
    assert f"({left_out})" not in (tmp_path / "run" / "report.md").read_text()


def test_a_full_disk_leaves_every_file_of_before(tmp_path: Path) -> None:
    """What can be written is replaced, and what cannot stays; an export does not abort the interpreter."""
    run = classification()
    evaluation, folder = evaluate_run(run), tmp_path / "run"
    write(folder, run, evaluation, checkpoint=True)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with no_more_than(0):
        with pytest.raises(OSError):
            write(folder, run, evaluation)
        with pytest.raises(OSError):
            write_report(folder, run, evaluation, config=CONFIG)
        with pytest.raises(OSError):
            export_net(run.pruned, run.test[0], folder / "pruned.pt2")
        with pytest.raises(OSError):
            save_net(run.pruned, folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_what_does_not_apply_is_left_out(tmp_path: Path) -> None:
    run = classification(None)
    write(tmp_path / "run", run, evaluate_run(run), config={})
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == set(RUN_FILES) - {"inclusion.png", "checkpoint.pt"}


@pytest.mark.parametrize("name", [*RUN_FILES, *REFINED_FILES, *TABLE_FILES])
def test_a_folder_with_a_run_is_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"out must not hold a run already, got .* with {name}"):
        check_run_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_run_that_was_stopped_is_resumed_if_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / PROGRESS).mkdir()
    assert check_run_folder(tmp_path) == tmp_path.resolve()  # nothing of it was saved
    (tmp_path / PROGRESS / "fit.pt").touch()
    (tmp_path / "config.json").touch()
    with pytest.raises(
        ValueError, match=r"out must not hold a run that was stopped, got .*: resume it \(--resume\), or"
    ):
        check_run_folder(tmp_path)
    assert check_run_folder(tmp_path, resume=True) == tmp_path.resolve()
    with claimed(tmp_path), pytest.raises(ValueError, match="out must be a folder that no other process writes to"):
        check_run_folder(tmp_path, resume=True)


@pytest.mark.parametrize("nothing", ["", "  "])
def test_nothing_is_no_folder(nothing: str) -> None:
    with pytest.raises(ValueError, match=f"out must be the name of a folder, got '{nothing}'"):
        check_run_folder(nothing)


@pytest.mark.parametrize("below", [lambda file: file, lambda file: file / "run"])
def test_a_file_is_no_folder(below: Callable[[Path], Path], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(ValueError, match="out must be a folder that can be written to"):
        check_run_folder(below(file))
