"""What arguments must be: types and ranges, checked where a call begins."""

import os
from collections.abc import Collection, Mapping
from numbers import Integral, Real
from types import MappingProxyType


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Check that an argument is a whole number.

    Args:
        name: The argument's name, for the message.
        value: Its value; True and False are none, nor is 2.0.
        least: The smallest that it may be.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is a fraction, or below ``least``.
    """
    _check_type(name, value, "a whole number")
    if not isinstance(value, Integral):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if int(value) < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def check_wholes(values: Mapping[str, object], least: int = 1) -> None:
    """Check that arguments are whole numbers.

    Args:
        values: Name -> value.
        least: The smallest that they may be.

    Raises:
        TypeError: If one is no number.
        ValueError: If one is a fraction, or below ``least``.
    """
    for name, value in values.items():
        check_whole(name, value, least)


def check_reals(values: Mapping[str, object], *, optional: Mapping[str, object] = MappingProxyType({})) -> None:
    """Check that arguments are numbers, of whatever size.

    Args:
        values: Name -> value.
        optional: Name -> value of others, which may be None too.

    Raises:
        TypeError: If one is no number.
    """
    given = {name: value for name, value in optional.items() if value is not None}
    for name, value in {**values, **given}.items():
        _check_type(name, value, "a number")


def check_flags(values: Mapping[str, object]) -> None:
    """Check that arguments are True or False.

    Args:
        values: Name -> value.

    Raises:
        TypeError: If one is something else.
    """
    for name, value in values.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, got {value!r}")


def check_seed(seed: object, progress: object = None) -> None:
    """Check the seed of a call, and whether it shows a progress bar.

    Args:
        seed: The seed, or None.
        progress: True, False or None.

    Raises:
        TypeError: If one of them is of another type.
        ValueError: If the seed is a fraction, or one that torch does not take.
    """
    if seed is not None:
        check_whole("seed", seed, -(2**63))
        if isinstance(seed, Integral) and int(seed) >= 2**64:
            raise ValueError(f"seed must be below 2**64, got {seed!r}")
    if progress is not None:
        check_flags({"progress": progress})


def check_types(values: Mapping[str, tuple[object, type]]) -> None:
    """Check the types of arguments.

    Args:
        values: Name -> value and type.

    Raises:
        TypeError: If one is of another type.
    """
    for name, (value, kind) in values.items():
        check_type(name, value, kind)


def check_methods(name: str, value: object, *methods: str) -> None:
    """Check that an argument is an object with some methods.

    Args:
        name: Its name, for the message.
        value: Its value; a class is none.
        methods: The methods' names.

    Raises:
        ValueError: If it lacks one.
    """
    if isinstance(value, type) or not all(callable(getattr(value, method, None)) for method in methods):
        raise ValueError(f"{name} must be an object with the methods {', '.join(methods)}, got {value!r}")


def check_path(name: str, value: object) -> None:
    """Check that an argument is a path.

    Args:
        name: Its name, for the message.
        value: Its value.

    Raises:
        TypeError: If it is neither text nor a path.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path, got {type(value).__name__}")


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Check that an argument is one of some names.

    Args:
        name: Its name, for the message.
        value: Its value.
        choices: The names.

    Raises:
        ValueError: If it is none of them.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_callable(name: str, value: object, what: str = "a function") -> None:
    """Check that an argument can be called.

    Args:
        name: Its name, for the message.
        value: Its value.
        what: What it must be, for the message.

    Raises:
        TypeError: If it cannot.
    """
    if not callable(value):
        raise TypeError(f"{name} must be {what}, got {value!r}")


def check_type(name: str, value: object, kind: type | tuple[type, ...]) -> None:
    """Check the type of an argument.

    Args:
        name: Its name, for the message.
        value: Its value.
        kind: The type, or several.

    Raises:
        TypeError: If it is of another one.
    """
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join(("an " if each.__name__[0] in "AEIOUaeiou" else "a ") + each.__name__ for each in kinds)
        raise TypeError(f"{name} must be {wanted}, got {type(value).__name__}")


def _check_type(name: str, value: object, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be {what}, got {value!r}")
