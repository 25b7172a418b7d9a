"""Text files: separators, decimals, headers, missing cells."""

from pathlib import Path

import numpy as np
import pytest

from bnn_pyro.data.text_files import MISSING, is_number, read_text_table, to_numbers


def read(folder: Path, text: str, encoding: str = "utf-8") -> tuple[dict[str, list[str | None]], str, tuple[str, ...]]:
    path = folder / "own.csv"
    path.write_bytes(text.encode(encoding))
    frame, decimal, notes = read_text_table(path)
    return {name: frame[name].tolist() for name in frame}, decimal, notes


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("a,b,y\n1,x,3\n4,z,6\n", ""),
        ("a;b;y\n1;x;3\n4;z;6\n", "semicolons"),
        ("a\tb\ty\n1\tx\t3\n4\tz\t6\n", "tabs"),
        ("a|b|y\r\n1|x|3\r\n\r\n4|z|6\r\n", "bars"),
        ("a  b y\n 1   x 3\n 4   z 6 \n", "white space"),
        ("a, b, y\n1, x, 3\n4, z, 6", ""),
        ('a;b;y;\n1;"x";3;\n4;z;6;\n', "semicolons"),
        ("a;b;y\n1;x;3;\n4;z;6;\n", "semicolons"),
        ("a;b;y;;;\n1;x;3;;;\n4;z;6;;;\n", "semicolons"),  # as spreadsheets write empty columns
        ("a;b;y\n1;x;3\n4;z;6\n   \n", "semicolons"),  # and a line of blanks
    ],
)
def test_separators_are_found(tmp_path: Path, text: str, separator: str, encoding: str) -> None:
    columns, decimal, notes = read(tmp_path, text, encoding)
    assert columns == {"a": ["1", "4"], "b": ["x", "z"], "y": ["3", "6"]} and decimal == "."
    assert notes == ((f"columns are separated by {separator}",) if separator else ())


@pytest.mark.parametrize(
    "text",
    [
        'a,b\n"one, two",3\n"four; five",6\n',  # cells with separators in them
        'a,b\n"one\ntwo",3\nx,6\n',  # and with an end of line
        "a b,b\nx y,1\nz u,2\n",  # and with spaces, in names too
    ],
)
def test_cells_may_hold_separators(tmp_path: Path, text: str) -> None:
    columns, _, notes = read(tmp_path, text)
    assert len(columns) == 2 and columns["b"] in (["3", "6"], ["1", "2"]) and notes == ()


@pytest.mark.parametrize(
    ("text", "decimal"),
    [
        ("a;y\n1,5;2\n2;3\n", ","),
        ("a;y\n1,234;2\n2,345;3\n", ","),  # semicolons stand where commas mark decimals
        ("a;y\n1,234;2.5\n2,345;3\n", "."),  # but not beside numbers with points
        ("a\ty\n1,234\t2\n2,345\t3\n", "."),
        ("a\ty\n1,23\t2\n2,345\t3\n", ","),
        ('a,y\n"1,5",2\n"2",3\n', ","),
        ('a,y\n"1,500",2\n"2",3\n', "."),
        ("a;y\n1.234,5;2\n12;3\n", ","),
        ("a;y\nx,y;2\nz,1;3\n", "."),
        ("a;y\n1.5;2\n2;3\n", "."),
        ('a,b,y\n"1,2",0.123,2\n"2",12.5,3\n', "."),  # one odd column makes no thousands of the others' decimals
        ('a,y\n"0,123",2\n"2",3\n', ","),  # no group of thousands begins with 0
    ],
)
def test_decimal_commas_are_found(tmp_path: Path, text: str, decimal: str) -> None:
    assert read(tmp_path, text)[1] == decimal


