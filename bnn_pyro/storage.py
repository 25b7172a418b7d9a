"""Files that are written whole or not at all, and what reads them again."""

import hashlib
import os
import zipfile
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch

_MARK, _HEX = b"sha256:", 64  # what the comment of the archive begins with, and how many digits follow
_CHUNK = 1 << 20


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path to write to, and rename what is there to the wanted one when all is written; if not, remove it.

    Args:
        path: The file; an existing one is replaced once the new one is complete.

    Yields:
        A path in the same folder, with the same ending.

    Raises:
        ValueError: If the folder of the file does not exist.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise ValueError(f"path must be in a folder that exists, got {target}")
    partial = target.with_name(f".{target.stem}.partial{target.suffix}")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(content: Mapping[str, object], path: str | os.PathLike[str]) -> None:
    """Writes tensors and plain values to a file, whole or not at all, with the SHA-256 of all that it holds.

    The digest is the comment of the ZIP archive that ``torch.save`` writes, which ``torch.load`` ignores.

    Args:
        content: What to write.
        path: The file; an existing one is replaced once the new one is complete.

    Raises:
        ValueError: If the folder of the file does not exist.
    """
    with whole_file(path) as partial:
        torch.save(content, partial)
        _seal(partial)


def _seal(path: Path) -> None:
    """Write the digest of a ZIP archive into its comment."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = _MARK + b"0" * _HEX
    with path.open("r+b") as file:
        found = _digest(file, path.stat().st_size - _HEX)
        file.write(found)  # over the zeros, which are the last bytes


def _is_sealed_otherwise(path: Path) -> bool:
    """Whether a file ends with a digest, and it is not that of what stands before; older files have none."""
    size = path.stat().st_size
    length = len(_MARK) + _HEX
    if size < length:
        return False
    with path.open("rb") as file:
        file.seek(size - length)
        tail = file.read()
        if not tail.startswith(_MARK):
            return False
        file.seek(0)
        return _digest(file, size - _HEX) != tail[len(_MARK) :]


def _digest(file: BinaryIO, size: int) -> bytes:
    """Return the digest of the next so many bytes of a file, in hexadecimal digits."""
    found = hashlib.sha256()
    while size > 0 and (chunk := file.read(min(size, _CHUNK))):
        found.update(chunk)
        size -= len(chunk)
    return found.hexdigest().encode()


def read_whole(path: str | os.PathLike[str], *, writer: str, mark: str, form: int, keys: Set[str]) -> dict[str, Any]:
    """Reads what :func:`write_whole` wrote.

    Args:
        path: The file.
        writer: Name of the function that writes such files, for the message.
        mark: Key of the format's number.
        form: The format's number.
        keys: What the file must have besides.

    Raises:
        ValueError: If there is no such file, it is damaged, or it is of another kind or format.
    """
    content = read_file(path, writer=writer)
    if not isinstance(content, dict) or content.get(mark) != form or not content.keys() >= keys:
        raise ValueError(f"path must be a file written by {writer} in format {form}, got {path}")
    return content


def read_file(path: str | os.PathLike[str], *, writer: str) -> object:
    """Read what is in a file of tensors and plain values, of whatever kind.

    Args:
        path: The file.
        writer: Name of the function that writes such files, for the message.

    Raises:
        ValueError: If there is no such file, or it is damaged.
    """
    if not Path(path).is_file():
        raise ValueError(f"path must be a file written by {writer}, got {path}: no such file")
    if _is_sealed_otherwise(Path(path)):
        raise ValueError(
            f"path must be a file written by {writer}, got {path}: damaged (its bytes do not have the SHA-256 that was "
            "noted when it was written)"
        )
    try:
        content: object = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # whatever a damaged file makes torch raise
        raise ValueError(f"path must be a file written by {writer}, got {path}: damaged ({error})") from error
    return content


class Loadable(Protocol):
    """What a saved state can be loaded into, such as a module."""

    def load_state_dict(self, state_dict: Mapping[str, object]) -> object:
        """Take over a state."""


def load_into(name: str, module: Loadable, state: Mapping[str, object], path: object) -> None:
    """Loads a saved state into a module made alike.

    Args:
        name: The argument's name, for the message.
        module: The module, which is changed.
        state: The state.
        path: The file that it was read from, for the message.

    Raises:
        ValueError: If the state does not fit.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{name} must be made as when {path} was saved: {error}") from error
