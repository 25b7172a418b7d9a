"""Locks on files, which end with the process that holds them, however it ends."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl


def lock(descriptor: int) -> bool:
    """Take the lock of an open file, and return whether it was free; on Windows it always is.

    The lock is let go when the file is closed.

    Args:
        descriptor: The file's descriptor.
    """
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of a file.

    Args:
        path: The file.
    """
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not lock(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def new_locked_file(path: Path) -> Iterator[int]:
    """Make an empty file, and hold its lock; the file is left there.

    Args:
        path: The file, which must not exist.

    Yields:
        Its descriptor.

    Raises:
        OSError: If it exists, or cannot be made.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    try:
        lock(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold the lock of a file, which is made where it is absent.

    Args:
        path: The file.

    Yields:
        Whether the lock was free and is held now.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        yield lock(descriptor)
    finally:
        os.close(descriptor)
