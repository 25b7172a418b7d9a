"""Checkpoint: where and how often a run is saved, so that it can be resumed."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Checkpoint:
    """Where and how often a run is saved, so that it can be resumed.

    Args:
        path: The file.
        every: Epochs or transitions from one save to the next; None for 1 epoch of ``fit`` and 100 transitions of
            ``sample``. The end of a run is saved, too.

    Raises:
        ValueError: If ``every`` is below 1.
    """

    path: str | os.PathLike[str]
    every: int | None = None

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise ValueError(f"every must be at least 1, got {self.every}")

    @staticmethod
    def of(given: "str | os.PathLike[str] | Checkpoint | None") -> "Checkpoint | None":
        """Return what a driver was given as a checkpoint; a path alone is saved to as often as is usual.

        Args:
            given: A checkpoint, the path of one, or None for a run that is not saved.

        Raises:
            ValueError: If the file is a folder, or in one that does not exist.
        """
        if given is None:
            return None
        checkpoint = given if isinstance(given, Checkpoint) else Checkpoint(given)
        path = Path(checkpoint.path)
        if path.is_dir() or not path.parent.is_dir():
            raise ValueError(f"checkpoint must be a file in a folder that exists, got {path}")
        return checkpoint
