"""What the values of a table's encoding must be that a file holds."""

from collections.abc import Mapping
from typing import Any

from bnn_pyro.fields import FLAG, NUMBER, NUMBERS, POSITIVE, RECORDS, TEXT, TEXTS, Rule, check_fields, one_of, optional

_POSITIVES = Rule("a list of positive finite numbers", lambda v: isinstance(v, list) and all(map(POSITIVE.test, v)))
_FIELDS = {"columns": RECORDS, "means": NUMBERS, "stds": _POSITIVES, "ignored": TEXTS}
_COLUMNS: Mapping[str, Mapping[str, Rule]] = {
    "number": {"name": TEXT, "fill": NUMBER, "missing": FLAG},
    "levels": {"name": TEXT, "levels": TEXTS, "other": FLAG, "missing": FLAG},
}
_TARGET = {"name": TEXT, "mean": NUMBER, "std": POSITIVE, "classes": optional(TEXTS)}


def check_encoding(values: object, *, form: int) -> None:
    """Check the values of an encoding, one by one.

    Args:
        values: JSON values by name.
        form: Number of the form that is read.

    Raises:
        ValueError: If a value is absent, or not what it must be; the message names it.
    """
    check_fields(values, {"form": Rule(f"the number of the form, {form}", lambda value: value is form)}, "the encoding")
    check_fields(
        values, {**_FIELDS, "target": Rule("values by name", lambda value: isinstance(value, dict))}, "the encoding"
    )
    found: Any = values
    for number, column in enumerate(found["columns"]):
        where = f"column {number} of the encoding"
        check_fields(column, {"kind": one_of(*_COLUMNS)}, where)
        _check_exactly(column, {"kind": TEXT, **_COLUMNS[column["kind"]]}, where)
    _check_exactly(found["target"], _TARGET, "the target of the encoding")


def _check_exactly(values: Mapping[str, object], rules: Mapping[str, Rule], where: str) -> None:
    check_fields(values, rules, where)
    if unknown := sorted(values.keys() - rules.keys()):
        raise ValueError(f"{where} must have no field {unknown[0]!r}")
