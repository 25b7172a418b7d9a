"""Runs that are killed, or asked to end, are resumed with the result that they would have had."""

import json
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

from bnn_pyro.reports import claim
from tests import kills
from tests.cli.calls import call, made_table

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = (
    *("svi", "svi-within-a-write", "sample", "sample-early", "nuts", "sghmc", "sghmc-early", "dense"),
    *("dense-at-the-end", "command-fit-terminated"),
)
OTHERS = tuple(name for name in kills.TRAPS if name not in DEFAULT)
LINES = {
    "command-fit-terminated": "stopped after 4 of 6 epochs; the same command with --resume resumes it\n",
    "command-fit-interrupted": "stopped after 3 of 6 epochs; the same command with --resume resumes it\n",
}


def killed(place: Path, names: tuple[str, ...]) -> Path:
    """Run and kill each; return the folder with what is left of them."""
    for name in names:
        (place / name).mkdir()
        if name.startswith("command"):
            torch.manual_seed(0)
            made_table(place / name / "my.csv")
    command = [sys.executable, "-m", "tests.kills", str(place), *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return place


@cache
def finished(what: str) -> kills.State:
    """What an undisturbed run ends with."""
    return kills.API[what](None)


def check(place: Path, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    codes = json.loads((place / "codes.json").read_text())
    expected = None
    for name in names:
        what, *_, number = kills.TRAPS[name]
        folder = place / name
        if what != "command":
            assert codes[name] == -signal.SIGKILL
            found = kills.run(what, folder)
            assert isinstance(found, dict)
            assert all(torch.equal(value, found[key]) for key, value in finished(what).items()), name
            assert {path.name for path in folder.iterdir()} == {"run.pt", "stderr"}
            continue
        assert codes[name] == (-signal.SIGKILL if number == signal.SIGKILL else 128 + number)
        assert (folder / "stderr").read_text() == LINES.get(name, "")
        monkeypatch.chdir(folder)
        if expected is None:
            assert call(*kills.TABLE, "--out", "undisturbed")[::2] == (0, "")
            expected = kills.outcome(folder / "undisturbed")
        code, _, line = call(*kills.TABLE)
        assert code == 2 and "out must not hold a run that was stopped" in line
        code, _, line = call(*kills.TABLE, "--resume", "--seed", "0", "--epochs", "7")
        assert code == 2 and line.startswith("error: epochs must be 6, as when the run in ")
        assert call(*kills.TABLE, "--resume")[::2] == (0, "")
        assert kills.outcome(folder / "runs" / "my-ss-ig-0") == expected, name
        assert not list((folder / "runs").rglob(".*")), "something is left"


def test_runs_that_were_killed_are_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "SAVED_AFTER", 0.0)
    check(killed(tmp_path, DEFAULT), DEFAULT, monkeypatch)


@pytest.mark.slow
def test_runs_that_were_killed_elsewhere_are_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "SAVED_AFTER", 0.0)
    check(killed(tmp_path, OTHERS), OTHERS, monkeypatch)
