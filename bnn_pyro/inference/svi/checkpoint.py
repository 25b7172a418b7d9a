"""The file from which a run of ``fit`` that was stopped is resumed."""

import logging
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from bnn_pyro.fields import FLAG, HISTORY, NUMBER, STATE, VALUES, WHOLE, check_fields, one_of
from bnn_pyro.inference.checkpoint import Pace, check_begun_with
from bnn_pyro.inference.generators import RandomState
from bnn_pyro.inference.svi.run_identity import START, unlike
from bnn_pyro.storage import read_whole, write_whole
from guides.protocols import GateMode

logger = logging.getLogger(__name__)

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


class Saved(NamedTuple):
    """What a file has of a run.

    Attributes:
        settings: What it was begun with, plain values by name.
        progress: How far it has got.
        probe: Numbers by which its net and guide are known; older files have none.
    """

    settings: dict[str, Any]
    progress: Progress
    probe: dict[str, Tensor]

    @property
    def seed(self) -> int:
        """The seed that the run was begun with."""
        check_fields(self.settings, {"seed": WHOLE}, "the checkpoint")
        return int(self.settings["seed"])


@dataclass(frozen=True)
class RunFile:
    """The file that the progress of a run is saved in.

    Args:
        path: The file.
        pace: When it is written; the end of the run is saved, too.
        settings: What must be the same when the run is resumed, plain values by name.
        probe: Numbers that must be the same up to rounding, but for those of the start, which are in the file.
    """

    path: str | os.PathLike[str]
    pace: Pace
    settings: dict[str, object]
    probe: dict[str, Tensor] = field(default_factory=dict)

    def is_due(self, epochs: int) -> bool:
        """Return whether progress is written after so many epochs."""
        return self.pace.is_due(epochs)

    def write(self, progress: Progress) -> None:
        """Write the file, whole or not at all; the one before is replaced then.

        Args:
            progress: What to save.
        """
        begun_with = {"settings": self.settings, "probe": self.probe}
        write_whole({"run": FORMAT, **begun_with, **vars(progress)}, self.path)
        self.pace.note()

    def check(self, saved: Saved) -> None:
        """Check that a run that was saved is this one. What an older file does not have is not compared.

        Args:
            saved: What its file has.

        Raises:
            ValueError: If it was begun with something else.
        """
        found = [name for name in unlike(saved.probe, self.probe) if name != START]
        check_begun_with(saved.settings, self.settings, self.path, unlike=found)
        if not self.settings.keys() <= saved.settings.keys():
            logger.warning(
                "an older version began the run in %s: its file does not say with what %s, which is not compared",
                self.path,
                ", ".join([name for name in self.settings if name not in saved.settings and "." not in name]),
            )
        if START in unlike(saved.probe, self.probe):
            logger.warning(
                "%s are not those of the run in %s, which is resumed with its own: give another checkpoint to start "
                "from others",
                START,
                self.path,
            )


_FIELDS = {
    **{"settings": VALUES, "epoch": WHOLE, "since": WHOLE, "is_over": FLAG, "kl_weight": NUMBER},
    **{"gate_mode": one_of("free", "open", "frozen"), "history": HISTORY, "model": STATE, "guide": STATE},
    **{"keep": STATE, "steps": VALUES, "random": STATE},
}


def read_progress(path: str | os.PathLike[str] | None) -> Saved | None:
    """Read what :meth:`RunFile.write` wrote.

    Args:
        path: The file, or None.

    Returns:
        What it has, on the CPU; None where there is no file yet.

    Raises:
        ValueError: If the file is damaged, or of another kind.
    """
    if path is None or not Path(path).exists():
        return None
    names = {field.name for field in fields(Progress)}
    content = read_whole(path, writer=_WRITER, mark="run", form=FORMAT, keys={"settings", *names} - {"best"})
    check_fields(content, _FIELDS, path)
    check_fields(content, {"probe": STATE} if "probe" in content else {}, path)
    progress = Progress(**{name: value for name, value in content.items() if name in names})
    return Saved(content["settings"], progress, content.get("probe", {}))
