"""Schedule and LearningRates: what changes during a run of SVI, and how fast each kind of parameter learns."""

import math
from dataclasses import dataclass, replace

from bnn_pyro.arguments import check_reals, check_whole, check_wholes


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
        TypeError: If one is no number.
        ValueError: If one is negative or not finite.
    """

    slab_locs: float = 1e-3
    slab_scales: float = 5e-3
    scales: float = 5e-3
    gates: float = 1e-2
    points: float = 1e-3

    def __post_init__(self) -> None:
        check_reals({f"rates.{name}": value for name, value in vars(self).items()})
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"rates.{name} must be finite and not negative, got {value}")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    r"""What changes in the course of a run of SVI; :class:`~bnn_pyro.inference.svi.timetable.Timetable` says when.

    The gates are held open for ``hold`` epochs, so that slabs settle before nodes are judged; their probabilities
    stay where they are then, and weight the slabs' divergence still. After that the gates are free, and for the last
    ``freeze`` epochs frozen at :math:`\gamma > 1/2`.

    Args:
        hold: Epochs at the start with all gates held open.
        freeze: Epochs at the end with gates frozen at :math:`\gamma > 1/2`.
        kl_warmup: Epochs over which the KL weight rises linearly from 0.
        frozen_kl_weight: Weight of the divergence while gates are frozen, and so that of the posterior in the end; None
            keeps that of the run. A large weight to prune and a smaller one to settle.
        decay: Fraction of the run over which all learning rates fall to 0 by a cosine, at its end.
        temperature: Temperature of straight-through or of relaxed gates, or (first, last) of a geometric schedule; None
            leaves the guide's. The ReinMax gradient, the usual one, has none.
        shrink_below: Leave out nodes whose inclusion probability has fallen below this after an epoch with free gates
            (below 1/2 once gates are frozen), so that the rest of the run gets cheaper; in the posterior they are
            closed for good (:math:`\gamma = 10^{-6}`). None trains all nodes to the end. 0.01 is a good value.
        patience: Stop after so many epochs without a better validation NLL, and return the best epoch in place of the
            last; needs validation data. Epochs are compared with those of the same gates, free or frozen, and the same
            KL weight as the last one: an epoch with gates held open, or one of the warm-up, is no candidate, and once
            gates are frozen the best of the frozen epochs is returned. None returns the last epoch.

    Raises:
        TypeError: If something is of another type.
        ValueError: If a number is out of range.
    """

    hold: int = 0
    freeze: int = 0
    kl_warmup: float = 0.0
    frozen_kl_weight: float | None = None
    decay: float = 0.4
    temperature: float | tuple[float, float] | None = None
    shrink_below: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        check_wholes({"hold": self.hold, "freeze": self.freeze}, 0)
        optional = {"frozen_kl_weight": self.frozen_kl_weight, "shrink_below": self.shrink_below}
        check_reals({"kl_warmup": self.kl_warmup, "decay": self.decay}, optional=optional)
        _check_temperature(self.temperature)
        if not (math.isfinite(self.kl_warmup) and self.kl_warmup >= 0):
            raise ValueError(f"kl_warmup must be finite and not negative, got {self.kl_warmup}")
        if self.frozen_kl_weight is not None and not (0 <= self.frozen_kl_weight < math.inf and self.freeze):
            raise ValueError(
                f"frozen_kl_weight must not be negative and needs freeze > 0, got {self.frozen_kl_weight} "
                f"with freeze={self.freeze}"
            )
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must lie in [0, 1], got {self.decay}")
        if not all(math.isfinite(t) and t > 0 for t in self.temperatures or ()):
            raise ValueError(f"temperature must be positive and finite, got {self.temperature}")
        if self.shrink_below is not None and not 0 < self.shrink_below < 0.5:
            raise ValueError(f"shrink_below must lie in (0, 0.5), got {self.shrink_below}")
        if self.patience is not None:
            check_whole("patience", self.patience)

    @property
    def temperatures(self) -> tuple[float, float] | None:
        """The first and the last temperature; None where it is left as it is."""
        temperature = self.temperature
        return (temperature, temperature) if isinstance(temperature, (int, float)) else temperature

    def stretched(self, ratio: float) -> "Schedule":
        """Return the same schedule for a longer or shorter run, its phases in proportion.

        Args:
            ratio: New number of epochs over the old one.
        """
        hold, freeze = (int(phase * ratio) for phase in (self.hold, self.freeze))
        frozen = self.frozen_kl_weight if freeze else None
        return replace(self, hold=hold, freeze=freeze, kl_warmup=self.kl_warmup * ratio, frozen_kl_weight=frozen)


def _check_temperature(temperature: object) -> None:
    if isinstance(temperature, tuple | list):
        if len(temperature) != 2:
            raise ValueError(f"temperature must be a number or (first, last), got {temperature!r}")
        check_reals({"temperature[0]": temperature[0], "temperature[1]": temperature[1]})
    else:
        check_reals({}, optional={"temperature": temperature})
