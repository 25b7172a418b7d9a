"""Bad calls are refused at the door, by a message that names the argument and says what it must be."""

import re
from collections import Counter
from typing import Any

import pytest

import bnn_pyro
from tests import bad_calls
from tests.bad_calls import CALLS, Row

ROWS = list(bad_calls.rows())
LEAST_ROWS = 400


def fault(row: Row) -> str | None:
    """Return what is wrong with how a call is refused; None if nothing is."""
    where = f"{row.what}({row.argument}={bad_calls.shown(row.value)})"
    try:
        CALLS[row.what](**{row.argument: row.value})
    except (ValueError, TypeError) as error:
        message = str(error)
        if not re.search(row.words, message) or not re.search(r"\b(must|needs?|is of|is for)\b", message):
            return f"{where}: {type(error).__name__}: {message[:150]}"
        return None
    except Exception as error:
        return f"{where}: {type(error).__name__}: {str(error)[:150]}"
    return f"{where}: accepted"


@pytest.mark.parametrize("what", CALLS)
def test_bad_calls_are_refused(what: str) -> None:
    faults = [found for row in ROWS if row.what == what and (found := fault(row))]
    assert faults == []


def test_the_table_is_long_and_names_every_public_callable() -> None:
    assert len(ROWS) >= LEAST_ROWS
    without: Any = {"MultiOutputNoise", "NegativeBinomial", "Poisson", "InputChoice", "SparsityPath"}  # take no numbers
    others = {"choose_inputs", "load_posterior", "save_posterior"}  # their own tests have their bad calls
    assert set(bnn_pyro.__all__) <= CALLS.keys() | without | others | {"Categorical"}
    assert not [name for name, count in Counter(row.what for row in ROWS).items() if count < 1]