@pytest.mark.parametrize(
    ("cell", "decimal", "number"),
    [
        ("1.5", ".", 1.5),
        ("-1e-3", ".", -1e-3),
        ("1,234.5", ".", 1234.5),
        ("12,34", ".", np.nan),
        ("1,5", ",", 1.5),
        (",5", ",", 0.5),
        ("-1,5e3", ",", -1500.0),
        ("1.234", ",", 1234.0),
        ("1.234.567,8", ",", 1234567.8),
        ("1 234,5", ",", 1234.5),
        ("1\u202f234", ",", 1234.0),
        ("1.5", ",", 1.5),
        ("0.123", ",", 0.123),
        ("0,123", ".", np.nan),
        ("0,123", ",", 0.123),
        ("18_24", ".", np.nan),
        ("18_24", ",", np.nan),
        ("7", ",", 7.0),
        ("12.34.56", ",", np.nan),
        ("red", ".", np.nan),
        (",", ",", np.nan),
        ("", ",", np.nan),
    ],
)
def test_numbers_of_texts(cell: str, decimal: str, number: float) -> None:
    found = to_numbers(np.array([cell, "3"], dtype=object), decimal)
    np.testing.assert_equal(found, [number, 3.0])


def test_numbers_are_those_of_python() -> None:
    """All digits count: the same text gives the same number as ever."""
    cells = [repr(value) for value in (np.random.RandomState(0).randn(200) * 10.0 ** np.arange(-100.0, 100)).tolist()]
    assert to_numbers(np.array(cells, dtype=object)).tolist() == [float(cell) for cell in cells]
    mixed = to_numbers(np.array([*cells, "none"], dtype=object))
    assert mixed[:-1].tolist() == [float(cell) for cell in cells] and np.isnan(mixed[-1])


@pytest.mark.parametrize(
    "text",
    [
        ",a,y\n1,2,3\n2,5,6\n",
        "a,y\nfirst,2,3\nsecond,5,6\n",  # as R writes them
        "Unnamed: 0,a,y\n0,2,3\n1,5,6\n",
    ],
)
def test_row_names_are_left_out(tmp_path: Path, text: str) -> None:
    columns, _, notes = read(tmp_path, text)
    assert columns == {"a": ["2", "5"], "y": ["3", "6"]}
    assert notes == ("the first column, of row names, is left out",)


def test_missing_cells_are_none(tmp_path: Path) -> None:
    cells = sorted(MISSING)
    columns, _, _ = read(tmp_path, "\n".join(["a,y", *(f"{cell},1" for cell in cells), "Na,2", " ,3"]))
    assert columns["a"] == [*[None] * len(cells), "Na", None]


def test_what_is_a_number() -> None:
    assert is_number("1e3") and is_number("-.5") and not is_number("1,5") and not is_number("a")
    assert not is_number("18_24")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a header and rows below it, got an empty set"),
        ("a;y\n", "a header and rows below it"),
        ("1;2\n3;4\n", "a header of distinct column names, got 1, 2; write a line with the names"),
        ("a;a\n3;4\n", "a header of distinct column names"),
        ("a;\n3;4\n", "a header of distinct column names"),
        ("a,y\n1,5,2\n1,7,3\n", "one more with a row name that no other row has, got '1' first in 2 rows"),
        ("a;b;y\n1;2;3\n1;2;3\n1;2\n", "row 3 of .* must have 3 cells, as the header, got 2"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_what_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(b"a,y\n1,\xff\n")
    with pytest.raises(ValueError, match="must be a table as text in UTF-8"):
        read_text_table(path)


def test_points_are_of_one_kind_in_a_column() -> None:
    """Where points stand where they separate no groups, they mark decimals in the other cells too."""
    cells = np.array(["1.234", "12.5"], dtype=object)
    assert to_numbers(cells, ",").tolist() == [1.234, 12.5]
    assert to_numbers(np.array(["1.234", "12,5"], dtype=object), ",").tolist() == [1234.0, 12.5]


def test_a_row_without_cells_is_a_row(tmp_path: Path) -> None:
    columns, _, _ = read(tmp_path, "a,y\n1,2\n,\n3,4\n \n")
    assert columns == {"a": ["1", None, "3"], "y": ["2", None, "4"]}
