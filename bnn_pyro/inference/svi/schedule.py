"""What changes during training: the gates, the KL weight, the temperature, the learning rates."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LearningRates:
    """Learning rates by the role of a parameter.

    Args:
        slab_locs: Of the slabs' means.
        slab_scales: Of the slabs' standard deviations.
        scales: Of the positive scales' posteriors (both of their parameters).
        gates: Of the gates' log-odds.
        points: Of parameters without a slab, and of every parameter of a guide that is not ours.

    Raises:
        ValueError: If one is negative.
    """

    slab_locs: float = 1e-3
    slab_scales: float = 5e-3
    scales: float = 5e-3
    gates: float = 1e-2
    points: float = 1e-3

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"learning_rates.{name} must be finite and not negative, got {value}")


@dataclass(frozen=True)
class Schedule:
    r"""When what happens in a run of ``epochs`` epochs.

    The gates are held open for ``hold`` epochs, so that slabs settle before nodes are judged; their probabilities
    stay where they are then, and weight the slabs' divergence as ever. After that the gates are free, and for the last
    ``freeze`` epochs frozen at :math:`\gamma > 1/2`. The KL weight rises linearly to ``kl_weight`` over the first
    ``kl_warmup`` epochs, and is ``frozen_kl_weight`` once the gates are frozen. All learning rates fall to 0 by a
    cosine over the last ``decay`` of the run. The temperature moves geometrically from its first to its second value.

    Args:
        epochs: Number of epochs.
        hold: Epochs at the start with gates held open.
        freeze: Epochs at the end with gates frozen.
        kl_weight: Weight of the divergence; 1 is the posterior, less a tempered one.
        kl_warmup: Epochs until the KL weight is reached.
        decay: Fraction of the run over which learning rates fall.
        temperature: (first, last) temperature of the gates' gradient; None leaves it as it is.
        frozen_kl_weight: Weight of the divergence while gates are frozen: that of the posterior in the end; None keeps
            ``kl_weight``.

    Raises:
        ValueError: If a number is out of range, or hold and freeze leave no epoch for free gates.
    """

    epochs: int
    hold: int = 0
    freeze: int = 0
    kl_weight: float = 1.0
    kl_warmup: float = 0.0
    decay: float = 0.4
    temperature: tuple[float, float] | None = None
    frozen_kl_weight: float | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")
        for name in ("hold", "freeze", "kl_weight", "kl_warmup"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name} must be finite and not negative, got {getattr(self, name)}")
        if self.frozen_kl_weight is not None and (self.frozen_kl_weight < 0 or not self.freeze):
            raise ValueError(
                f"frozen_kl_weight must not be negative and needs freeze > 0, got {self.frozen_kl_weight} "
                f"with freeze={self.freeze}"
            )
        if self.hold + self.freeze >= self.epochs and self.hold + self.freeze:
            raise ValueError(f"hold + freeze must be below epochs ({self.epochs}), got {self.hold} + {self.freeze}")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must lie in [0, 1], got {self.decay}")
        if self.temperature is not None and not all(math.isfinite(t) and t > 0 for t in self.temperature):
            raise ValueError(f"temperature must be positive and finite, got {self.temperature}")

    def gate_mode(self, epoch: int) -> Literal["open", "free", "frozen"]:
        """Returns what the gates do in an epoch (counted from 0)."""
        if epoch < self.hold:
            return "open"
        return "frozen" if epoch >= self.epochs - self.freeze else "free"

    def kl_weight_at(self, time: float) -> float:
        """Returns the KL weight after ``time`` epochs."""
        if self.frozen_kl_weight is not None and time >= self.epochs - self.freeze:
            return self.frozen_kl_weight
        return self.kl_weight * (min(1.0, time / self.kl_warmup) if self.kl_warmup else 1.0)

    def rate_at(self, time: float) -> float:
        """Returns the factor on all learning rates after ``time`` epochs."""
        left = 1 - time / self.epochs
        return 0.5 * (1 - math.cos(math.pi * left / self.decay)) if left < self.decay else 1.0

    def temperature_at(self, time: float) -> float | None:
        """Returns the temperature after ``time`` epochs; None where it is left as it is."""
        if self.temperature is None:
            return None
        first, last = self.temperature
        return float(first * (last / first) ** (time / self.epochs))
