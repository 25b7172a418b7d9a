"""Disks that are full, or cannot be written to, for tests of what is written."""

import errno
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

Condition = Callable[[], AbstractContextManager[None]]


def mount(*arguments: str) -> None:
    """Mount a file system, or skip the test where that is not possible."""
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs the command mount")
    if done.returncode:
        pytest.skip(f"needs a file system that may be mounted: {done.stderr.strip()}")


@contextmanager
def no_more_than(size: int) -> Iterator[None]:
    """Let no file grow beyond some bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Disk:
    """A small disk in memory.

    Args:
        folder: Where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.filler = folder, folder / "filler"

    @contextmanager
    def full(self, spare: int = 0) -> Iterator[None]:
        """Fill it, but for some bytes.

        Args:
            spare: How many; the disk counts in pages.
        """
        with self.filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)) == 4096:
                    pass
            except OSError as error:
                assert error.errno == errno.ENOSPC
            file.truncate(max(0, file.tell() - spare))
        try:
            yield
        finally:
            self.filler.unlink()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Let nobody write to it, not even root."""
        mount("-o", "remount,ro", str(self.folder))
        try:
            yield
        finally:
            mount("-o", "remount,rw", str(self.folder))

    def conditions(self) -> dict[str, Condition]:
        """Return what a disk may be like that cannot be written to, by name."""
        return {
            "full": self.full,
            "nearly full": lambda: self.full(4096),
            "read-only": self.read_only,
            "no file may grow": lambda: no_more_than(0),
            "files may have 1,000 bytes": lambda: no_more_than(1000),
        }

    def content(self) -> dict[str, bytes]:
        """Return all files but what fills it."""
        files = (path for path in self.folder.rglob("*") if path.is_file() and path != self.filler)
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in files}


@contextmanager
def small_disk(folder: Path, size: str = "2m") -> Iterator[Disk]:
    """Mount a small disk, or skip the test where that is not possible.

    Args:
        folder: Where; it is made.
        size: How large it is, such as 64k.
    """
    folder.mkdir()
    mount("-t", "tmpfs", "-o", f"size={size}", "none", str(folder))
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
