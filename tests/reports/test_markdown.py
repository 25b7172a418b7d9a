"""Markdown: tables are whole, templates get what they ask for and nothing is lost on the way."""

from pathlib import Path

import pytest
from jinja2 import UndefinedError

import bnn_pyro
from bnn_pyro.reports.markdown import markdown_table, render

TEMPLATES = sorted(Path(bnn_pyro.__file__).parent.rglob("*.j2"))


def test_a_table_by_hand() -> None:
    table = markdown_table(("name", "a", "b"), [("x", "1", "2"), ("y | z", "", "30")])
    assert table.splitlines() == [
        "| name | a | b |",
        "| --- | ---: | ---: |",
        "| x | 1 | 2 |",
        r"| y \| z |  | 30 |",
    ]


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="rows must have 2 cells each, as the header, got 1 in row 2"):
        markdown_table(("a", "b"), [("1", "2"), ("3",)])


def test_what_is_filled_in_is_not_escaped() -> None:
    values = {
        **dict.fromkeys(("data", "net", "widths", "prior", "seed", "threads", "train_rows", "test_rows"), "a < b & c"),
        **{"seconds": "1", "tables": [], "notes": ["'quoted'"], "is_regression": True, "has_gates": False},
    }
    text = render("bnn_pyro.comparison", "comparison.md.j2", pictures=(), **values)
    assert text.startswith("# a < b & c: a < b & c a < b & c, prior") and "* 'quoted'\n" in text


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="failed"):
        render("bnn_pyro.comparison", "notes.j2")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_lie_where_the_wheel_takes_them_from(path: Path) -> None:
    """As setup.cfg says: ``templates/*.j2`` of every package."""
    assert path.parent.name == "templates" and (path.parents[1] / "__init__.py").is_file()


def test_there_are_templates() -> None:
    own = ["refined.md.j2", "refined_use.md.j2", "report.md.j2", "table.md.j2"]
    assert [path.name for path in TEMPLATES] == ["comparison.md.j2", "notes.j2", *own]
