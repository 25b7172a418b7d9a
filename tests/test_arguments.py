"""What arguments must be, one by one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bnn_pyro.arguments import (
    check_flags,
    check_methods,
    check_reals,
    check_seed,
    check_type,
    check_types,
    check_whole,
    check_wholes,
)

RIGHT: tuple[tuple[Callable[..., None], tuple[Any, ...]], ...] = (
    (check_whole, ("n", 1)),
    (check_whole, ("n", 0, 0)),
    (check_whole, ("n", np.int64(3))),
    (check_wholes, ({"n": 1, "m": 2},)),
    (check_reals, ({"r": 1, "s": -0.5, "u": float("nan"), "v": np.float32(1)},)),
    (check_flags, ({"f": True, "g": False},)),
    (check_seed, (None, None)),
    (check_seed, (-1, True)),
    (check_type, ("t", 3, int)),
    (check_types, ({"t": (3, int), "u": ("x", str)},)),
    (check_methods, ("m", [], "append")),
)

WRONG: tuple[tuple[Callable[..., None], tuple[Any, ...], type[Exception], str], ...] = (
    (check_whole, ("n", 0), ValueError, "n must be at least 1, got 0"),
    (check_whole, ("n", 2.0), ValueError, "n must be a whole number, got 2.0"),
    (check_whole, ("n", float("nan")), ValueError, "n must be a whole number, got nan"),
    (check_whole, ("n", True), TypeError, "n must be a whole number, got True"),
    (check_whole, ("n", "3"), TypeError, "n must be a whole number, got '3'"),
    (check_whole, ("n", None), TypeError, "n must be a whole number, got None"),
    (check_wholes, ({"n": 1, "m": [2]},), TypeError, r"m must be a whole number, got \[2\]"),
    (check_reals, ({"r": "1"},), TypeError, "r must be a number, got '1'"),
    (check_reals, ({"r": 1j},), TypeError, "r must be a number, got 1j"),
    (check_reals, ({"r": torch.ones(1)},), TypeError, "r must be a number, got tensor"),
    (check_flags, ({"f": "no"},), TypeError, "f must be True or False, got 'no'"),
    (check_flags, ({"f": 1},), TypeError, "f must be True or False, got 1"),
    (check_seed, (0.5,), ValueError, "seed must be a whole number, got 0.5"),
    (check_seed, (2**64,), ValueError, r"seed must be below 2\*\*64"),
    (check_seed, (0, "no"), TypeError, "progress must be True or False, got 'no'"),
    (check_type, ("t", "x", int), TypeError, "t must be an int, got str"),
    (check_type, ("t", "x", (list, dict)), TypeError, "t must be a list or a dict, got str"),
    (check_types, ({"t": ("x", float)},), TypeError, "t must be a float, got str"),
    (check_methods, ("m", 3, "append"), ValueError, "m must be an object with the methods append, got 3"),
    (check_methods, ("m", list, "append"), ValueError, "m must be an object with the methods append"),
)


@pytest.mark.parametrize(("check", "arguments"), RIGHT)
def test_what_is_right(check: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    check(*arguments)


@pytest.mark.parametrize(("check", "arguments", "kind", "message"), WRONG)
def test_what_is_wrong(
    check: Callable[..., None], arguments: tuple[Any, ...], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        check(*arguments)
