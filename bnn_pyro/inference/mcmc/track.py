"""Track: what is kept of Markov chains, a draw every so many transitions, and how each was reached."""

from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from bnn_pyro.fields import STATE, STATES, check_fields
from bnn_pyro.inference.mcmc.kernel import Move, State

KEPT = frozenset({"vectors", "energy", "total_energy", "acceptance", "diverged", "leapfrogs"})
"""Names of what is kept of a draw."""


@dataclass
class Track:
    """What has been kept of a chain, or of a batch of them, under the names of the fields of ``Draws``.

    Args:
        thinning: Transitions per draw.
    """

    thinning: int
    kept: dict[str, list[Tensor]] = field(default_factory=dict)
    pending: list[dict[str, Tensor]] = field(default_factory=list)

    def add(self, position: Tensor, energy: Tensor, move: Move) -> None:
        """Take note of a transition.

        Args:
            position: Where it led.
            energy: The potential energy there.
            move: How it went.
        """
        self.pending.append({f.name: getattr(move, f.name) for f in fields(Move)})
        if len(self.pending) < self.thinning:
            return
        parts = {name: torch.stack([each[name] for each in self.pending]) for name in self.pending[0]}
        draw = {
            "vectors": position,
            "energy": energy,
            "total_energy": parts["total_energy"][-1],
            "acceptance": parts["acceptance"].mean(0),
            "diverged": parts["diverged"].sum(0),
            "leapfrogs": parts["leapfrogs"].sum(0),
        }
        for name, value in draw.items():
            self.kept.setdefault(name, []).append(value)
        self.pending.clear()

    def stacked(self, dim: int = 0) -> dict[str, Tensor]:
        """Return what has been kept, with a dimension for the draws.

        Args:
            dim: Where to put it.
        """
        return {name: torch.stack(values, dim) for name, values in self.kept.items()}

    def state_dict(self) -> State:
        """Return what has been kept as tensors."""
        return {"kept": self.stacked(), "pending": list(self.pending)}

    def load_state_dict(self, state: State) -> None:
        """Take over what another one has kept.

        Args:
            state: Its state.

        Raises:
            ValueError: If it is damaged.
        """
        check_fields(state, {"kept": STATE, "pending": STATES}, "the track of the run")
        if state["kept"] and state["kept"].keys() != KEPT:
            raise ValueError(f"'kept' in the track of the run must have {', '.join(sorted(KEPT))}")
        self.kept = {name: list(values) for name, values in state["kept"].items()}
        self.pending = list(state["pending"])
