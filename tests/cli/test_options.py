"""What the commands share: errors in one line, threads by width, recipes with changes, short paths."""

from pathlib import Path

import pytest
import torch
import typer

from bnn_pyro.cli.options import (
    announce_data,
    load_data,
    recipe_of,
    set_up_torch,
    shown,
    user_errors,
    widths_of,
)
from bnn_pyro.data import load
from bnn_pyro.networks.named import NARROW


def test_what_the_user_can_mend_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as left, user_errors():
        raise ValueError("hidden must be\n  whole numbers")
    assert left.value.exit_code == 2
    assert capsys.readouterr().err == "error: hidden must be whole numbers\n"
    with pytest.raises(KeyError), user_errors():
        raise KeyError("a fault of ours")


@pytest.mark.parametrize(
    ("asked", "widths", "threads"), [(None, (NARROW,), 1), (None, (4, NARROW + 1), 2), (None, (), 2), (2, (4,), 2)]
)
def test_narrow_nets_have_one_thread(asked: int | None, widths: tuple[int, ...], threads: int) -> None:
    torch.set_num_threads(2)
    set_up_torch(asked, widths)
    assert torch.get_num_threads() == threads
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        set_up_torch(0)


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
