"""What the commands share: errors in one line, threads by width, recipes with changes, short paths."""

import os
from pathlib import Path

import pytest
import torch
import typer

from bnn_pyro.cli.options import (
    announce_data,
    folder_or_file,
    load_data,
    recipe_of,
    resumed_by_option,
    set_up_torch,
    shown,
    widths_of,
)
from bnn_pyro.data import load
from bnn_pyro.networks.named import NARROW
from bnn_pyro.reports.claim import PROGRESS


@pytest.mark.parametrize(
    ("asked", "widths", "threads"), [(None, (NARROW,), 1), (None, (4, NARROW + 1), 2), (None, (), 2), (2, (4,), 2)]
)
def test_narrow_nets_have_one_thread(asked: int | None, widths: tuple[int, ...], threads: int) -> None:
    torch.set_num_threads(2)
    set_up_torch(asked, widths)
    assert torch.get_num_threads() == threads
    most = 4 * (os.cpu_count() or 1)
    for wrong in (0, -1, most + 1, 100_000):
        with pytest.raises(ValueError, match=f"threads must be from 1 to {most}, 4 per core, got {wrong}"):
            set_up_torch(wrong)


def test_nothing_is_no_path() -> None:
    assert folder_or_file("run") == Path("run")
    with pytest.raises(typer.BadParameter, match="must be the name of a file or folder, got ''"):
        folder_or_file("")


def test_only_what_was_saved_is_resumed(tmp_path: Path) -> None:
    assert resumed_by_option(tmp_path) is None
    (tmp_path / PROGRESS).mkdir()
    (tmp_path / PROGRESS / "fit.pt").touch()
    assert resumed_by_option(tmp_path) == "the same command with --resume resumes it"


def test_a_recipe_has_what_was_given() -> None:
    digits = load("digits")
    default = recipe_of(digits, "mlp", "ss-ghs", "svi", None, None, {})
    changed = recipe_of(digits, "mlp", "ss-ghs", "svi", 12, "7,5", {"kl_weight": 1.0, "inclusion": None})
    assert (changed.epochs, changed.hidden, changed.kl_weight) == (12, (7, 5), 1.0)
    assert changed.schedule.frozen_kl_weight is None and changed.inclusion == default.inclusion
    with pytest.raises(ValueError, match="kl_weight is of method svi, got 1.0 with method sghmc"):
        recipe_of(digits, "mlp", "ss-ig", "sghmc", None, None, {"kl_weight": 1.0})


def test_widths_are_whole_numbers() -> None:
    assert widths_of("400,20") == (400, 20)
    with pytest.raises(ValueError, match="hidden must be whole numbers with commas between, .*, got '4;5'"):
        widths_of("4;5")


def test_data_are_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    announce_data(load("digits"))
    assert capsys.readouterr().out == "digits: 1,438 training rows, 359 test rows, 8 x 8 inputs, 10 classes\n"


def test_tables_are_told_with_what_was_done_to_them(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "my.csv").write_text("a,b,c,y\n" + "\n".join(f"{n},{n * n},{n % 2},{n % 3}" for n in range(20)))
    dataset = load_data("my.csv", None, None, "regression", "a, c")
    assert dataset.feature_names == ("b",) and dataset.drop == ("a", "c") and dataset.task == "regression"
    announce_data(dataset)
    told = "my.csv: 16 training rows, 4 test rows, 1 inputs, regression\n  a, c left out (as asked)\n"
    assert capsys.readouterr().out == told


def test_paths_are_short(workplace: Path) -> None:
    assert shown(workplace / "runs" / "a") == str(Path("runs", "a"))
    assert shown(workplace.parent) == str(workplace.parent)
