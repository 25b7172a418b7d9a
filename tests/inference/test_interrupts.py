"""Signals are held between two steps, and handled as before afterwards."""

import signal
import threading
from types import FrameType

import pytest

from bnn_pyro.inference.interrupts import Interrupted, Interrupts, StepClock, holding_interrupts


def test_the_first_signal_is_noted_and_the_second_raised() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted) as second, holding_interrupts() as interrupts:
        interrupts.stop("nowhere", "run.pt")
        assert not interrupts
        signal.raise_signal(signal.SIGINT)
        assert interrupts and interrupts.number == signal.SIGINT
        with pytest.raises(Interrupted, match="stopped after 3 of 9 epochs; the same call resumes it from run.pt"):
            interrupts.stop("after 3 of 9 epochs", "run.pt")
        signal.raise_signal(signal.SIGINT)
    assert second.value.number == signal.SIGINT and str(second.value) == "stopped"
    assert signal.getsignal(signal.SIGINT) is before


def test_termination_is_held_where_the_program_handles_it_and_nothing_that_is_ignored() -> None:
    def handler(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with holding_interrupts():
            assert signal.getsignal(signal.SIGTERM) == before[signal.SIGTERM] == signal.SIG_DFL
        signal.signal(signal.SIGTERM, handler)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with holding_interrupts() as interrupts:
            signal.raise_signal(signal.SIGINT)
            assert not interrupts
            signal.raise_signal(signal.SIGTERM)
            assert interrupts.number == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        for number, found in before.items():
            signal.signal(number, found)


def test_nothing_is_held_where_it_is_not_wanted_or_cannot_be() -> None:
    found: list[Interrupts] = []

    def other() -> None:
        with holding_interrupts() as interrupts:
            found.append(interrupts)

    before = signal.getsignal(signal.SIGINT)
    with holding_interrupts(False):
        assert signal.getsignal(signal.SIGINT) is before
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert len(found) == 1 and not found[0]


def test_only_short_epochs_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.2, 0.2, 0.8])
    monkeypatch.setattr("bnn_pyro.inference.interrupts.time.perf_counter", lambda: next(times))
    clock = StepClock(8)
    assert [clock.is_long(done) for done in (1, 2, 6)] == [True, False, False]


def test_a_step_that_others_have_left_ends_as_they_did() -> None:
    """Torchrun sends a signal to all processes, and the first that stops closes the connection."""
    for number in (None, signal.SIGTERM):
        before = signal.signal(signal.SIGTERM, lambda *given: None)
        try:
            with pytest.raises(RuntimeError if number is None else Interrupted) as raised, holding_interrupts():
                if number is not None:
                    signal.raise_signal(number)
                raise RuntimeError("connection closed by peer")
        finally:
            signal.signal(signal.SIGTERM, before)
        assert number is None or raised.value.number == number  # type: ignore[attr-defined]
