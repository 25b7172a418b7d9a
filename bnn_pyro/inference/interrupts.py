"""Ctrl-C and the request to terminate, held until a step is over."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_WAITED = 1.0  # seconds


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal.

    Args:
        number: The signal's number.
        where: How far the run has got, such as ``after 3 of 50 epochs``; empty where nobody knows.
        path: The file that it is resumed from; None where there is none.

    Attributes:
        number: The signal's number.
        where: How far the run has got.
    """

    def __init__(self, number: int, where: str = "", path: object = None) -> None:
        resumed = "" if path is None else f"; the same call resumes it from {path}"
        super().__init__(f"stopped {where}".rstrip() + resumed)
        self.number, self.where = number, where


class Interrupts:
    """What signals have come so far.

    Attributes:
        number: The first signal's number; None before there is one.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    def stop(self, where: str, path: object) -> None:
        """Raise `Interrupted` if a signal has come.

        Args:
            where: How far the run has got, such as ``after 3 of 50 epochs``.
            path: The file that it is resumed from.
        """
        if self.number is not None:
            raise Interrupted(self.number, where, path)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: note the first one, and raise `Interrupted` for a second one.

        Args:
            number: Its number.
            frame: Where it came.
        """
        if self.number is not None:
            raise Interrupted(number)
        self.number = number


class StepClock:
    """Whether what is left of an epoch is too long to be waited for, once a signal has come.

    Args:
        steps: Steps of the epoch.
    """

    def __init__(self, steps: int) -> None:
        self.steps, self.started = steps, time.perf_counter()

    def is_long(self, done: int) -> bool:
        """Return whether the steps that are left will take more than a second.

        Args:
            done: Steps that are done.
        """
        return (time.perf_counter() - self.started) / done * (self.steps - done) > _WAITED


@contextmanager
def holding_interrupts(wanted: bool = True) -> Iterator[Interrupts]:
    """Note Ctrl-C instead of raising it, so that a step can end; a second one is raised at once.

    So is SIGTERM where the program handles it, as the command line does. Signals that are ignored stay ignored. Python
    lets the main thread alone handle signals: in another one nothing is changed.

    Args:
        wanted: Whether to do so.

    Yields:
        What has come, for the caller to look at between two steps.

    Raises:
        Interrupted: For a RuntimeError once a signal has come, as of a step that other processes have left.
    """
    noted = Interrupts()
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handled = {number: handler for number, handler in before.items() if callable(handler)}
    try:
        for number in handled:
            signal.signal(number, noted.note)
        yield noted
    except RuntimeError as error:  # of a step whose other processes have stopped already
        if noted.number is not None:
            raise Interrupted(noted.number) from error
        raise
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
