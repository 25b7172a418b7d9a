"""What a schedule comes to at each time of a run of so many epochs."""

import math

import pytest

from bnn_pyro.inference.svi.schedule import Schedule
from bnn_pyro.inference.svi.timetable import Timetable


def test_gates_are_held_then_free_then_frozen() -> None:
    modes = [Timetable(Schedule(hold=2, freeze=1), 6).gate_mode(epoch) for epoch in range(6)]
    assert modes == ["open", "open", "free", "free", "free", "frozen"]
    assert [Timetable(Schedule(), 2).gate_mode(epoch) for epoch in range(2)] == ["free", "free"]


def test_the_divergence_warms_up() -> None:
    timetable = Timetable(Schedule(kl_warmup=4), 10, kl_weight=0.5)
    assert [timetable.kl_weight_at(time) for time in (0, 1, 2, 4, 9.5)] == pytest.approx([0, 0.125, 0.25, 0.5, 0.5])
    assert Timetable(Schedule(), 10).kl_weight_at(0) == 1.0
    assert Timetable(Schedule(), 10, kl_weight=0).kl_weight_at(5) == 0


def test_the_weight_while_gates_are_frozen() -> None:
    timetable = Timetable(Schedule(freeze=3, frozen_kl_weight=0.1), 10, kl_weight=1.0)
    assert [timetable.kl_weight_at(time) for time in (6.9, 7, 9.9)] == [1.0, 0.1, 0.1]


def test_learning_rates_fall_to_zero_by_a_cosine() -> None:
    timetable = Timetable(Schedule(decay=0.4), 10)
    assert [timetable.rate_at(time) for time in (0, 5.9, 6)] == pytest.approx([1, 1, 1])
    assert timetable.rate_at(7) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert [timetable.rate_at(time) for time in (8, 10)] == pytest.approx([0.5, 0])
    assert [Timetable(Schedule(decay=0), 10).rate_at(time) for time in (0, 9.99)] == [1, 1]
    assert [Timetable(Schedule(decay=1), 10).rate_at(time) for time in (0, 5, 10)] == pytest.approx([1, 0.5, 0])


def test_temperature_moves_geometrically() -> None:
    timetable = Timetable(Schedule(temperature=(1.0, 0.01)), 10)
    assert [timetable.temperature_at(time) for time in (0, 5, 10)] == pytest.approx([1, 0.1, 0.01])
    assert Timetable(Schedule(temperature=(0.5, 0.5)), 10).temperature_at(3) == 0.5
    assert Timetable(Schedule(temperature=0.5), 10).temperature_at(3) == 0.5
    assert Timetable(Schedule(), 10).temperature_at(3) is None


def test_what_a_resumed_run_was_begun_with() -> None:
    schedule = Schedule(hold=1, temperature=0.5, shrink_below=0.1, patience=3)
    assert Timetable(schedule, 7, kl_weight=0.5).settings() == {
        **{"epochs": 7, "hold": 1, "freeze": 0, "kl_weight": 0.5, "kl_warmup": 0.0, "decay": 0.4},
        **{"temperature": (0.5, 0.5), "frozen_kl_weight": None, "shrink_below": 0.1, "patience": 3},
    }


@pytest.mark.parametrize(
    ("schedule", "epochs", "kl_weight", "message"),
    [
        (Schedule(), 0, 1.0, "epochs must be at least 1, got 0"),
        (Schedule(), 4, -0.1, "kl_weight must be finite and not negative, got -0.1"),
        (Schedule(), 4, float("nan"), "kl_weight must be finite and not negative, got nan"),
        (Schedule(hold=2, freeze=2), 4, 1.0, r"hold \+ freeze must be below epochs \(4\), got 2 \+ 2"),
        (Schedule(hold=4), 4, 1.0, r"hold \+ freeze must be below epochs"),
    ],
)
def test_bad_timetables(schedule: Schedule, epochs: int, kl_weight: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Timetable(schedule, epochs, kl_weight)
