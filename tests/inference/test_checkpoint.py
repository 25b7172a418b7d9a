"""A checkpoint is a path, or a path and how often; both are checked before a run begins."""

import time
from pathlib import Path
from typing import Any

import pytest

from bnn_pyro.inference.checkpoint import Checkpoint, EpochFile, Pace, check_begun_with


def test_a_path_is_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    assert Checkpoint.of(None) is None
    assert Checkpoint.of(path) == Checkpoint(path) and Checkpoint.of(str(path)) == Checkpoint(str(path))
    often = Checkpoint(path, every=3)
    assert Checkpoint.of(often) is often


def test_there_must_be_a_folder_for_the_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere" / "run.pt"):
        with pytest.raises(ValueError, match="checkpoint must be a file in a folder that exists, got "):
            Checkpoint.of(path)


def test_it_is_saved_now_and_then() -> None:
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        Checkpoint("run.pt", every=0)
    with pytest.raises(ValueError, match="seconds must be finite and not negative, got -1"):
        Checkpoint("run.pt", seconds=-1)
    pace = Checkpoint("run.pt", every=2).pace(usual=100)
    assert [pace.is_due(epochs) for epochs in (1, 2, 3, 4)] == [False, True, False, True]
    assert [Checkpoint("run.pt").pace(usual=100).is_due(done) for done in (50, 100)] == [False, True]


def test_short_epochs_are_saved_after_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pace = Pace(1, 10.0)
    assert not pace.is_due(1)
    now[0] = 10.5
    assert pace.is_due(2)
    pace.note()
    assert not pace.is_due(3)


@pytest.mark.parametrize("wrong", [3, True, ["run.pt"], object()])
def test_other_types_are_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="checkpoint must be a path, a Checkpoint or None, got"):
        Checkpoint.of(wrong)


def test_a_file_of_epochs(tmp_path: Path) -> None:
    def file() -> EpochFile:
        return EpochFile(Checkpoint(tmp_path / "run.pt"), writer="train", mark="trained")

    first = file()
    assert first.seed(None) >= 0 and first.begin({"epochs": 3, "seed": 5}) is None
    first.write({"done": 1})
    again = file()
    assert (again.seed(None), again.seed(7)) == (5, 7) and again.begin({"epochs": 3, "seed": 5}) == {"done": 1}
    with pytest.raises(
        ValueError, match="epochs must be 3, as when the run in .*run.pt was begun, got 4 .different, too"
    ):
        file().begin({"epochs": 4, "seed": 6})
    (tmp_path / "run.pt").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"written by train\(checkpoint=...\), got .*: damaged"):
        file()


def test_what_no_value_shows_is_named_too() -> None:
    check_begun_with({"a": 1}, {"a": 1, "b": 2}, "run.pt")
    with pytest.raises(
        ValueError, match="outputs must be the same, as when the run in run.pt was begun, got another one"
    ):
        check_begun_with({"a": 1}, {"a": 1}, "run.pt", unlike=["outputs"])
