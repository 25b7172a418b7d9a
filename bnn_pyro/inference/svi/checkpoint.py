"""The file from which a run of ``fit`` that was stopped is resumed."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from bnn_pyro.inference.generators import RandomState
from bnn_pyro.storage import read_whole, write_whole
from guides.protocols import GateMode

FORMAT = 1
_WRITER = "fit(checkpoint=...)"


@dataclass(frozen=True)
class Progress:
    """All that the rest of a run depends on, whatever the number of processes: tensors and plain values.

    Attributes:
        epoch: Epochs that are done.
        since: The first epoch with the network of now.
        is_over: Whether there are none to come.
        kl_weight: Weight of the divergence in the latest step.
        gate_mode: What the gates did last.
        history: The records.
        model: State of the whole network.
        guide: State of its guide.
        keep: Group -> which nodes are still trained, bool, shape ``(size,)``; empty where all are.
        steps: State of the optimiser.
        random: State of the generators.
        best: The epoch to be returned if none is better, with its state; None where none is kept.
    """

    epoch: int
    since: int
    is_over: bool
    kl_weight: float
    gate_mode: GateMode
    history: list[dict[str, Any]]
    model: dict[str, Tensor]
    guide: dict[str, Tensor]
    keep: dict[str, Tensor]
    steps: dict[str, Any]
    random: RandomState
    best: dict[str, Any] | None = None  # files of older runs have none


@dataclass(frozen=True)
class RunFile:
    """The file that the progress of a run is saved in.

    Args:
        path: The file.
        every: Epochs from one save to the next; the end of the run is saved, too.
        settings: What must be the same when the run is resumed, plain values by name.
    """

    path: str | os.PathLike[str]
    every: int
    settings: dict[str, object]

    def is_due(self, epochs: int) -> bool:
        """Return whether progress is written after so many epochs."""
        return epochs % self.every == 0

    def write(self, progress: Progress) -> None:
        """Write the file, whole or not at all; the one before is replaced then.

        Args:
            progress: What to save.
        """
        write_whole({"run": FORMAT, "settings": self.settings, **vars(progress)}, self.path)

    def check(self, settings: Mapping[str, object]) -> None:
        """Check that a run that was saved is this one.

        Args:
            settings: Its settings.

        Raises:
            ValueError: If one of them is another now.
        """
        for name, value in self.settings.items():
            if settings.get(name) != value:
                raise ValueError(
                    f"{name} must be {settings.get(name)!r}, as when the run in {self.path} was begun, got {value!r}: "
                    "give another checkpoint to begin a new run"
                )


def read_progress(path: str | os.PathLike[str] | None) -> tuple[dict[str, Any], Progress] | None:
    """Read what :meth:`RunFile.write` wrote.

    Args:
        path: The file, or None.

    Returns:
        The run's settings and its progress, on the CPU; None where there is no file yet.

    Raises:
        ValueError: If the file is damaged, or of another kind.
    """
    if path is None or not Path(path).exists():
        return None
    names = {field.name for field in fields(Progress)}
    content = read_whole(path, writer=_WRITER, mark="run", form=FORMAT, keys={"settings", *names} - {"best"})
    return content["settings"], Progress(**{name: value for name, value in content.items() if name in names})
