"""Compressed files: how large they become is looked at before anything is allocated."""

import gzip
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

_MOST_RATIO = 200  # of bytes after to bytes before; images of digits have 8, and arrays of zeros 1,000
_ALWAYS = 1 << 28  # bytes that any file may have


def check_archive(path: Path) -> None:
    """Check that an archive of arrays is no larger than its arrays say, and not many times as large as its file.

    Args:
        path: The ``.npz`` file.

    Raises:
        ValueError: If an array is not as large as its member, or the members are far larger than the file.
        Exception: What a file raises that is no archive.
    """
    most = max(_ALWAYS, _MOST_RATIO * path.stat().st_size)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        total = sum(member.file_size for member in members)
        if total > most:
            raise ValueError(f"its arrays take {total:,} bytes, more than {_MOST_RATIO} times those of the file")
        for member in members:
            if member.filename.endswith(".npy"):
                with archive.open(member) as file:
                    _check_array(file, member)


def _check_array(file: IO[bytes], member: zipfile.ZipInfo) -> None:
    """Raise if the shape of an array is not that of the bytes of its member."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    held = member.file_size - file.tell()
    needed = dtype.itemsize
    for size in shape:
        needed *= int(size)
    if dtype.hasobject or needed != held:
        raise ValueError(f"{member.filename} of shape {shape} and {dtype} must have {needed:,} bytes, got {held:,}")


def decompressed(path: Path) -> bytes:
    """Return what is in a ``.gz`` file.

    Args:
        path: The file.

    Raises:
        ValueError: If it is far larger than the file.
        OSError: If the file is no whole one.
    """
    most = max(_ALWAYS, _MOST_RATIO * path.stat().st_size)
    with gzip.open(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it holds more than {_MOST_RATIO} times the bytes of the file")
    return content
