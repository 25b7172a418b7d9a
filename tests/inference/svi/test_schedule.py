"""What a schedule says at which time of a run."""

import math
from typing import Any

import pytest

from bnn_pyro.inference.svi.schedule import LearningRates, Schedule


def test_gates_are_held_then_free_then_frozen() -> None:
    modes = [Schedule(6, hold=2, freeze=1).gate_mode(epoch) for epoch in range(6)]
    assert modes == ["open", "open", "free", "free", "free", "frozen"]
    assert [Schedule(2).gate_mode(epoch) for epoch in range(2)] == ["free", "free"]


def test_the_divergence_warms_up() -> None:
    schedule = Schedule(10, kl_weight=0.5, kl_warmup=4)
    assert [schedule.kl_weight_at(time) for time in (0, 1, 2, 4, 9.5)] == pytest.approx([0, 0.125, 0.25, 0.5, 0.5])
    assert Schedule(10).kl_weight_at(0) == 1.0 and Schedule(10, kl_weight=0).kl_weight_at(5) == 0


def test_the_weight_while_gates_are_frozen() -> None:
    schedule = Schedule(10, freeze=3, kl_weight=1.0, frozen_kl_weight=0.1)
    assert [schedule.kl_weight_at(time) for time in (6.9, 7, 9.9)] == [1.0, 0.1, 0.1]


def test_learning_rates_fall_to_zero_by_a_cosine() -> None:
    schedule = Schedule(10, decay=0.4)
    assert [schedule.rate_at(time) for time in (0, 5.9, 6)] == pytest.approx([1, 1, 1])
    assert schedule.rate_at(7) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert [schedule.rate_at(time) for time in (8, 10)] == pytest.approx([0.5, 0])
    assert [Schedule(10, decay=0).rate_at(time) for time in (0, 9.99)] == [1, 1]
    assert [Schedule(10, decay=1).rate_at(time) for time in (0, 5, 10)] == pytest.approx([1, 0.5, 0])


def test_temperature_moves_geometrically() -> None:
    schedule = Schedule(10, temperature=(1.0, 0.01))
    assert [schedule.temperature_at(time) for time in (0, 5, 10)] == pytest.approx([1, 0.1, 0.01])
    assert Schedule(10, temperature=(0.5, 0.5)).temperature_at(3) == 0.5
    assert Schedule(10).temperature_at(3) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"hold": -1}, "hold must be finite and not negative, got -1"),
        ({"freeze": -1}, "freeze must be finite and not negative, got -1"),
        ({"kl_weight": -0.1}, "kl_weight must be finite and not negative, got -0.1"),
        ({"kl_weight": float("nan")}, "kl_weight must be finite and not negative, got nan"),
        ({"kl_warmup": -1}, "kl_warmup must be finite and not negative, got -1"),
        ({"hold": 2, "freeze": 2}, r"hold \+ freeze must be below epochs \(4\), got 2 \+ 2"),
        ({"hold": 4}, r"hold \+ freeze must be below epochs"),
        ({"decay": 1.1}, r"decay must lie in \[0, 1\], got 1.1"),
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
        Schedule(**{"epochs": 4, **options})


def test_bad_learning_rates() -> None:
    with pytest.raises(ValueError, match="learning_rates.gates must be finite and not negative, got -0.1"):
        LearningRates(gates=-0.1)
