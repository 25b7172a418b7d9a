"""TableEncoding: how the columns of a table become the inputs of a network, and its outputs the target's units."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from bnn_pyro.data.encoding_fields import check_encoding
from bnn_pyro.data.frames import RARE, Unread
from bnn_pyro.data.raw_inputs import Feature, RawInputs
from bnn_pyro.data.text_files import Cells, is_number

_RARE_FRACTION = 0.01  # of the training rows
_INDICATOR_SD = 0.5  # of a balanced one, by which all indicators are divided: rare ones must not become large
_SHOWN = 8  # names in a note
_FORM = 1


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers, which is an input.

    Attributes:
        name: Its name.
        fill: What stands for a missing cell: the median of the training rows.
        missing: Whether cells were missing in the training rows, so that another input says where.
    """

    name: str
    fill: float
    missing: bool = False

    @staticmethod
    def learn(name: str, values: NDArray[np.float64]) -> "NumberColumn":
        """Return the column as training rows have it.

        Args:
            name: Its name.
            values: Its cells, NaN for missing ones.
        """
        is_missing = np.isnan(values)
        fill = 0.0 if is_missing.all() else float(np.median(values[~is_missing]))
        return NumberColumn(name, fill, bool(is_missing.any()))

    def features(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield name and fields of each `Feature` that is made of it."""
        yield self.name, {"kind": "value", "fill": self.fill}
        if self.missing:
            yield f"{self.name} is missing", {"kind": "missing"}

    def raw(self, cells: Unread) -> NDArray[np.float64]:
        """Return the numbers that stand for cells, NaN for missing ones.

        Args:
            cells: Rows of a table that has the column.

        Raises:
            ValueError: If a cell is no number.
        """
        return cells.numbers(self.name)


@dataclass(frozen=True)
class LevelColumn:
    """A column of text, of which each frequent one, a level, is an input; the rare ones share one.

    Level k stands for the k-th of ``levels``, and one more for the rare ones. Where there are two in all, a single
    input, of the second one, says as much as two.

    Attributes:
        name: Its name.
        levels: The frequent texts, in sorted order.
        other: Whether there were rare ones in the training rows. They share a level with what was not there at all.
        missing: Whether cells were missing in the training rows, so that another input says where.
    """

    name: str
    levels: tuple[str, ...]
    other: bool = False
    missing: bool = False

    @staticmethod
    def learn(name: str, texts: Cells) -> "LevelColumn":
        """Return the column as training rows have it: a text is rare in fewer than 5 of them, or 1 %.

        Args:
            name: Its name.
            texts: Its cells, None for missing ones.
        """
        is_missing = np.asarray(pd.isna(texts), dtype=bool)
        counts = Counter(texts[~is_missing].tolist())
        least = max(RARE, _RARE_FRACTION * len(texts))
        levels = tuple(sorted(text for text, count in counts.items() if count >= least))
        return LevelColumn(name, levels, len(levels) < len(counts), bool(is_missing.any()))

    def features(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield name and fields of each `Feature` that is made of it."""
        names = [*self.levels, *(["other"] if self.other else [])]
        kind = {"kind": "level", "levels": len(names), "has_missing": self.missing}
        for code, level in enumerate(names):
            if len(names) > 2 or (len(names) == 2 and code == 1):
                yield f"{self.name}={level}", {**kind, "code": code}
        if self.missing:
            yield f"{self.name} is missing", {"kind": "missing"}

    def raw(self, cells: Unread) -> NDArray[np.float64]:
        """Return the numbers that stand for cells: the level's, NaN for missing ones, -1 for texts without a level.

        Args:
            cells: Rows of a table that has the column.
        """
        codes = {text: float(code) for code, text in enumerate(self.levels)}
        unknown = float(len(self.levels)) if self.other else -1.0
        texts = cells.texts(self.name).tolist()
        return np.array([np.nan if text is None else codes.get(text, unknown) for text in texts], dtype=np.float64)


Column = NumberColumn | LevelColumn
"""A column of a table that a network reads."""

_KINDS: dict[str, type[Column]] = {"number": NumberColumn, "levels": LevelColumn}


@dataclass(frozen=True)
class TargetEncoding:
    """The target of a table.

    Attributes:
        name: The column's name.
        mean: Mean of the training rows' targets; 0 for classes.
        std: Their standard deviation; 1 for classes.
        classes: What each label stands for; None for regression.
    """

    name: str
    mean: float = 0.0
    std: float = 1.0
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class TableEncoding:
    """How the columns of a table become the inputs of a network, and its outputs the target's units.

    All of it was learned from training rows. A *raw* row has one number for each column: its value, or the number of
    its level, and NaN for a missing cell.

    Attributes:
        columns: The columns that the network reads.
        means: What is taken away from each feature.
        stds: What each feature is divided by then.
        target: The column to predict.
        ignored: Names of columns of the table that are not read.
    """

    columns: tuple[Column, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]
    target: TargetEncoding
    ignored: tuple[str, ...] = ()

    @staticmethod
    def learn(inputs: pd.DataFrame, target: TargetEncoding, ignored: Sequence[str] = ()) -> "TableEncoding":
        """Learn an encoding from training rows: levels, what stands for missing cells, means and standard deviations.

        Args:
            inputs: The rows, in columns of numbers (float64, NaN for missing cells) or text (object, None for them).
            target: The column to predict.
            ignored: Names of columns that were left out.

        Raises:
            ValueError: If no column tells rows apart.
        """
        names = [str(name) for name in inputs.columns]
        columns = tuple(_learned(name, inputs[name].to_numpy()) for name in names)
        used = tuple(column for column in columns if next(column.features(), None) is not None)
        if not used:
            raise ValueError(f"a column must tell rows apart, got none among {', '.join(names)}: no text is frequent")
        named = {column.name for column in used}
        ignored = (*ignored, *(name for name in names if name not in named))
        unscaled = _raw_inputs(used, None, None)
        features = unscaled.features(torch.from_numpy(_stacked(used, Unread("the table", inputs)))).numpy()
        is_value = unscaled.is_value.numpy()
        means, stds = mean_and_std(features)
        stds = np.where(is_value, stds, _INDICATOR_SD)
        return TableEncoding(used, tuple(means.tolist()), tuple(stds.tolist()), target, ignored)

    def notes(self, inputs: pd.DataFrame) -> tuple[str, ...]:
        """Return in words what is done to columns that are not numbers alone.

        Args:
            inputs: The training rows.
        """
        missing: dict[type[Column], list[str]] = {NumberColumn: [], LevelColumn: []}
        for column in self.columns:
            if column.missing:
                missing[type(column)].append(f"{column.name} ({inputs[column.name].isna().sum():,})")
        texts = [column for column in self.columns if isinstance(column, LevelColumn)]
        levels = [f"{column.name} ({len(column.levels)}{' and rare ones' if column.other else ''})" for column in texts]
        unread = [name for name in self.ignored if name in inputs.columns]
        constant = [c.name for c in self.columns if isinstance(c, NumberColumn) and inputs[c.name].nunique() < 2]
        found = {
            "missing cells filled by the median, and marked by another input": missing[NumberColumn],
            "missing cells of text marked by another input": missing[LevelColumn],
            "text as indicators of its levels": levels,
            "left out, as text that tells no rows apart (numbers with signs or units count as text)": unread,
            "constant in the training rows": constant,
        }
        return tuple(f"{what}: {_listed(names)}" for what, names in found.items() if names)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the network's inputs."""
        return tuple(name for column in self.columns for name, _ in column.features())

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns, in the order of the raw numbers."""
        return tuple(column.name for column in self.columns)

    def raw(self, cells: Unread) -> NDArray[np.float64]:
        """Return the raw numbers of rows of a table.

        Args:
            cells: The rows; columns of other names are not read.

        Returns:
            Shape ``(rows, columns)``.

        Raises:
            ValueError: If a column is absent, or a cell of a column of numbers is none.
        """
        absent = [name for name in self.column_names if name not in cells.frame.columns]
        if absent:
            raise ValueError(
                f"{cells.where} must have the columns of the training data, got none of {', '.join(absent)}"
            )
        return _stacked(self.columns, cells)

    def unlearned(self, cells: Unread) -> tuple[str, ...]:
        """Return in words which cells are as in no training row, so that a mean or median stands for them.

        Args:
            cells: Rows of a table.
        """
        raw, missing, texts = self.raw(cells), [], []
        for column, values in zip(self.columns, raw.T, strict=True):
            if not column.missing and np.isnan(values).any():
                missing.append(f"{column.name} ({np.isnan(values).sum():,})")
            if (values < 0).any() and isinstance(column, LevelColumn):
                text = cells.texts(column.name)[int((values < 0).argmax())]
                texts.append(f"{column.name} ({(values < 0).sum():,}, such as {text!r})")
        found = {"missing as in no training row": missing, "text as in no training row": texts}
        return tuple(f"{what}: {_listed(names)}" for what, names in found.items() if names)

    def raw_inputs(self) -> RawInputs:
        """Return the module that makes a network's inputs of raw numbers."""
        return _raw_inputs(self.columns, self.means, self.stds)

    def encode_inputs(self, cells: Unread) -> NDArray[np.float32]:
        """Return a network's inputs.

        Args:
            cells: Rows of a table.

        Returns:
            Shape ``(rows, features)``.

        Raises:
            ValueError: If a column is absent, or a cell of a column of numbers is none.
        """
        inputs: NDArray[np.float32] = self.raw_inputs()(torch.from_numpy(self.raw(cells))).numpy()
        return inputs

    def encode_targets(self, cells: Unread) -> NDArray[np.float32] | NDArray[np.int64]:
        """Return targets as a network is trained on: labels, or scaled; a missing target is -1, or NaN.

        Args:
            cells: Rows of a table that has the target's column.

        Raises:
            ValueError: If a target is of no class, or no number.
        """
        target = self.target
        if target.classes is None:
            return ((cells.numbers(target.name) - target.mean) / target.std).astype(np.float32)
        labels = {name: label for label, name in enumerate(target.classes)}
        texts = cells.texts(target.name).tolist()
        if all(map(is_number, target.classes)):  # of which 1 and 1.0 are the same
            numbers = cells.numbers(target.name).tolist()
            labels = {str(float(name)): label for name, label in labels.items()}
            texts = [None if text is None else str(value) for text, value in zip(texts, numbers, strict=True)]
        unknown = [text for text in texts if text is not None and text not in labels]
        if unknown:
            raise ValueError(
                f"the target {target.name!r} of {cells.where} must be one of {', '.join(target.classes)}, "
                f"got {unknown[0]!r}"
            )
        return np.array([-1 if text is None else labels[text] for text in texts], dtype=np.int64)

    # ---- as JSON -----------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Return the encoding as JSON values; ``features`` are the names of the inputs, for the reader."""
        kinds = {kind: name for name, kind in _KINDS.items()}
        return {
            "form": _FORM,
            "columns": [{"kind": kinds[type(column)], **asdict(column)} for column in self.columns],
            "features": list(self.feature_names),
            "means": list(self.means),
            "stds": list(self.stds),
            "target": asdict(self.target),
            "ignored": list(self.ignored),
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "TableEncoding":
        """Return the encoding that `to_json` has written, perhaps with other values beside it.

        Args:
            values: JSON values by name.

        Raises:
            ValueError: If they are of no encoding.
        """
        check_encoding(values, form=_FORM)
        columns = tuple(_column(dict(column)) for column in values["columns"])
        target = dict(values["target"])
        classes = None if target["classes"] is None else tuple(target["classes"])
        means, stds = tuple(values["means"]), tuple(values["stds"])
        encoding = TableEncoding(
            columns, means, stds, TargetEncoding(**{**target, "classes": classes}), tuple(values["ignored"])
        )
        if not len(encoding.feature_names) == len(means) == len(stds):
            got = f"{len(means)} and {len(stds)} for {len(encoding.feature_names)}"
            raise ValueError(f"'means' and 'stds' must have a number for each input, got {got}")
        return encoding


def mean_and_std(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return means and standard deviations over rows; that of a constant counts as 1.

    Args:
        rows: Shape ``(rows, ...)``.
    """
    constant = rows.min(axis=0) == rows.max(axis=0)  # Its computed standard deviation need not be exactly 0.
    return rows.mean(axis=0), np.where(constant, 1.0, rows.std(axis=0))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _learned(name: str, cells: NDArray[Any]) -> Column:
    return LevelColumn.learn(name, cells) if cells.dtype == object else NumberColumn.learn(name, cells)


def _column(values: dict[str, Any]) -> Column:
    kind = _KINDS[values.pop("kind")]
    if kind is LevelColumn:
        values["levels"] = tuple(values["levels"])
    return kind(**values)


def _stacked(columns: Sequence[Column], cells: Unread) -> NDArray[np.float64]:
    return np.column_stack([column.raw(cells) for column in columns])


def _raw_inputs(columns: Sequence[Column], means: Sequence[float] | None, stds: Sequence[float] | None) -> RawInputs:
    features = [Feature(number, **fields) for number, column in enumerate(columns) for _, fields in column.features()]
    zeros, ones = [0.0] * len(features), [1.0] * len(features)
    return RawInputs(features, len(columns), zeros if means is None else means, ones if stds is None else stds)
