"""Checks of options, at the door."""

from collections.abc import Sequence
from numbers import Real


def check_choice(name: str, value: object, known: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def check_program(model: object) -> None:
    if not callable(model):
        raise TypeError(f"model must be a Pyro model, got {type(model).__name__}")


def check_range(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not low < value < high:
        raise ValueError(f"{name} must lie in ({low}, {high}), got {value}")
