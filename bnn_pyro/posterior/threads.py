"""Pyro's handlers, its parameter store and ``functional_call`` belong to the process: one thread at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pyro

HANDLERS = threading.RLock()
"""Held while a guide, a likelihood or a network is called; another thread waits, the same one may go in again."""

_DRIVERS = threading.RLock()


@contextmanager
def drawing() -> Iterator[None]:
    """Hold the handlers while a guide is called, and keep Pyro's parameter store and validation as they were.

    Validation is off meanwhile: it reads values, for each of which a device would be waited for, and makes about as
    many kernels as the draw itself.
    """
    with HANDLERS, pyro.get_param_store().scope(), pyro.validation_enabled(False):
        yield


@contextmanager
def driving(what: str) -> Iterator[None]:
    """Hold the handlers for a whole run; predictions by other threads wait until it has ended.

    Args:
        what: The driver's name, for the message.

    Raises:
        RuntimeError: If another thread is in a run.
    """
    if not _DRIVERS.acquire(blocking=False):
        raise RuntimeError(
            f"{what} must not run in two threads at once, as Pyro's handlers and parameter store are those of the "
            "process: start processes instead"
        )
    try:
        with HANDLERS:
            yield
    finally:
        _DRIVERS.release()
