"""The commands all: their help, their version, their errors."""

import runpy
import sys

import pytest
from typer.testing import CliRunner

from bnn_pyro.cli import app
from tests.cli.calls import call


@pytest.mark.parametrize("arguments", [["--epochs", "many"], ["--no-such-option"], ["digits", "mnist"]])
def test_usage_errors_have_the_same_exit_code(arguments: list[str]) -> None:
    code, _, err = call("fit", *arguments)
    assert code == 2
    assert err


@pytest.mark.parametrize("command", ["fit", "path", "refine"])
def test_help_fits_into_a_small_terminal(command: str) -> None:
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, [command, "--help"])
    examples = result.stdout.split("Examples")[1].splitlines()
    indents = {len(line) - len(line.lstrip()) for line in examples if line.strip()}
    assert indents <= {1, 3, 19}  # headings, names, descriptions: no line is broken
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


def test_no_command_shows_the_commands() -> None:
    _, out, err = call()
    assert "fit" in out + err


def test_version() -> None:
    code, out, _ = call("--version")
    assert code == 0
    assert out.startswith("bnn-pyro")


def test_python_m_is_the_same_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bnn_pyro", "fit", "--prior", "x"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("bnn_pyro", run_name="__main__")
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "'--prior'" in error and "'ss-ig'" in error
