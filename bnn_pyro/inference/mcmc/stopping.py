"""StoppingRule: how long chains go on, by whether they have mixed and by the seconds that there are."""

import math
from dataclasses import dataclass

from torch import Tensor

from bnn_pyro.arguments import check_reals, check_whole
from bnn_pyro.posterior.diagnostics import MIXED_MEDIAN, MIXED_TAIL, r_hat_summary


@dataclass(frozen=True, kw_only=True)
class StoppingRule:
    r"""How long chains go on: until they have mixed, at most so many rounds or seconds.

    A first round makes the transitions of the plan. While the chains have not mixed the next round makes as many as all
    rounds before it, and the draws are those of the last half of all, evenly thinned to the number that the plan keeps.
    Chains have mixed where :math:`\hat R` of what is asked of them is near 1: of a network the predictions on training
    rows, as its weights have symmetries that chains need not share; of another model every entry of its sites.

    A run that would take more than ``seconds`` even for its first round has warm-up and round shortened in proportion,
    by the time that its first transitions take. Seconds depend on the machine: only a run that they did not stop gives
    the same draws again.

    Args:
        median: Most that the median of :math:`\hat R` may be.
        tail: Most that its 95 % quantile may be.
        rounds: Most rounds.
        seconds: Most seconds of sampling; None for no limit.

    Raises:
        ValueError: If a number is out of range.
    """

    median: float = MIXED_MEDIAN
    tail: float = MIXED_TAIL
    rounds: int = 3
    seconds: float | None = None

    def __post_init__(self) -> None:
        check_reals({"median": self.median, "tail": self.tail}, optional={"seconds": self.seconds})
        for name in ("median", "tail"):
            if not getattr(self, name) > 1:
                raise ValueError(f"{name} must be above 1, where all chains agree, got {getattr(self, name)}")
        check_whole("rounds", self.rounds)
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise ValueError(f"seconds must be positive and finite, or None, got {self.seconds}")

    def is_met(self, r_hat: Tensor) -> bool:
        """Return whether chains have mixed.

        Args:
            r_hat: Of everything that is asked of them, shape ``(quantities,)``; NaN where all draws are the same.
        """
        median, tail = r_hat_summary(r_hat)
        return median <= self.median and tail <= self.tail
