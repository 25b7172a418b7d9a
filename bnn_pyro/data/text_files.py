"""Text files of tables: which character separates the columns, which one marks decimals, what each cell says."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SUFFIXES: tuple[str, ...] = (".csv", ".tsv", ".txt")
"""The endings of text files that are read as tables."""

MISSING = frozenset(
    {"", "?", ".", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None"}
)
"""The texts that stand for a missing cell."""

INDEX = "Unnamed: 0"
"""The name that pandas reads for a first column without one, such as an index that was written."""

Cells = NDArray[np.object_]
"""Cells of a column: text, or None where there is none."""

_SEPARATORS = ("\t", ";", "|", ",")  # what is the rarest within cells comes first
_WHITESPACE = " "
_SAMPLE = 100  # lines that the separator is found by

_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")  # 1,234.5
_POINT_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+")  # 1.234
_COMMA = re.compile(r"[+-]?([1-9]\d{0,2}([.'\u00a0\u202f ]\d{3})+|\d+)?(,\d*)?([eE][+-]?\d+)?")  # 1.234,5 or 0,5
_COMMA_GROUPS = re.compile(r"[.'\u00a0\u202f ]")


def read_text_table(path: Path) -> tuple[pd.DataFrame, str, tuple[str, ...]]:
    """Read a table with a header from a text file, all cells as text.

    The columns are separated by commas, semicolons, tabs, bars or white space, whichever fits the header and the rows
    below it. A first column without a name, as row names and saved indices have it, is left out.

    Args:
        path: The file, in UTF-8 or with a byte order mark.

    Returns:
        The cells, text or None where missing; the character that marks decimals, a point or a comma; and what was done,
        in words.

    Raises:
        ValueError: If the file is not text, has no header of distinct names or no row below it, a row has more or
            fewer cells than the header, or row names repeat.
    """
    lines, separator = _split(_text(path), path)
    if len(lines) < 2:
        raise ValueError(f"'{path}' must have a header and rows below it, got an empty set")
    header, rows, notes = _headed(lines, path)
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    frame = pd.DataFrame({name: pd.Series(_cells(column), dtype=object) for name, column in columns.items()})
    decimal = _decimal([frame[name].to_numpy() for name in frame], separator)
    if separator != "," or decimal != ".":
        comma = ", a comma marks decimals" if decimal == "," else ""
        notes = (f"columns are separated by {_NAMES[separator]}{comma}", *notes)
    return frame, decimal, notes


_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", _WHITESPACE: "white space"}


def _text(path: Path) -> str:
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' must be a table as text in UTF-8 ({error})") from error


# ---- rows and columns ------------------------------------------------------------------------------------------------


def _split(text: str, path: Path) -> tuple[list[list[str]], str]:
    """Return the lines of a text in cells, and what separates them."""
    sample = "\n".join(text.splitlines()[:_SAMPLE])
    separator = _separator(sample)
    try:
        return _lines(text, separator), separator
    except csv.Error as error:
        raise ValueError(f"'{path}' must be a table as text in UTF-8 ({error})") from error


def _lines(text: str, separator: str) -> list[list[str]]:
    if separator == _WHITESPACE:
        return [line.split() for line in text.splitlines() if line.strip()]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    lines = [[cell.strip() for cell in line] for line in reader if line]
    return [line for line in lines if any(line) or len(line) >= len(lines[0])]  # the others are of blanks


def _separator(sample: str) -> str:
    """Return the first separator that cuts the header and nearly all rows into as many cells, two at least.

    R writes one name fewer than there are columns. Where no separator fits, the one that cuts the header most often is
    returned, so that what is wrong can be said of its rows.
    """
    cut: dict[str, int] = {}
    for separator in (*_SEPARATORS, _WHITESPACE):
        try:
            header, *rows = _lines(sample, separator) or [[]]
        except csv.Error:
            continue
        fitting = max(sum(len(row) == len(header) + more for row in rows) for more in (0, 1))
        if len(header) >= 2 and fitting >= 0.9 * len(rows):
            return separator
        cut[separator] = len(header) if separator != _WHITESPACE else 0
    return (
        max(reversed(list(cut)), key=lambda name: cut[name], default=",") if max(cut.values(), default=0) > 1 else ","
    )


def _headed(lines: list[list[str]], path: Path) -> tuple[list[str], list[list[str]], tuple[str, ...]]:
    """Return the names of the columns, the rows and what was left out of both."""
    header, rows = lines[0], lines[1:]
    notes: tuple[str, ...] = ()
    width = len(header)
    if all(len(row) > width and not any(row[width:]) for row in rows):  # rows end with separators
        rows = [row[:width] for row in rows]
    elif all(len(row) == width + 1 for row in rows):
        _check_row_names(rows, path)
        header = ["", *header]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(f"row {number} of '{path}' must have {len(header)} cells, as the header, got {len(row)}")
    used = len(header)
    while used > 2 and not header[used - 1] and not any(row[used - 1] for row in rows):
        used -= 1
    header, rows = header[:used], [row[:used] for row in rows]  # without the empty columns that spreadsheets write
    if len(header) > 2 and (not header[0] or header[0] == INDEX):
        header, rows = header[1:], [row[1:] for row in rows]
        notes = ("the first column, of row names, is left out",)
    if len(set(header)) < len(header) or any(not cell or is_number(cell) for cell in header):
        raise ValueError(
            f"'{path}' must begin with a header of distinct column names, got {', '.join(header)}; "
            "write a line with the names above the rows"
        )
    return header, rows, notes


def _check_row_names(rows: list[list[str]], path: Path) -> None:
    name, count = Counter(row[0] for row in rows).most_common(1)[0]
    if count > 1:
        raise ValueError(
            f"the rows of '{path}' must have as many cells as the header, or one more with a row name that no other "
            f"row has, got {name!r} first in {count:,} rows; put cells with a comma in them in quotation marks"
        )


def _cells(column: Sequence[str]) -> Cells:
    return np.array([None if cell in MISSING else cell for cell in column], dtype=object)


# ---- numbers ---------------------------------------------------------------------------------------------------------


def is_number(cell: str) -> bool:
    """Return whether a text is a number with a point for decimals; one with an underscore, as 18_24, is none.

    Args:
        cell: The text.
    """
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def to_numbers(cells: Cells, decimal: str = ".") -> NDArray[np.float64]:
    """Return the numbers that texts are; NaN for those that are none.

    A comma or, where a comma marks decimals, a point may separate groups of three digits. Where points stand elsewhere
    in some texts, and commas in none, the points mark decimals in all of them.

    Args:
        cells: Texts, shape ``(n,)``; none of them None.
        decimal: The character that marks decimals, a point or a comma.

    Returns:
        Shape ``(n,)``.
    """
    texts = set(cells.tolist())
    if decimal == "," and not any("," in text for text in texts) and any(map(_has_point, texts)):
        decimal = "."
    if decimal == "." and not any("_" in text for text in texts):
        try:
            return cells.astype(np.float64)
        except ValueError:
            pass
    known = {text: _number(text, decimal) for text in texts}
    return np.array([known[cell] for cell in cells.tolist()], dtype=np.float64)


def _has_point(text: str) -> bool:
    """Return whether a text is a number in which a point must mark decimals, as it separates no groups of digits."""
    return "." in text and is_number(text) and not _POINT_GROUPED.fullmatch(text)


def _number(cell: str, decimal: str) -> float:
    if decimal == "," and any(character.isdigit() for character in cell) and _COMMA.fullmatch(cell):
        return float(_COMMA_GROUPS.sub("", cell).replace(",", "."))
    if decimal == "." and _GROUPED.fullmatch(cell):
        return float(cell.replace(",", ""))
    return float(cell) if is_number(cell) else np.nan


def _decimal(columns: Sequence[Cells], separator: str) -> str:
    """Return which character marks decimals: a comma where a column is of numbers with it and else of none.

    A column of numbers such as ``1,234`` alone can be of either kind. It follows the others, and where these say
    nothing, the separator: semicolons stand where commas are in use for decimals. Where commas separate the columns,
    and others have decimal points, a point marks decimals.
    """
    has_point = has_strict = has_comma = has_either = False
    for column in columns:
        texts = {cell for cell in column.tolist() if cell is not None}
        if not any("," in text for text in texts):
            has_point |= any("." in text and is_number(text) for text in texts)
            has_strict |= any(map(_has_point, texts))
            continue
        if np.isnan(to_numbers(np.array(list(texts), dtype=object), ",")).any():
            continue
        if all("," not in text or _GROUPED.fullmatch(text) for text in texts):
            has_either = True
        else:
            has_comma = True
    if has_comma and not (has_strict and separator == ","):
        return ","
    return "," if has_either and separator == ";" and not has_point else "."
