"""Timetable: what the gates, the KL weight, the learning rates and the temperature are at each time of a run of SVI."""

import math
from dataclasses import dataclass

from bnn_pyro.arguments import check_reals, check_type, check_whole
from bnn_pyro.inference.svi.schedule import Schedule
from guides.protocols import GateMode


@dataclass(frozen=True)
class Timetable:
    r"""A schedule in a run of so many epochs: what is what at which time.

    Args:
        schedule: What changes.
        epochs: Number of epochs.
        kl_weight: Weight of the divergence; 1 is the posterior, less a tempered one.

    Raises:
        ValueError: If a number is out of range, or hold and freeze leave no epoch for free gates.
    """

    schedule: Schedule
    epochs: int
    kl_weight: float = 1.0

    def __post_init__(self) -> None:
        check_type("schedule", self.schedule, Schedule)
        check_whole("epochs", self.epochs)
        check_reals({"kl_weight": self.kl_weight})
        if not (math.isfinite(self.kl_weight) and self.kl_weight >= 0):
            raise ValueError(f"kl_weight must be finite and not negative, got {self.kl_weight}")
        hold, freeze = self.schedule.hold, self.schedule.freeze
        if hold + freeze >= self.epochs and hold + freeze:
            raise ValueError(f"hold + freeze must be below epochs ({self.epochs}), got {hold} + {freeze}")

    def gate_mode(self, epoch: int) -> GateMode:
        """Return what the gates do in an epoch (counted from 0)."""
        if epoch < self.schedule.hold:
            return "open"
        return "frozen" if epoch >= self.epochs - self.schedule.freeze else "free"

    def kl_weight_at(self, time: float) -> float:
        """Return the KL weight after ``time`` epochs."""
        schedule = self.schedule
        if schedule.frozen_kl_weight is not None and time >= self.epochs - schedule.freeze:
            return schedule.frozen_kl_weight
        return self.kl_weight * (min(1.0, time / schedule.kl_warmup) if schedule.kl_warmup else 1.0)

    def rate_at(self, time: float) -> float:
        """Return the factor on all learning rates after ``time`` epochs."""
        left, decay = 1 - time / self.epochs, self.schedule.decay
        return 0.5 * (1 - math.cos(math.pi * left / decay)) if left < decay else 1.0

    def temperature_at(self, time: float) -> float | None:
        """Return the temperature after ``time`` epochs; None where it is left as it is."""
        if self.schedule.temperatures is None:
            return None
        first, last = self.schedule.temperatures
        return float(first * (last / first) ** (time / self.epochs))

    def settings(self) -> dict[str, object]:
        """Return what a run that is resumed must have been begun with, plain values by name."""
        schedule = {**vars(self.schedule), "temperature": self.schedule.temperatures}
        return {**schedule, "epochs": self.epochs, "kl_weight": self.kl_weight}
