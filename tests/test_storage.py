"""A file is written whole or not at all, and a ValueError says what is wrong with another."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bnn_pyro.storage import load_into, read_file, read_whole, whole_file, write_whole
from tests.small_disks import no_more_than

FORM: Any = {"writer": "the test", "mark": "form", "form": 1, "keys": {"value"}}


def test_round_trip(tmp_path: Path) -> None:
    write_whole({"form": 1, "value": torch.arange(3.0)}, tmp_path / "file.pt")
    assert torch.equal(read_whole(tmp_path / "file.pt", **FORM)["value"], torch.arange(3.0))
    assert [file.name for file in tmp_path.iterdir()] == ["file.pt"]


def test_an_interrupted_write_leaves_the_file_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole({"form": 1, "value": 1}, tmp_path / "file.pt")

    def fail(content: Any, file: Any) -> None:
        file.write(b"half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(torch, "save", fail)
        write_whole({"form": 1, "value": 2}, tmp_path / "file.pt")
    assert read_whole(tmp_path / "file.pt", **FORM)["value"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["file.pt"]


def test_a_file_that_is_written_in_steps_appears_when_all_is_written(tmp_path: Path) -> None:
    with whole_file(tmp_path / "net.v2.pt2") as partial:
        partial.write_bytes(b"all of it")
        assert partial.parent == tmp_path and partial.suffix == ".pt2" and not (tmp_path / "net.v2.pt2").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["net.v2.pt2"]


@pytest.mark.parametrize("size", [0, 100, 5_000])
def test_a_full_disk_leaves_the_file_of_before(size: int, tmp_path: Path) -> None:
    write_whole({"form": 1, "value": 1}, tmp_path / "file.pt")
    with no_more_than(size), pytest.raises(OSError):
        write_whole({"form": 1, "value": torch.zeros(50_000)}, tmp_path / "file.pt")
    assert read_whole(tmp_path / "file.pt", **FORM)["value"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["file.pt"]


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    with whole_file(tmp_path / "file.txt") as one:
        one.write_text("one")
        with whole_file(tmp_path / "file.txt") as two:
            two.write_text("two")
        assert (tmp_path / "file.txt").read_text() == "two"
    assert (tmp_path / "file.txt").read_text() == "one"
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        with whole_file(tmp_path / "file.txt") as partial:
            partial.write_text("half of it")
            os._exit(9)
    os.waitpid(child, 0)
    (tmp_path / ".file.partial.txt").write_text("as older versions called it")
    (tmp_path / ".file.12345678.partial.csv").write_text("of another file")
    assert len(list(tmp_path.iterdir())) == 3
    with whole_file(tmp_path / "file.txt") as partial:
        partial.write_text("all of it")
    assert {file.name for file in tmp_path.iterdir()} == {"file.txt", ".file.12345678.partial.csv"}


def test_damage_is_found(tmp_path: Path) -> None:
    path, value = tmp_path / "file.pt", torch.arange(20_000.0)
    write_whole({"form": 1, "value": value}, path)
    whole = path.read_bytes()
    for start in (300, len(whole) // 2, len(whole) - 1500, len(whole) - 40):  # the content, and the digest itself
        path.write_bytes(whole[:start] + bytes(1500)[: len(whole) - start] + whole[start + 1500 :])
        with pytest.raises(ValueError, match=r"written by the test, got .*file.pt: damaged"):
            read_whole(path, **FORM)
    content = whole.find(value[1000:1100].numpy().tobytes())
    path.write_bytes(whole[:content] + bytes(100) + whole[content + 100 :])
    with pytest.raises(ValueError, match="damaged .its bytes do not have the SHA-256 that was noted"):
        read_whole(path, **FORM)
    assert torch.load(path, weights_only=True)["value"][1000] == 0  # which torch does not see


def test_files_without_a_digest_are_read(tmp_path: Path) -> None:
    torch.save({"form": 1, "value": 2}, tmp_path / "older.pt")
    assert read_whole(tmp_path / "older.pt", **FORM)["value"] == 2
    write_whole({"form": 1, "value": 2}, tmp_path / "newer.pt")
    assert torch.load(tmp_path / "newer.pt", weights_only=True) == {"form": 1, "value": 2}  # and torch reads newer ones


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="path must be in a folder that exists"):
        write_whole({}, tmp_path / "none" / "file.pt")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="path must be a file written by the test, got .*: no such file"):
        read_whole(tmp_path / "none.pt", **FORM)
    (tmp_path / "damaged.pt").write_bytes(b"not a file of torch")
    with pytest.raises(ValueError, match="damaged"):
        read_whole(tmp_path / "damaged.pt", **FORM)
    for content in ({"form": 2, "value": 1}, {"form": 1}, [1], torch.zeros(3)):
        torch.save(content, tmp_path / "other.pt")
        with pytest.raises(ValueError, match="written by the test in format 1"):
            read_whole(tmp_path / "other.pt", **FORM)


def test_a_file_of_any_kind(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "other.pt")
    assert read_file(tmp_path / "other.pt", writer="the test") == [1, 2]
    with pytest.raises(ValueError, match="path must be a file written by the test, got .*: no such file"):
        read_file(tmp_path / "none.pt", writer="the test")


def test_a_state_that_does_not_fit_is_refused() -> None:
    target = nn.Linear(3, 2)
    load_into("model", target, nn.Linear(3, 2).state_dict(), "file.pt")
    with pytest.raises(ValueError, match="model must be made as when file.pt was saved"):
        load_into("model", target, nn.Linear(4, 2).state_dict(), "file.pt")
