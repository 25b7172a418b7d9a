"""Checkpoint: where and how often a run is saved, so that it can be resumed."""

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bnn_pyro.arguments import check_reals, check_whole
from bnn_pyro.fields import VALUES, WHOLE, check_fields
from bnn_pyro.identity import Identity, differences, is_short, others
from bnn_pyro.storage import read_whole, write_whole

FORMAT = 1  # of the file of a run of epochs


@dataclass(frozen=True)
class Checkpoint:
    """Where and how often a run is saved, so that it can be resumed.

    Args:
        path: The file.
        every: Epochs or transitions from one save to the next; None for 1 epoch and 100 transitions of ``sample``. The
            end of a run is saved, too.
        seconds: Least seconds from one save to the next, for runs of many short epochs; what is lost by a kill is no
            more than these and an epoch.

    Raises:
        ValueError: If ``every`` is below 1, or ``seconds`` is negative or not finite.
    """

    path: str | os.PathLike[str]
    every: int | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.every is not None:
            check_whole("every", self.every)
        check_reals({"seconds": self.seconds})
        if not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise ValueError(f"seconds must be finite and not negative, got {self.seconds}")

    @staticmethod
    def of(given: "str | os.PathLike[str] | Checkpoint | None") -> "Checkpoint | None":
        """Return what a driver was given as a checkpoint; a path alone is saved to as often as is usual.

        Args:
            given: A checkpoint, the path of one, or None for a run that is not saved.

        Raises:
            TypeError: If it is none of these.
            ValueError: If the file is a folder, or in one that does not exist.
        """
        if given is None:
            return None
        if not isinstance(given, Checkpoint | str | os.PathLike):
            raise TypeError(f"checkpoint must be a path, a Checkpoint or None, got {type(given).__name__}")
        checkpoint = given if isinstance(given, Checkpoint) else Checkpoint(given)
        path = Path(checkpoint.path)
        if path.is_dir() or not path.parent.is_dir():
            raise ValueError(f"checkpoint must be a file in a folder that exists, got {path}")
        return checkpoint

    def pace(self, usual: int = 1) -> "Pace":
        """Return what says when a run is saved.

        Args:
            usual: Epochs or transitions from one save to the next where ``every`` is None.
        """
        return Pace(self.every or usual, self.seconds)


class Pace:
    """When a run is saved.

    Args:
        every: Epochs or transitions from one save to the next.
        seconds: Least seconds from one save to the next.
    """

    def __init__(self, every: int = 1, seconds: float = 0.0) -> None:
        self.every, self.seconds = every, seconds
        self._latest = time.monotonic()

    def is_due(self, done: int) -> bool:
        """Return whether the run is saved after so many epochs or transitions.

        Args:
            done: Their number.
        """
        return done % self.every == 0 and time.monotonic() - self._latest >= self.seconds

    def note(self) -> None:
        """Note that the run is saved now."""
        self._latest = time.monotonic()


class EpochFile:
    """The file of a run of epochs: what it was begun with, and how far it has got.

    Args:
        checkpoint: Where and how often the run is saved.
        writer: Name of the function that makes the run, for messages.
        mark: Key of the format's number.

    Raises:
        ValueError: If the file is damaged, or of another kind.
    """

    def __init__(self, checkpoint: Checkpoint, *, writer: str, mark: str) -> None:
        self.path, self.pace, self.mark = Path(checkpoint.path), checkpoint.pace(), mark
        self.saved: dict[str, Any] | None = None
        self.begun_with: Identity = {}
        if self.path.exists():
            fields = {"begun_with": VALUES, "state": VALUES}
            self.saved = read_whole(
                self.path, writer=f"{writer}(checkpoint=...)", mark=mark, form=FORMAT, keys=set(fields)
            )
            check_fields(self.saved, fields, self.path)

    def seed(self, given: int | None) -> int:
        """Return the seed of the run: the one given, that of the file, or one from the global random state.

        Args:
            given: The seed, or None.
        """
        drawn = int(torch.randint(2**31, ())) if given is None else given
        if given is not None or self.saved is None:
            return drawn
        check_fields(self.saved["begun_with"], {"seed": WHOLE}, self.path)
        return int(self.saved["begun_with"]["seed"])

    def begin(self, begun_with: Identity) -> dict[str, Any] | None:
        """Return the state of the run that was saved; None where there is none.

        Args:
            begun_with: All that decides the run, plain values by name.

        Raises:
            ValueError: If the file is of a run with another beginning.
        """
        self.begun_with = begun_with
        if self.saved is None:
            return None
        check_begun_with(self.saved["begun_with"], begun_with, self.path)
        state: dict[str, Any] = self.saved["state"]
        return state

    def write(self, state: Mapping[str, object]) -> None:
        """Write the file, whole or not at all.

        Args:
            state: Tensors and plain values that the rest of the run depends on.
        """
        write_whole({self.mark: FORMAT, "begun_with": self.begun_with, "state": dict(state)}, self.path)
        self.pace.note()


@contextmanager
def restoring(path: object) -> Iterator[None]:
    """Turn what the state of a damaged file makes a run raise into a ValueError.

    Args:
        path: The file, for the message.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError, OverflowError) as error:
        raise ValueError(f"checkpoint must be a file of a run, got {path}: its state is damaged ({error!r})") from error


def check_begun_with(
    there: Mapping[str, object],
    here: Mapping[str, object],
    path: object,
    *,
    unlike: Sequence[str] = (),
    remedy: str = "give another checkpoint to begin a new run",
) -> None:
    """Check that a run that was saved is this one.

    Args:
        there: What it was begun with, plain values by name. What it does not name is not compared.
        here: What this run is begun with.
        path: Its file, for the message.
        unlike: Names of what differs besides.
        remedy: What the message says is to be done.

    Raises:
        ValueError: If something differs; the message names it.
    """
    different = differences(there, here)
    names = [*different, *unlike]
    if not names:
        return
    name = names[0]
    is_shown = name in different and is_short(there[name]) and is_short(here.get(name))
    must, got = (repr(there[name]), repr(here.get(name))) if is_shown else ("the same", "another one")
    raise ValueError(f"{name} must be {must}, as when the run in {path} was begun, got {got}{others(names)}: {remedy}")
