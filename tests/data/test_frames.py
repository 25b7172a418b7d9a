"""Tables of files and DataFrames: numbers or text, what is left out, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bnn_pyro.data.frames import RARE, read_cells, read_table

ROWS = 12


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"a": np.arange(ROWS) / 4, **columns, "y": np.arange(ROWS) / 2})


def text_file(folder: Path, table: pd.DataFrame, **options: Any) -> Path:
    table.to_csv(folder / "own.csv", **{"index": False, **options})
    return folder / "own.csv"


MIXED = frame(
    whole=np.arange(ROWS) % 4,
    gap=[None if n % 5 == 0 else n / 2 for n in range(ROWS)],
    colour=[("red", "blue", None)[n % 3] for n in range(ROWS)],
    flag=np.arange(ROWS) % 2 == 0,
)


@pytest.mark.parametrize("options", [{}, {"sep": ";", "decimal": ","}, {"sep": "\t", "na_rep": "NA"}])
def test_a_file_and_a_frame_are_the_same_table(tmp_path: Path, options: dict[str, Any]) -> None:
    given, read = read_table(MIXED), read_table(text_file(tmp_path, MIXED, **options))
    pd.testing.assert_frame_equal(given.inputs, read.inputs)
    assert [given.inputs[name].dtype.kind for name in given.inputs] == ["f", "f", "f", "O", "O"]
    assert given.target == read.target == "y" and given.y.tolist() == read.y.tolist() == MIXED["y"].tolist()
    assert given.inputs["colour"].tolist()[:3] == ["red", "blue", None]
    assert set(given.inputs["flag"]) == {"True", "False"}


def test_the_frame_is_left_alone() -> None:
    given = MIXED.copy()
    read_table(given, "colour", ["flag"])
    pd.testing.assert_frame_equal(given, MIXED)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (pd.array([1, None, 3], dtype="Int64"), [1.0, None, 3.0]),
        (pd.array([1.5, None, 3], dtype="Float64"), [1.5, None, 3.0]),
        (pd.array([True, None, False], dtype="boolean"), ["True", None, "False"]),
        (pd.Categorical([1, 2, 1]), ["1", "2", "1"]),
        (pd.Categorical(["x", None, "z"]), ["x", None, "z"]),
        (pd.Categorical(["x", "NA", "z"]), ["x", None, "z"]),
        (np.array([1, 2**63 + 2048, 3], dtype=np.uint64), [1.0, 2.0**63 + 2048, 3.0]),
        (["18_24", "25_34", "18_24"], ["18_24", "25_34", "18_24"]),
        (np.array([1, 2, 3], dtype=np.uint8), [1.0, 2.0, 3.0]),
        (pd.to_timedelta(["1h", None, "2h"]), [3600.0, None, 7200.0]),
        (["1.5", " 2", None], [1.5, 2.0, None]),
        ([1, "NA", 2.5], [1.0, None, 2.5]),
        (["x", "z", 1], ["x", "z", "1"]),
    ],
)
def test_columns_of_frames(column: Any, values: list[Any]) -> None:
    found = read_table(pd.DataFrame({"a": column, "y": [1.5, 2.5, 3.5]})).inputs["a"]
    assert [None if pd.isna(value) else value for value in found] == values


def test_rows_without_a_target_are_left_out_and_counted(tmp_path: Path) -> None:
    table = frame().assign(label=[None, "no", "yes"] * 4)
    for source in (table, text_file(tmp_path, table)):
        found = read_table(source, "label")
        assert found.y.tolist() == ["no", "yes"] * 4 and len(found.inputs) == 8
        assert "4 of 12 rows left out, which have no label" in found.notes
        assert found.inputs["a"].tolist() == [n / 4 for n in range(12) if n % 3]


@pytest.mark.parametrize(
    ("cells", "is_whole"),
    [
        (["1", "2", "3"], True),
        (["-1", "+1", None], True),
        (["1.0", "2.0", "3.0"], False),
        ([1, 2, 3], True),
        ([1.0, 2.0, 3.0], False),
        ([1.0, None, 2.0], True),  # as pandas has whole numbers of which some are missing
        ([1.5, None, 2.0], False),
        (["a", "b", "c"], False),
    ],
)
def test_whole_numbers_are_those_that_are_written_so(cells: list[Any], is_whole: bool) -> None:
    assert read_table(pd.DataFrame({"a": [1.0, 2.0, 4.0], "y": cells})).is_whole is is_whole


def test_columns_are_left_out_that_tell_nothing(tmp_path: Path) -> None:
    table = frame(ID=[f"k{n}" for n in range(ROWS)], empty=[None] * ROWS, other=1.5)
    found = read_table(text_file(tmp_path, table), drop=["other"])
    assert list(found.inputs) == ["a"] and found.ignored == ("other", "ID", "empty")
    assert found.notes == ("other left out (as asked)", "ID left out (identifiers)", "empty left out (without a cell)")
    repeated = frame(id=np.arange(ROWS) // 2)
    assert list(read_table(repeated).inputs) == ["a", "id"]
    assert list(read_table(table, "ID").inputs) == ["a", "other", "y"]


@pytest.mark.parametrize(
    "dates",
    [
        pd.date_range("2020-01-31", periods=ROWS),
        pd.date_range("2020-01-31", periods=ROWS, tz="UTC"),
        pd.period_range("2020-01", periods=ROWS, freq="M"),
        [f"{n + 1:02}.03.2020" for n in range(ROWS)],
        [f"{n + 1}/3/20" for n in range(ROWS)],
        [f"2020-01-{n + 1:02}T10:15:00Z" for n in range(ROWS)],
        [f"{n}:30" for n in range(ROWS)],
        [f"{n + 1} March 2020" for n in range(ROWS)],
        [f"Mar {n + 1}, 2020" for n in range(ROWS)],
    ],
)
def test_dates_are_refused_with_what_to_do(dates: Any) -> None:
    with pytest.raises(
        ValueError, match="column 'when' of the frame must hold numbers or text, got dates, such as '.*with --drop when"
    ):
        read_table(frame(when=dates))
    assert list(read_table(frame(when=dates), drop=["when"]).inputs) == ["a"]


def test_numbers_beside_text() -> None:
    """A typing error is told; levels of which some are written as numbers are levels."""
    numbers: list[Any] = [str(n) for n in range(ROWS)]
    for wrong in ("unknown", "12 kg"):
        with pytest.raises(
            ValueError, match=f"column 'b' of the frame must hold numbers, got '{wrong}' in row 3.*--drop b"
        ):
            read_table(frame(b=[*numbers[:2], wrong, *numbers[3:]]))
    ages = ["1", "2"] * 3 + ["3+"] * RARE + ["1"]
    assert read_table(frame(b=ages)).inputs["b"].tolist() == ages
    codes = ["1", *(f"c{n}" for n in range(ROWS - 1))]
    assert read_table(frame(b=codes)).inputs["b"].tolist() == codes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "b"}, r"target must be a column of the frame \(a, colour, y\), got 'b'"),
        ({"target": "y,a"}, "target must be one column of the frame, got 2 .*--target y --drop a"),
        ({"drop": ["b"]}, r"drop must name columns of the frame \(a, colour, y\), got 'b'"),
        ({"drop": ["a", "colour"]}, "the frame must have a column besides its target 'y', to learn from"),
        ({"target": "y", "drop": ["y"]}, r"target must be a column of the frame \(a, colour\), got 'y'"),
        ({"drop": ["y", "a", "colour"]}, "target must be a column"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_table(frame(colour=["red"] * ROWS), **options)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame({"a": []}), "must have rows and columns, got an empty set"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "columns of distinct names"),
        (pd.DataFrame([[1, 2]], columns=[1, "1"]), "columns of distinct names"),
        (pd.DataFrame({("a", "b"): [1], ("a", "c"): [2]}), "columns of distinct names"),
        (pd.DataFrame({"a": [1j], "y": [1.0]}), "column 'a' of the frame must hold real numbers or text, got complex"),
        (pd.DataFrame({"a": [1.0], "y": [None]}), "the target 'y' of the frame must have values"),
    ],
)
def test_bad_frames(table: pd.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_table(table)


def test_cells_are_read_as_they_are_asked_for() -> None:
    unread = read_cells(pd.DataFrame({"a": ["1", "x", None], "b": [1.0, 2.5, np.nan], "c": [1, 2, 3]}))
    assert unread.texts("a").tolist() == ["1", "x", None]
    assert unread.texts("b").tolist() == ["1", "2.5", None] and unread.texts("c").tolist() == ["1", "2", "3"]
    np.testing.assert_equal(unread.numbers("b"), [1.0, 2.5, np.nan])
    with pytest.raises(
        ValueError, match="column 'a' of the frame must hold numbers, got 'x' in row 2; .* if they are missing$"
    ):
        unread.numbers("a")


def test_an_index_that_was_written_is_left_out(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "own.csv")
    table = pd.read_csv(tmp_path / "own.csv")
    assert "Unnamed: 0" in table
    for found in (read_table(table), read_table(pd.concat([table, table]))):
        assert list(found.inputs) == ["a"] and found.ignored == ("Unnamed: 0",)
    assert list(read_table(tmp_path / "own.csv").inputs) == ["a"]
    assert list(read_table(table[["Unnamed: 0", "y"]]).inputs) == ["Unnamed: 0"]


def test_columns_that_cannot_be_read_may_be_left_out() -> None:
    table = frame(wave=np.arange(ROWS) * 1j, range=pd.interval_range(0, ROWS))
    assert list(read_table(table, drop=["wave", "range"]).inputs) == ["a"]
    unread = read_cells(table)
    assert unread.numbers("a").tolist() == table["a"].tolist()
    for name in ("wave", "range"):
        for read in (unread.numbers, unread.texts):
            with pytest.raises(ValueError, match=f"column '{name}' of the frame must hold real numbers or text, got"):
                read(name)


def test_whole_numbers_keep_their_digits() -> None:
    assert read_cells(pd.DataFrame({"a": [2**53 + 1]})).texts("a").tolist() == [str(2**53 + 1)]


def test_a_long_text_costs_its_own_length() -> None:
    """Not its length in each row, which would be 4 TB here."""
    texts = [*["a", "b"] * 50_000, "c" * 10_000_000]
    found = read_table(pd.DataFrame({"a": texts, "y": np.arange(len(texts)) / 2}))
    assert found.inputs["a"].iloc[-1] == texts[-1]
