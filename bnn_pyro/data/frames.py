"""Tables as a person has them: a text file or a DataFrame, read into columns that are either of numbers or of text."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bnn_pyro.data.text_files import INDEX, MISSING, Cells, read_text_table, to_numbers

FRAME = "frame"
"""The name of a data set that was given as a DataFrame."""

RARE = 5
"""Rows that a text has to be in, to be a level of its own."""

Numbers = NDArray[np.float64]
"""Numbers of a column; NaN where a cell is missing."""

_MOST_LEVELS = 20  # distinct numbers in a column with text, up to which it is a column of levels
_IDENTIFIERS = {"id", "index", "row", "rowname", "rownames", "row_names", "row.names"}
_TIME = r"([ T]\d{1,2}(:\d{2}){0,2}.*)?"
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_DATE = re.compile(
    rf"\d{{4}}([-/.])\d{{1,2}}(\1\d{{1,2}})?{_TIME}"
    rf"|\d{{1,2}}([-/.])\d{{1,2}}\5(\d{{4}}|\d{{2}}){_TIME}"
    r"|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?"
    rf"|(\d{{1,2}}\.?[ -])?{_MONTH}\.?[ -](\d{{1,2}},? )?\d{{2,4}}",
    re.IGNORECASE,
)


@dataclass(frozen=True, eq=False)
class Unread:
    """The cells of a table, of which text may still have to be read as numbers.

    Attributes:
        where: What the cells are of, for messages.
        frame: The cells: a column is of integers or float64, or object with text, or a category of text; missing cells
            are NaN or None. One of other cells is refused when it is read.
        decimal: The character that marks decimals in text, a point or a comma.
        notes: What was done, in words.
    """

    where: str
    frame: pd.DataFrame
    decimal: str = "."
    notes: tuple[str, ...] = ()

    def numbers(self, name: str) -> Numbers:
        """Return a column as numbers, NaN for missing cells.

        Args:
            name: The column.

        Raises:
            ValueError: If a cell is text that is no number, or one that is infinite in float32, or the column is of
                other cells.
        """
        cells = self.column(name)
        if cells.dtype.kind in "iuf":
            return self._finite(name, cells.to_numpy(np.float64))
        texts = self.texts(name)
        present = np.array([text is not None for text in texts], dtype=bool)
        values = np.full(len(texts), np.nan)
        values[present] = to_numbers(texts[present], self.decimal)
        wrong = present & np.isnan(values)
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(
                f"column {name!r} of {self.where} must hold numbers, got {texts[row]!r} in row {row + 1}; "
                "mend such cells, or leave them empty if they are missing"
            )
        return self._finite(name, values)

    def column(self, name: str) -> "pd.Series[object]":
        """Return the cells of a column.

        Args:
            name: The column.

        Raises:
            ValueError: If they are neither numbers nor text.
        """
        cells = self.frame[name]
        kind = cells.dtype
        is_plain = isinstance(kind, np.dtype) and kind.kind in "iufO"
        if not is_plain and not isinstance(kind, pd.CategoricalDtype | pd.StringDtype):
            raise ValueError(f"column {name!r} of {self.where} must hold real numbers or text, got {kind}")
        return cells

    def _finite(self, name: str, values: Numbers) -> Numbers:
        infinite = np.abs(values) > np.finfo(np.float32).max  # these become infinite on the way to the network
        if infinite.any():
            row = int(infinite.argmax())
            raise ValueError(
                f"column {name!r} of {self.where} must hold finite numbers, got {values[row]:g} in row {row + 1}"
            )
        return values

    def texts(self, name: str) -> Cells:
        """Return a column as text, None for missing cells; whole numbers are written without a point.

        Args:
            name: The column.

        Raises:
            ValueError: If the column is of neither numbers nor text.
        """
        cells = self.column(name)
        if cells.dtype.kind in "iu":
            found: list[str | None] = [str(value) for value in cells.tolist()]
        elif cells.dtype.kind == "f":
            values = cells.to_numpy(np.float64)
            found = [
                None if np.isnan(value) else f"{value:.0f}" if value % 1 == 0 else repr(value)
                for value in values.tolist()
            ]
        else:
            found = [text if isinstance(text, str) else None for text in cells.tolist()]
        return np.array(found, dtype=object)


def read_cells(source: Path | pd.DataFrame) -> Unread:
    """Return the cells of a table.

    Args:
        source: A text file with a header, or a frame, which is left alone.

    Raises:
        ValueError: If the file is malformed, or the frame has no rows or columns without distinct names.
    """
    if isinstance(source, Path):
        return Unread(f"'{source}'", *read_text_table(source))
    names = [str(name) for name in source.columns]
    if isinstance(source.columns, pd.MultiIndex) or len(set(names)) < len(names):
        raise ValueError(f"the frame must have columns of distinct names, got {', '.join(names)}")
    if source.empty:
        raise ValueError(f"the frame must have rows and columns, got an empty set of shape {source.shape}")
    cells = {name: _from_frame(source.iloc[:, number]) for number, name in enumerate(names)}
    return Unread("the frame", pd.DataFrame(cells, index=source.index))


def _from_frame(column: "pd.Series[object]") -> "pd.Series[object]":
    """Return a column of a user's frame as numbers, text or categories of text; durations are in seconds.

    One of other cells is returned as it is.
    """
    kind = column.dtype
    if isinstance(kind, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(kind):
        return _stripped(column.astype(object)).astype("category")
    if pd.api.types.is_integer_dtype(kind) and not column.hasnans:
        return column.astype(np.uint64 if pd.api.types.is_unsigned_integer_dtype(kind) else np.int64)
    if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_complex_dtype(kind):
        return pd.Series(column.to_numpy(np.float64, na_value=np.nan), column.index)
    if pd.api.types.is_object_dtype(kind) or pd.api.types.is_string_dtype(kind):
        return _stripped(column)
    if kind.kind == "m":
        return column.dt.total_seconds()
    if kind.kind == "M" or isinstance(kind, pd.PeriodDtype | pd.DatetimeTZDtype):
        return column.astype(object).map(str, na_action="ignore").astype(object)
    return column


def _stripped(column: "pd.Series[object]") -> "pd.Series[object]":
    """Return cells as text, None for missing ones and for texts that stand for them."""
    missing = column.isna().tolist()
    texts = [None if gone else str(value).strip() for gone, value in zip(missing, column, strict=True)]
    return pd.Series([None if text in MISSING else text for text in texts], column.index, dtype=object)


# ---- numbers or text -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Table:
    """A table whose columns are of numbers or of text, and whose rows all have a target.

    Attributes:
        where: What it was read from, for messages.
        inputs: The columns to learn from: float64 with NaN for missing cells, or object with text and None.
        target: Name of the column to predict.
        y: Its values, float64 or text, shape ``(rows,)``.
        is_whole: Whether these are whole numbers, written without a point.
        ignored: Names of the columns that were left out.
        notes: What was done, in words.
    """

    where: str
    inputs: pd.DataFrame
    target: str
    y: Numbers | Cells
    is_whole: bool
    ignored: tuple[str, ...]
    notes: tuple[str, ...]


def read_table(source: Path | pd.DataFrame, target: str | None = None, drop: Sequence[str] = ()) -> Table:
    """Read a table.

    A column is of numbers if all of its cells are, and else of text. Columns named as identifiers are, such as ``id``,
    are left out where each row has another one, and so is an index that was written as the first column, of the name
    ``Unnamed: 0``. Rows without a target are left out.

    Args:
        source: A text file with a header, or a frame.
        target: The column to predict; None for the last one.
        drop: Columns to leave out.

    Raises:
        ValueError: If a column is unknown, holds dates, or numbers beside text; there are several targets; nothing is
            left to learn from; or the table is malformed.
    """
    unread = read_cells(source)
    where, names = unread.where, [str(name) for name in unread.frame.columns]
    for name in drop:
        if name not in names:
            raise ValueError(f"drop must name columns of {where} ({', '.join(names)}), got {name!r}")
    names = [name for name in names if name not in drop]
    identifiers = [name for name in names if name != target and _is_identifier(unread, name)]
    names = [name for name in names if name not in identifiers]
    target = _target(names, target, where)
    y = _decided(unread, target)
    is_missing = _missing(y)
    if is_missing.all():
        raise ValueError(f"the target {target!r} of {where} must have values, got missing cells alone")
    inputs = {name: _decided(unread, name)[~is_missing] for name in names if name != target}
    empty = [name for name, values in inputs.items() if _missing(values).all()]
    frame = pd.DataFrame({name: pd.Series(v, dtype=v.dtype) for name, v in inputs.items() if name not in empty})
    if frame.empty:
        raise ValueError(f"{where} must have a column besides its target {target!r}, to learn from")
    left_out = {"as asked": list(drop), "identifiers": identifiers, "without a cell": empty}
    notes = [f"{', '.join(found)} left out ({why})" for why, found in left_out.items() if found]
    if is_missing.any():
        notes.append(f"{is_missing.sum():,} of {len(is_missing):,} rows left out, which have no {target}")
    y = y[~is_missing]
    ignored = (*drop, *identifiers, *empty)
    return Table(where, frame, target, y, _is_whole(unread.frame[target], y), ignored, (*unread.notes, *notes))


def _is_identifier(unread: Unread, name: str) -> bool:
    if name == INDEX and name == unread.frame.columns[0] and unread.frame.shape[1] > 2:
        return True
    if name.lower() not in _IDENTIFIERS:
        return False
    texts = unread.texts(name).tolist()
    return len(set(texts)) == len(texts) and not all(text is None or "." in text for text in texts)


def _target(names: Sequence[str], target: str | None, where: str) -> str:
    if target is None and names:
        return names[-1]
    if target in names:
        return str(target)
    several = [part.strip() for part in (target or "").split(",")]
    if len(several) > 1 and set(several) <= set(names):
        raise ValueError(
            f"target must be one column of {where}, got {len(several)} ({', '.join(several)}): "
            f"make a run of each, and leave the others out, such as with --target {several[0]} "
            f"--drop {','.join(several[1:])}"
        )
    raise ValueError(f"target must be a column of {where} ({', '.join(names)}), got {target!r}")


def _is_whole(cells: "pd.Series[object]", y: Numbers | Cells) -> bool:
    """Return whether a target is of whole numbers written so; pandas writes those as floats if some are missing."""
    if y.dtype == object or cells.dtype.kind in "iu":
        return y.dtype != object
    if cells.dtype.kind == "f":
        return bool(cells.isna().any()) and bool((y % 1 == 0).all())
    return all(text.lstrip("+-").isdecimal() for text in cells.tolist() if isinstance(text, str))


def _missing(values: Numbers | Cells) -> NDArray[np.bool_]:
    return np.asarray(pd.isna(values), dtype=bool)


def _decided(unread: Unread, name: str) -> Numbers | Cells:
    """Return a column as numbers or as text.

    Raises:
        ValueError: If it holds dates, or numbers beside text that is too rare to be a level.
    """
    cells, where = unread.column(name), unread.where
    if cells.dtype.kind in "iuf":
        return unread.numbers(name)
    texts = unread.texts(name)
    present = texts[~_missing(texts)]
    if isinstance(cells.dtype, pd.CategoricalDtype) or not len(present):
        return texts if len(present) else np.full(len(texts), np.nan)
    values = to_numbers(present, unread.decimal)
    is_text = np.isnan(values)
    if not is_text.any():
        return unread.numbers(name)
    counts = Counter(present[is_text].tolist())
    if np.mean([_DATE.fullmatch(text) is not None for text in counts]) > 0.9:
        raise ValueError(
            f"column {name!r} of {where} must hold numbers or text, got dates, such as '{min(counts)}': make numbers "
            f"of them, such as days since the first one, or leave the column out, with --drop {name}"
        )
    few_numbers = len(np.unique(values[~is_text])) <= _MOST_LEVELS and max(counts.values()) >= RARE
    if is_text.mean() <= 0.5 and not few_numbers:
        try:
            unread.numbers(name)  # raises, and says which cell is the first one
        except ValueError as error:
            raise ValueError(f"{error}; or leave the column out, with --drop {name}") from error
    return texts
