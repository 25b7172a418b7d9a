"""Tables for a terminal: aligned, never with a figure broken or cut, plain where nobody looks."""

import pytest
from rich.console import Console

from bnn_pyro.reports import terminal
from bnn_pyro.reports.terminal import print_table

HEADER = ("method", "compared with", "R-hat", "accuracy")
ROWS = [("AutoSpikeSlab, relaxed", "NUTS [1]", "1.234", "98.05 %"), ("NUTS", "its own halves", "nan", "")]


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("columns", ["200", "80", "20"])
def test_piped_it_is_plain_and_as_wide_as_it_must_be(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    print_table(HEADER, ROWS, title="Agreement")
    assert lines(capsys) == [
        "Agreement",
        "  method                   compared with  R-hat  accuracy",
        "  AutoSpikeSlab, relaxed        NUTS [1]  1.234   98.05 %",
        "  NUTS                    its own halves    nan",
    ]


@pytest.mark.parametrize("columns", [50, 20])
def test_in_a_narrow_terminal_the_first_column_wraps_alone(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def narrow(**options: bool) -> Console:
        return Console(**options, force_terminal=True, color_system=None, width=columns)  # type: ignore[arg-type]

    monkeypatch.setattr(terminal, "Console", narrow)
    print_table(HEADER, ROWS)
    header, first, second, last = lines(capsys)
    assert header.split() == ["method", "compared", "with", "R-hat", "accuracy"]
    assert first.split() == ["AutoSpikeSlab,", "NUTS", "[1]", "1.234", "98.05", "%"] and second == "relaxed"
    assert last.split() == ["NUTS", "its", "own", "halves", "nan"]
    assert len(header) == max(columns, len("AutoSpikeSlab,  its own halves  R-hat  accuracy"))


def test_a_table_without_rows_is_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "value"), [])
    assert lines(capsys) == ["name  value"]
