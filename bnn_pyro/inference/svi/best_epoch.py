"""BestEpoch: the state of a run of SVI after the epoch with the best validation score, kept while the run goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from guides.protocols import Guide

Record = Mapping[str, Any]
Phase = tuple[str, float]


def phase_of(record: Record) -> Phase | None:
    """Return what an epoch has been trained for; None while gates are held open, when nothing is selected yet.

    Validation scores are compared within one phase alone: a posterior of another KL weight, as of each epoch of a
    warm-up, is another posterior, and once gates are frozen the network is another one.

    Args:
        record: The record of the epoch.
    """
    return None if record["gates"] == "open" else (record["gates"], record["kl_weight"])


def is_stalled(history: Sequence[Record], patience: int) -> bool:
    """Return whether the validation NLL has not improved for so many epochs of the phase of the last one.

    Args:
        history: The records, one at least.
        patience: How many epochs.
    """
    phase = phase_of(history[-1])
    nll = [record["validation_nll"] for record in history if phase_of(record) == phase]
    return phase is not None and len(nll) > patience and min(nll[-patience:]) >= min(nll[:-patience])


@dataclass(frozen=True)
class BestEpoch:
    """An epoch and the state after it.

    Attributes:
        epoch: Its number, counted from 1.
        nll: Its validation NLL.
        phase: What it was trained for.
        model: State of the whole network.
        guide: State of its guide.
    """

    epoch: int
    nll: float
    phase: Phase
    model: dict[str, Tensor]
    guide: dict[str, Tensor]

    @classmethod
    def of(cls, record: Record, phase: Phase, model: nn.Module, guide: Guide) -> "BestEpoch":
        """Return the epoch that has just ended, with copies of its state.

        Args:
            record: Its record.
            phase: What it was trained for.
            model: The whole network.
            guide: Its guide.
        """
        return cls(record["epoch"], record["validation_nll"], phase, _copy(model), _copy(guide))

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "BestEpoch":
        """Return the epoch that was saved as ``vars`` of it.

        Args:
            values: Its attributes by name.
        """
        return cls(**{**values, "phase": tuple(values["phase"])})

    def is_worse_than(self, record: Record, phase: Phase) -> bool:
        """Return whether another epoch is to take its place: one of another, later phase, or with a lower NLL.

        Args:
            record: The record of the other epoch.
            phase: What that one was trained for.
        """
        return phase != self.phase or record["validation_nll"] < self.nll

    def restore(self, model: nn.Module, guide: Guide) -> None:
        """Give a network and its guide the state of this epoch, in place.

        Args:
            model: The whole network.
            guide: Its guide.
        """
        model.load_state_dict(self.model)
        guide.load_state_dict(self.guide)


def _copy(module: nn.Module | Guide) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
