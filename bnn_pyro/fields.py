"""What the fields of files must be: a rule for each, with the words that a message says it in."""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

_LARGEST = sys.float_info.max
_SHOWN = 60  # characters of a value in a message


@dataclass(frozen=True)
class Rule:
    """What a field must be.

    Args:
        words: The rule in words, after "must be".
        test: Whether a value obeys it.
    """

    words: str
    test: Callable[[object], bool]


def check_fields(values: object, rules: Mapping[str, Rule], where: object) -> None:
    """Check the fields of what a file holds.

    Args:
        values: The values by name.
        rules: Name -> rule; each name must be there, and others may be.
        where: The file, for the message.

    Raises:
        ValueError: If a field is absent or breaks its rule; the message names file, field and rule.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must hold values by name, got {shown(values)}")
    for name, rule in rules.items():
        if name not in values:
            raise ValueError(f"{name!r} in {where} must be {rule.words}, but there is no such field")
        if not rule.test(values[name]):
            raise ValueError(f"{name!r} in {where} must be {rule.words}, got {shown(values[name])}")


def shown(value: object) -> str:
    """Return a value as short text.

    Args:
        value: The value.
    """
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    try:
        text = repr(value)
    except RecursionError:
        text = type(value).__name__
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def is_whole(value: object, least: int = 0) -> bool:
    """Return whether a value is a whole number, and not below another.

    Args:
        value: The value; True and False are none.
        least: The other number.
    """
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object) -> bool:
    """Return whether a value is a finite number.

    Args:
        value: The value; True and False are none.
    """
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return is_one and -_LARGEST <= value <= _LARGEST  # type: ignore[operator]  # NaN is no number, nor is 10**400


def _all(test: Callable[[object], bool], values: Iterable[object]) -> bool:
    return all(map(test, values))


def _is_state(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


def _is_record(value: object) -> bool:
    return isinstance(value, Mapping) and is_whole(value.get("epoch")) and is_number(value.get("seconds"))


def one_of(*choices: object) -> Rule:
    """Return the rule that a field is one of some values.

    Args:
        choices: The values, plain ones.
    """
    words = f"one of {', '.join(map(repr, choices))}"
    return Rule(words, lambda v: isinstance(v, str | int | float | None) and v in choices)


def optional(rule: Rule) -> Rule:
    """Return a rule that None obeys too.

    Args:
        rule: The rule of other values.
    """
    return Rule(f"{rule.words}, or null", lambda value: value is None or rule.test(value))


TEXT = Rule("text", lambda value: isinstance(value, str))
FLAG = Rule("true or false", lambda value: isinstance(value, bool))
NUMBER = Rule("a finite number", is_number)
POSITIVE = Rule("a positive finite number", lambda value: is_number(value) and float(value) > 0)  # type: ignore[arg-type]
WHOLE = Rule("a whole number", is_whole)
COUNT = Rule("a whole number of 1 or more", lambda value: is_whole(value, 1))
TEXTS = Rule("a list of texts", lambda v: isinstance(v, list) and _all(TEXT.test, v))
NUMBERS = Rule("a list of finite numbers", lambda v: isinstance(v, list) and _all(is_number, v))
COUNTS = Rule("a list of whole numbers of 1 or more", lambda v: isinstance(v, list) and bool(v) and _all(COUNT.test, v))
TENSOR = Rule("a tensor", lambda value: isinstance(value, Tensor))
STATE = Rule("tensors by name", _is_state)
VALUES = Rule("values by name", lambda v: isinstance(v, Mapping) and _all(TEXT.test, v))
STATES = Rule("a list of tensors by name", lambda v: isinstance(v, list | tuple) and _all(_is_state, v))
RECORDS = Rule("a list of values by name", lambda v: isinstance(v, list | tuple) and _all(VALUES.test, v))
HISTORY = Rule(
    "a list of records that have a whole number as epoch and a finite number as seconds",
    lambda v: isinstance(v, list | tuple) and _all(_is_record, v),
)
