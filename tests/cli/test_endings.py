"""A command that cannot go on ends with one line and an exit code."""

import errno
import signal
from collections.abc import Callable

import pytest
import typer

from bnn_pyro.cli.endings import is_first, user_errors
from bnn_pyro.inference.interrupts import Interrupted, holding_interrupts


def fail(error: BaseException) -> Callable[[], None]:
    def raised() -> None:
        raise error

    return raised


def send(number: int) -> Callable[[], None]:
    return lambda: signal.raise_signal(number)


def held(number: int) -> Callable[[], None]:
    def stopped() -> None:
        with holding_interrupts() as interrupts:
            signal.raise_signal(number)
            interrupts.stop("after 3 of 9 epochs", "fit.pt")

    return stopped


FULL = OSError(errno.ENOSPC, "No space left on device", "report.md")


@pytest.mark.parametrize(
    ("what", "code", "line"),
    [
        (fail(ValueError("hidden must be\n  whole numbers")), 2, "error: hidden must be whole numbers"),
        (fail(FULL), 1, "error: [Errno 28] No space left on device: 'report.md'; again resumes it"),
        (send(signal.SIGINT), 130, "stopped; again resumes it"),
        (send(signal.SIGTERM), 143, "stopped; again resumes it"),
        (held(signal.SIGTERM), 143, "stopped after 3 of 9 epochs; again resumes it"),
        (held(signal.SIGINT), 130, "stopped after 3 of 9 epochs; again resumes it"),
        (fail(Interrupted(signal.SIGTERM, "in epoch 2")), 143, "stopped in epoch 2; again resumes it"),
    ],
)
def test_an_ending_is_one_line(
    what: Callable[[], None], code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(typer.Exit) as left, user_errors() as command:
        command.resumed = lambda: "again resumes it"
        what()
    assert left.value.exit_code == code
    assert capsys.readouterr().err == f"{line}\n"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_where_nothing_was_saved_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), user_errors():
        signal.raise_signal(signal.SIGTERM)
    assert capsys.readouterr().err == "stopped; nothing was saved yet\n"


def test_faults_of_ours_are_raised_but_not_those_of_processes_that_were_stopped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for error in (KeyError("a fault of ours"), RuntimeError("a fault of ours")):
        with pytest.raises(type(error)), user_errors():
            raise error
    with pytest.raises(typer.Exit) as left, user_errors():
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise RuntimeError("connection closed by peer") from None
    assert left.value.exit_code == 143 and capsys.readouterr().err == "stopped\n"


def test_other_processes_are_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert is_first()
    monkeypatch.setenv("RANK", "1")
    assert not is_first()
    with pytest.raises(typer.Exit), user_errors():
        raise ValueError("enough")
    assert capsys.readouterr().err == ""
