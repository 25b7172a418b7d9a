"""Schedules and learning rates: stretched to longer runs, checked at once."""

from dataclasses import replace
from typing import Any

import pytest

from bnn_pyro.inference.svi.schedule import LearningRates, Schedule


def test_a_temperature_is_a_pair_of_them() -> None:
    assert Schedule(temperature=0.3).temperatures == (0.3, 0.3) and Schedule(temperature=1).temperatures == (1, 1)
    assert Schedule(temperature=(1.0, 0.1)).temperatures == (1.0, 0.1) and Schedule().temperatures is None


def test_phases_keep_their_share_of_the_epochs() -> None:
    schedule = Schedule(hold=5, freeze=4, kl_warmup=2.5, frozen_kl_weight=0.1, shrink_below=0.2, decay=0.3)
    assert schedule.stretched(2.0) == replace(schedule, hold=10, freeze=8, kl_warmup=5.0)
    assert schedule.stretched(0.05) == Schedule(kl_warmup=0.125, shrink_below=0.2, decay=0.3)  # none left to freeze


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hold": -1}, "hold must be at least 0, got -1"),
        ({"freeze": -1}, "freeze must be at least 0, got -1"),
        ({"kl_warmup": -1}, "kl_warmup must be finite and not negative, got -1"),
        ({"decay": 1.1}, r"decay must lie in \[0, 1\], got 1.1"),
        ({"temperature": 0.0}, "temperature must be positive and finite, got 0.0"),
        ({"shrink_below": 0.5}, r"shrink_below must lie in \(0, 0.5\), got 0.5"),
        ({"patience": 0}, "patience must be at least 1, got 0"),
        ({"temperature": (1.0, 0.0)}, r"temperature must be positive and finite, got \(1.0, 0.0\)"),
        (
            {"frozen_kl_weight": 0.1},
            "frozen_kl_weight must not be negative and needs freeze > 0, got 0.1 with freeze=0",
        ),
        ({"frozen_kl_weight": -0.1, "freeze": 1}, "frozen_kl_weight must not be negative"),
    ],
)
def test_bad_schedules(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**options)


def test_bad_learning_rates() -> None:
    with pytest.raises(ValueError, match="rates.gates must be finite and not negative, got -0.1"):
        LearningRates(gates=-0.1)
