"""A folder belongs to one run until that has ended, and is as before where nothing was saved."""

from pathlib import Path

import pytest
import torch

from bnn_pyro.reports.claim import PROGRESS, SAVED_AFTER, claimed, is_resumable, is_running, read_call


def test_a_run_that_ends_leaves_its_files_alone(tmp_path: Path) -> None:
    with claimed(tmp_path / "a" / "run") as claim:
        assert is_running(claim.folder)
        claim.begin({"epochs": 3})
        (claim.folder / "report.md").write_text("page")
        checkpoint = claim.checkpoint("fit")
        assert Path(checkpoint.path) == claim.progress / "fit.pt" and checkpoint.seconds == SAVED_AFTER
    assert [path.name for path in claim.folder.iterdir()] == ["report.md"] and not is_running(claim.folder)


def test_a_second_run_is_refused(tmp_path: Path) -> None:
    with claimed(tmp_path / "run") as claim:
        with (
            pytest.raises(ValueError, match="out must be a folder that no other process writes to, got .*run"),
            claimed(claim.folder),
        ):
            pytest.fail("it is claimed")
        assert is_running(claim.folder)


@pytest.mark.parametrize("exists", [True, False])
def test_a_failure_before_anything_was_saved_leaves_nothing(exists: bool, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "run"
    if exists:
        folder.mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), claimed(folder) as claim:
        claim.begin({"epochs": 3})
        raise KeyboardInterrupt
    assert list(tmp_path.rglob("*")) == ([tmp_path / "a", folder] if exists else [])


def test_what_was_saved_is_resumed_if_it_was_begun_alike(tmp_path: Path) -> None:
    call = {"epochs": 3, "hidden": (4, 5), "path": None, "rows": torch.ones(3), "schedule": {"hold": 1}}
    with pytest.raises(KeyboardInterrupt), claimed(tmp_path / "run") as claim:
        claim.begin(call)
        assert not claim.is_begun
        (claim.progress / "fit.pt").touch()
        raise KeyboardInterrupt
    assert is_resumable(claim.folder) and not is_running(claim.folder)
    for changes, message in (
        (
            {"epochs": 4},
            "epochs must be 3, as when the run in .*run was begun, got 4: resume it as it was begun, or name",
        ),
        ({"schedule": {"hold": 2}}, "schedule.hold must be 1"),
        ({"rows": torch.zeros(3)}, "rows.content must be the same"),
    ):
        with pytest.raises(ValueError, match=message), claimed(claim.folder) as again:
            again.begin({**call, **changes})
        assert is_resumable(claim.folder)
    with claimed(claim.folder) as again:
        assert again.is_begun
        again.begin(call)
    assert list(claim.folder.iterdir()) == []


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_damaged_note_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / PROGRESS).mkdir()
    (tmp_path / PROGRESS / "call.json").write_bytes(content)
    with pytest.raises(ValueError, match="out must hold a run that can be resumed, got"):
        read_call(tmp_path / PROGRESS / "call.json")
