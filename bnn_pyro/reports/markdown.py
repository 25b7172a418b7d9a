"""Markdown: tables, and pages rendered from the templates of a package."""

from collections.abc import Sequence
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns are aligned to the right, except the first.

    Args:
        header: Names of the columns.
        rows: The cells, each row as long as the header; a ``|`` in a cell is escaped.

    Raises:
        ValueError: If a row is longer or shorter than the header.
    """
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(f"rows must have {len(header)} cells each, as the header, got {len(row)} in row {number}")
    marks = ["---", *["---:"] * (len(header) - 1)]
    lines = ([cell.replace("|", r"\|") for cell in cells] for cells in (header, marks, *rows))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def render(package: str, template: str, **values: object) -> str:
    """Return a template's text with the values filled in.

    Templates can call ``table(header, rows)``, which is `markdown_table`.

    Args:
        package: Dotted name of the package whose folder ``templates`` holds the template.
        template: File name of the template.
        **values: What the template refers to by name.

    Raises:
        jinja2.UndefinedError: If the template refers to a value that is not given.
    """
    return _environment(package).get_template(template).render(values)


@cache
def _environment(package: str) -> Environment:
    environment = Environment(
        loader=PackageLoader(package),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown is no HTML: an & must stay as it is
    )
    environment.globals["table"] = markdown_table
    return environment
