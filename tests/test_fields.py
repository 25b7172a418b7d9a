"""What the fields of files must be, one by one."""

from typing import Any

import pytest
import torch

from bnn_pyro import fields
from bnn_pyro.fields import Rule, check_fields, one_of, optional, shown

ROWS: tuple[tuple[Rule, tuple[Any, ...], tuple[Any, ...]], ...] = (
    (fields.TEXT, ("", "x"), (None, 3, b"x")),
    (fields.FLAG, (True, False), (0, 1, None)),
    (fields.NUMBER, (0, -1.5, 10**300), (10**400, True, "1", float("nan"), float("inf"), None)),
    (fields.POSITIVE, (1, 0.1), (0, -1, 10**400, True, "1")),
    (fields.WHOLE, (0, 5), (-1, 0.5, 1.0, True, None)),
    (fields.COUNT, (1, 5), (0, 1.0, True)),
    (fields.TEXTS, ([], ["a"]), ("a", [1], None)),
    (fields.NUMBERS, ([], [1, 2.5]), (1, ["a"], [float("nan")], [None])),
    (fields.COUNTS, ([1], [3, 4]), ([], [0], [1.0], None, "1")),
    (fields.TENSOR, (torch.ones(2),), ([1.0], None)),
    (fields.STATE, ({}, {"a": torch.ones(2)}), ({"a": 1}, {1: torch.ones(2)}, [], None)),
    (fields.STATES, ([], [{"a": torch.ones(2)}]), ({}, [{"a": 1}], [torch.ones(2)], None)),
    (fields.VALUES, ({}, {"a": 1}), ({1: 2}, [], None)),
    (fields.RECORDS, ([], [{"a": 1}]), ([1], {"a": 1}, None)),
    (fields.HISTORY, ([], [{"epoch": 1, "seconds": 0.5, "loss": 2}]), ([{"epoch": 1}], [{"seconds": 1}], [3], None)),
    (one_of("a", "b"), ("a",), ("c", ["a"], None)),
    (optional(fields.TEXT), (None, "a"), (1,)),
)


@pytest.mark.parametrize(("rule", "right", "wrong"), ROWS, ids=[row[0].words for row in ROWS])
def test_a_rule(rule: Rule, right: tuple[Any, ...], wrong: tuple[Any, ...]) -> None:
    for value in right:
        check_fields({"it": value}, {"it": rule}, "a.json")
    for value in wrong:
        with pytest.raises(ValueError) as error:
            check_fields({"it": value}, {"it": rule}, "a.json")
        assert str(error.value) == f"'it' in a.json must be {rule.words}, got {shown(value)}"


def test_what_is_absent_or_no_mapping_at_all() -> None:
    with pytest.raises(ValueError, match="'it' in a.json must be text, but there is no such field"):
        check_fields({}, {"it": fields.TEXT}, "a.json")
    with pytest.raises(ValueError, match=r"a.json must hold values by name, got \[\]"):
        check_fields([], {}, "a.json")


def test_values_are_shown_in_short() -> None:
    assert shown("x" * 100) == "'" + "x" * 59 + "..." and shown(torch.ones(2, 3)) == "a tensor of shape (2, 3)"
    nest: list[Any] = []
    for _ in range(100_000):
        nest = [nest]
    assert shown(nest) == "list"
    while nest:  # so that no destructor recurses
        nest = nest[0]
