"""How a command ends that cannot go on: one line on stderr, and an exit code."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import typer

# exit codes: of what the user can mend, of what the machine refuses, and of the signal with number 0
_USER, _SYSTEM, _SIGNAL = 2, 1, 128


class Command:
    """A command on its way.

    Attributes:
        resumed: Says how what was stopped is resumed, in words; None where nothing can be.
        signal: Number of the signal that has stopped it; None before there is one.
    """

    def __init__(self) -> None:
        self.resumed: Callable[[], str | None] = lambda: None
        self.signal: int | None = None

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal; those that follow are ignored, so that files are tidied up.

        Args:
            number: Its number.
            frame: Where it came.
        """
        if self.signal is None:
            self.signal = number
            raise KeyboardInterrupt


@contextmanager
def user_errors() -> Iterator[Command]:
    """Turn what the user can mend, what the machine refuses and signals into one line on stderr and an exit code.

    The codes are 2 for a ValueError, 1 for an OSError such as a full disk, 130 for Ctrl-C and 143 for SIGTERM.

    Yields:
        The command.
    """
    command = Command()
    before = _handle_signals(command)
    try:
        yield command
    except ValueError as error:
        _end(f"error: {error}", _USER, error)
    except OSError as error:
        _end(f"error: {error}{_then(command)}", _SYSTEM, error)
    except KeyboardInterrupt as error:
        number = getattr(error, "number", command.signal) or signal.SIGINT
        where = getattr(error, "where", "")
        _end(f"stopped {where}".rstrip() + (_then(command) or "; nothing was saved yet"), _SIGNAL + number, error)
    except RuntimeError as error:
        if command.signal is None:
            raise
        _end("stopped" + _then(command), _SIGNAL + command.signal, error)  # another process was stopped as well
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handle_signals(command: Command) -> dict[signal.Signals, Any]:
    """Let a command handle the signals that are not ignored, and return what has handled them before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handled = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in handled:
        signal.signal(number, command.stop)
    return handled


def _then(command: Command) -> str:
    resumed = command.resumed()
    return f"; {resumed}" if resumed else ""


def _end(line: str, code: int, error: BaseException) -> NoReturn:
    if is_first():
        typer.echo(" ".join(line.split()), err=True)
    raise typer.Exit(code) from error


def is_first() -> bool:
    """Return whether this process is the only one, or the first of torchrun's, which alone writes and prints."""
    return os.environ.get("RANK", "0") == "0"
