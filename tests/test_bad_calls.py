"""Bad calls are refused at the door, by a message that names the argument and says what it must be."""

import re
from collections import Counter
from types import ModuleType
from typing import Any

import pytest

import bnn_pyro
import guides
from bnn_pyro import comparison, data, estimators, inference, likelihoods, networks, priors, recipes
from tests import bad_calls, bad_calls_of_packages
from tests.bad_calls import Row

CALLS = {**bad_calls.CALLS, **bad_calls_of_packages.CALLS}
ROWS = [*bad_calls.rows(), *bad_calls_of_packages.rows()]
LEAST_ROWS = 400
PACKAGES = (bnn_pyro, guides, inference, recipes, estimators, data, networks, priors, likelihoods, comparison)

# what takes nothing that can be wrong, or is made by the library, not by its users
WITHOUT = {
    "Poisson": "it takes nothing",
    "initial_value": "called by guides",
    **dict.fromkeys(("InputChoice", "SparsityPath", "Draws", "Snapshot", "Dataset", "Split", "TableEncoding"), "made"),
    **dict.fromkeys(("Answer", "Compared", "Sample", "answer", "distances", "write_comparison"), "of what is made"),
    **dict.fromkeys(("Classes", "Mixture", "Normals"), "made by likelihoods"),
    **dict.fromkeys(
        ("GatedNormal", "NonCenteredNormal", "AtomicRelaxedBernoulli"), "distributions of Pyro check themselves"
    ),
    **dict.fromkeys(("AutoProgram", "Likelihood", "Posterior", "Slab"), "abstract"),
    "elbo_terms": "called by bounds",
    "MCMC": "its arguments are those of Pyro's; tests/inference/mcmc/test_pyro_interface.py",
}


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


def public(package: ModuleType) -> set[str]:
    values: dict[str, Any] = {name: getattr(package, name) for name in package.__all__}
    return {name for name, value in values.items() if callable(value) and hasattr(value, "__module__")}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_public_callable_is_in_the_table(package: ModuleType) -> None:
    rows = Counter(row.what for row in ROWS)
    absent = {name for name in public(package) if not rows[name]}
    assert absent - WITHOUT.keys() == set()


def test_the_table_is_long_and_what_is_not_in_it_is_public() -> None:
    assert len(ROWS) >= LEAST_ROWS
    assert not [name for name in CALLS if not any(row.what == name for row in ROWS)]
    assert WITHOUT.keys() <= set().union(*(public(package) for package in PACKAGES))
    assert not WITHOUT.keys() & CALLS.keys()
