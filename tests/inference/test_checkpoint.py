"""A checkpoint is a path, or a path and how often; both are checked before a run begins."""

from pathlib import Path

import pytest

from bnn_pyro.inference.checkpoint import Checkpoint


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
