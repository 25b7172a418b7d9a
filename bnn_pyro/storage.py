"""Files that are written whole or not at all, and what reads them again."""

import glob
import hashlib
import io
import json
import os
import secrets
import zipfile
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch

from bnn_pyro.locks import is_locked, new_locked_file

_MARK, _HEX = b"sha256:", 64  # what the comment of the archive begins with, and how many digits follow
_CHUNK = 1 << 20


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path to write to, and rename what is there to the wanted one when all is written; if not, remove it.

    Each call has a path of its own, so that two processes that write the same file do not mix. What a process that was
    killed has left of the file is removed.

    Args:
        path: The file; an existing one is replaced once the new one is complete.

    Yields:
        A path in the same folder, with the same ending; an empty file is there.

    Raises:
        ValueError: If the folder of the file does not exist.
        OSError: If the file cannot be written, as on a full disk; an existing one is left as it was.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise ValueError(f"path must be in a folder that exists, got {target}")
    _remove_leftovers(target)
    partial = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.partial{target.suffix}")
    try:
        with new_locked_file(partial):
            yield partial
            _to_disk(partial)
            partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _remove_leftovers(target: Path) -> None:
    """Remove the partial files of a file that no process is writing."""
    stem, suffix = glob.escape(target.stem), glob.escape(target.suffix)
    for pattern in (f".{stem}.*.partial{suffix}", f".{stem}.partial{suffix}"):  # the latter of older versions
        for path in target.parent.glob(pattern):
            if not is_locked(path):
                path.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Wait until a file is on the disk, so that no loss of power leaves an empty one under the wanted name."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(content: Mapping[str, object], path: str | os.PathLike[str]) -> None:
    """Writes tensors and plain values to a file, whole or not at all, with the SHA-256 of all that it holds.

    The digest is the comment of the ZIP archive that ``torch.save`` writes, which ``torch.load`` ignores.

    Args:
        content: What to write.
        path: The file; an existing one is replaced once the new one is complete.

    Raises:
        ValueError: If the folder of the file does not exist.
        OSError: If the file cannot be written; an existing one is left as it was.
    """
    with whole_file(path) as partial:
        with partial.open("wb") as file:
            safe = _Writer(file)
            torch.save(content, safe)  # type: ignore[arg-type]  # which asks for `write` alone
            safe.check()
        _seal(partial)


class _Writer(io.RawIOBase):
    """A file that keeps what goes wrong for later: an error that met torch's writer would abort the interpreter.

    Args:
        file: The file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: BaseException | None = None

    def writable(self) -> bool:
        """Return that it can be written to."""
        return True

    def write(self, data: Any) -> int:
        """Write bytes, if nothing went wrong before, and return their number.

        Args:
            data: The bytes.
        """
        if self.error is None:
            try:
                self.file.write(data)
            except BaseException as error:  # a full disk, or an interrupt
                self.error = error
        return len(memoryview(data).cast("B"))

    def check(self) -> None:
        """Raise what went wrong, also in what was not on the disk yet."""
        if self.error is not None:
            raise self.error
        self.file.flush()


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
    if not isinstance(content, dict) or mark not in content:
        raise ValueError(f"path must be a file written by {writer} in format {form}, got {path}: of another kind")
    check_format(content[mark], form, writer=writer, path=path)
    if missing := sorted(keys - content.keys()):
        raise ValueError(
            f"{missing[0]!r} must be in a file written by {writer} in format {form}, got {path} without it"
        )
    return content


def check_format(found: object, form: int, *, writer: str, path: object) -> None:
    """Check the number of a file's format.

    Args:
        found: The number that the file has.
        form: The number that is read.
        writer: Name of the function that writes such files, for the message.
        path: The file, for the message.

    Raises:
        ValueError: If it is another one; of a newer format the message says so.
    """
    if type(found) is int and found == form:
        return
    got = f"format {found}" if type(found) is int else "a format that is no number"
    newer = ", which a newer version has written" if type(found) is int and found > form else ""
    raise ValueError(f"path must be a file written by {writer} in format {form}, got {path} in {got}{newer}")


def read_json(path: str | os.PathLike[str], *, what: str) -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        what: What it must be, for the message, such as "the config.json of a run".

    Raises:
        ValueError: If there is no such file, or it is no JSON text in UTF-8.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        found = f"no such file ({path})" if isinstance(error, FileNotFoundError) else f"'{path}' ({error!r})"
        raise ValueError(f"folder must hold {what}, got {found}") from error


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
        _check_archive(Path(path))
        content: object = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # whatever a damaged file makes torch raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"path must be a file written by {writer}, got {path}: damaged ({reason})") from error
    return content


def _check_archive(path: Path) -> None:
    """Raise if a file is no archive of what is stored as it is, which cannot grow when it is read."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    if any(part.compress_type != zipfile.ZIP_STORED or part.file_size > part.compress_size for part in parts):
        raise ValueError("its parts are compressed")


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
    except (RuntimeError, TypeError, AttributeError, KeyError) as error:  # torch refuses some states by each of them
        raise ValueError(f"{name} must be made as when {path} was saved: {error}") from error
