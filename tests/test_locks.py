"""Locks end with the process that holds them."""

import os
import signal
import sys
from pathlib import Path

import pytest

from bnn_pyro.locks import held, is_locked, lock, new_locked_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert not is_locked(path)
    with held(path) as first, held(path) as second:
        assert first and not second and is_locked(path)
    assert not is_locked(path) and path.exists()


def test_a_new_file_is_locked_and_must_be_new(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with new_locked_file(path) as descriptor:
        assert is_locked(path) and os.fstat(descriptor).st_size == 0
        with pytest.raises(FileExistsError), new_locked_file(path):
            pytest.fail("it is there already")
    assert not is_locked(path)


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        lock(os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR))
        os.write(write, b"held")
        signal.pause()
    assert os.read(read, 4) == b"held" and is_locked(tmp_path / "file")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not is_locked(tmp_path / "file")
    os.close(read)
    os.close(write)
