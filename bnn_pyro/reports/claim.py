"""A run's folder: claimed when the run begins, with what the run is resumed from until it ends."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bnn_pyro.identity import Identity, described
from bnn_pyro.inference.checkpoint import Checkpoint, check_begun_with
from bnn_pyro.locks import held, is_locked
from bnn_pyro.storage import whole_file

PROGRESS = ".progress"
"""The folder, in that of a run that has not ended, of what it is resumed from."""

SAVED_AFTER = 10.0
"""Least seconds from one save of a run to the next."""

_LOCK, _CALL = "lock", "call.json"


class Claim:
    """A folder that a run writes to, and no other one.

    Args:
        folder: The folder.

    Attributes:
        folder: The folder.
        progress: The folder in it of what the run is resumed from.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.progress = folder, folder / PROGRESS

    def checkpoint(self, name: str) -> Checkpoint:
        """Return where a part of the run is saved.

        Args:
            name: The part's name.
        """
        return Checkpoint(self.progress / f"{name}.pt", seconds=SAVED_AFTER)

    def begin(self, call: Mapping[str, object]) -> None:
        """Note what the run is begun with, or check that it is what it was begun with.

        Args:
            call: All that decides the run, by name: plain values, tensors, and nests of these.

        Raises:
            ValueError: If it differs from what the run that is resumed was begun with; the message names it.
        """
        here: Identity = {}
        for name, value in call.items():
            here |= described(name, value)
        path = self.progress / _CALL
        if self.is_begun:
            there = read_call(path)
            remedy = "resume it as it was begun, or name another folder"
            check_begun_with(there, here, self.folder, remedy=remedy)
        with whole_file(path) as partial:
            partial.write_text(json.dumps(here), encoding="utf-8")

    @property
    def is_begun(self) -> bool:
        """Whether there is something to resume."""
        return (self.progress / _CALL).exists() and is_resumable(self.folder)


def read_call(path: Path) -> Identity:
    """Return what a run was begun with.

    Args:
        path: The file.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"out must hold a run that can be resumed, got '{path}' ({error!r}): remove it") from error
    if not isinstance(there, dict):
        raise ValueError(f"out must hold a run that can be resumed, got '{path}' with a {type(there).__name__}")
    return there


def is_resumable(folder: str | Path) -> bool:
    """Return whether a folder holds a run that has not ended, and of which something was saved.

    Args:
        folder: The folder.
    """
    return any((Path(folder) / PROGRESS).glob("*.pt"))


def is_running(folder: str | Path) -> bool:
    """Return whether a process has claimed a folder.

    Args:
        folder: The folder.
    """
    return is_locked(Path(folder) / PROGRESS / _LOCK)


@contextmanager
def claimed(folder: Path) -> Iterator[Claim]:
    """Claim a folder, which is made, for a run that begins now; others are refused until it has ended.

    Once the run has ended, what it could be resumed from is removed. Where it fails before anything was saved, the
    folder is as it was before.

    Args:
        folder: The folder, which is known to be free.

    Yields:
        The claim.

    Raises:
        ValueError: If another process writes to the folder.
        OSError: If the folder cannot be made.
    """
    absent = [path for path in (folder, *folder.parents) if not path.exists()]
    claim = Claim(folder)
    claim.progress.mkdir(parents=True, exist_ok=True)
    with held(claim.progress / _LOCK) as is_free:
        if not is_free:
            raise ValueError(f"out must be a folder that no other process writes to, got '{folder}'")
        try:
            yield claim
        except BaseException:
            if not is_resumable(folder):
                shutil.rmtree(claim.progress, ignore_errors=True)
                for path in absent:
                    _remove_if_empty(path)
            raise
        shutil.rmtree(claim.progress, ignore_errors=True)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:  # something is in it
        pass
