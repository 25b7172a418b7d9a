"""Named data sets as tensors: images, regression benchmarks and a user's own tables, split and scaled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor
from torchvision.datasets import MNIST, FashionMNIST

from bnn_pyro.arguments import check_flags, check_path, check_reals, check_seed, check_whole
from bnn_pyro.data.encoding import TableEncoding, TargetEncoding, mean_and_std
from bnn_pyro.data.frames import FRAME, Unread
from bnn_pyro.data.images import Images, read_cifar10, read_cifar10_jpeg, read_mnist
from bnn_pyro.data.tables import Rows, Source, Task, hold_out, read_npz, read_rows, read_uci
from bnn_pyro.data.text_files import SUFFIXES

_IMAGES: dict[str, Callable[[Path], Images]] = {
    "mnist": partial(read_mnist, MNIST),
    "fashion-mnist": partial(read_mnist, FashionMNIST),
    "cifar10": read_cifar10,
    "cifar10-jpeg": read_cifar10_jpeg,
}


_UCI = ("boston-housing", "concrete", "energy", "kin8nm", "naval", "power-plant", "protein", "wine-red", "yacht")


DATASETS: tuple[str, ...] = ("digits", *_IMAGES, *_UCI)
"""The names that `load` knows; a path to a ``.csv``, ``.tsv``, ``.txt`` or ``.npz`` file is understood as well."""

IMAGES: tuple[str, ...] = ("digits", *_IMAGES)
"""Those of them that are images."""


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of a data set, all in memory.

    Attributes:
        x: Inputs, float32 of shape ``(N, *input_shape)``.
        y: Targets of shape ``(N,)``: int64 labels for classification, float32 for regression.
        weight: How many rows each row counts for, float32 of shape ``(N,)``; None for 1.
    """

    x: Tensor
    y: Tensor
    weight: Tensor | None = None

    def __len__(self) -> int:
        return len(self.y)

    def rows(self, numbers: Tensor) -> "Split":
        """Return some of the rows.

        Args:
            numbers: Their numbers.
        """
        weight = None if self.weight is None else self.weight[numbers]
        return Split(self.x[numbers], self.y[numbers], weight)


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
        target: The column of a table that was asked for as the target; None for the usual one.
        drop: The columns of a table that were asked to be left out.
        encoding: How the columns of a table became the inputs, and the target the targets; None for images and other
            arrays.
        notes: What was done to a table, in words.
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
    target: str | None = None
    drop: tuple[str, ...] = ()
    encoding: TableEncoding | None = None
    notes: tuple[str, ...] = ()

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Names of the inputs; None for those of images and other arrays."""
        return None if self.encoding is None else self.encoding.feature_names

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the dimension of the rows."""
        return tuple(self.train.x.shape[1:])

    @property
    def is_weighted(self) -> bool:
        """Whether the training rows have weights."""
        return self.train.weight is not None

    @property
    def outputs(self) -> int:
        """Number of outputs of a network for it: one a class, or one."""
        return 1 if self.num_classes is None else self.num_classes


def is_data(name: str) -> bool:
    """Return whether a name can be that of a data set: one of `DATASETS`, the path of a table, or a frame's.

    Args:
        name: The name.
    """
    check_path("name", name)
    return name in DATASETS or has_columns(name) or Path(name).suffix.lower() == ".npz"


def has_columns(name: str) -> bool:
    """Return whether the columns of a data set have names, so that a target can be chosen among them.

    Args:
        name: The name, or path.
    """
    check_path("name", name)
    return name == FRAME or Path(name).suffix.lower() in SUFFIXES


def load(
    name: str | pd.DataFrame,
    *,
    data_dir: str | Path | None = None,
    validation: float = 0.0,
    seed: int = 0,
    split: int = 0,
    flatten: bool = False,
    target: str | None = None,
    task: Task | None = None,
    drop: Sequence[str] = (),
) -> Dataset:
    """Load a data set by its name, from a ``.csv``, ``.tsv``, ``.txt`` or ``.npz`` file, or from a DataFrame.

    Images (``digits``, ``mnist``, ``fashion-mnist``, ``cifar10``) have pixels in ``[0, 1]`` and shape ``(N, channels,
    height, width)``. ``cifar10-jpeg`` is a lossy copy of CIFAR-10, to be named as such beside any result. The inputs
    and targets of tables are standardised by the training rows, a standard deviation of 0 counting as 1.

    A text file has a header with the names of its columns. Columns are separated by commas, semicolons, tabs, bars or
    white space, and a comma may mark decimals. Row names, and a column such as ``id`` with another value in each row,
    are left out. Of the inputs

    * numbers are standardised. Where cells are missing in training rows, the median of these stands for them, and
      another input says where;
    * text and categories become one input for each text that is in at least 5 training rows and 1 % of them, the others
      together being one more; a single input where there are two in all; and one for missing cells. They are less their
      means, divided by 0.5 [Gelman 2008];
    * dates are refused.

    `Dataset.encoding` has all that was learned of the training rows, `Dataset.notes` say what was done.

    The target is classification when the column holds text, or at most 20 distinct whole numbers written without a
    point (write ``5.0`` for ``5`` to have regression, or give the task); the classes are numbered in sorted order. Any
    other column of numbers is regression. Rows without a target are left out.

    A ``.npz`` holds ``X`` of shape ``(n, ...)``, ``y`` of shape ``(n,)`` and, if the splits are fixed, ``test_index``
    of shape ``(splits, test rows)``. Its target is regression for floats, and classification for text or for integers,
    which must be the labels ``0, ..., classes - 1`` themselves, unless the task is given.

    Where no test rows are given, a fifth of the rows, of each class alike, is the test set, the same whatever the seed.

    Sources: Gelman (2008), Scaling regression inputs by dividing by two standard deviations.

    Args:
        name: One of `DATASETS`, a path with one of the endings above, or a frame, which is left alone.
        data_dir: Folder of the data, which all names but ``digits`` need. Images are in torchvision's layout, and are
            downloaded into the folder where they are absent; a UCI set is ``uci/<name>.npz`` or ``<name>.npz`` in it.
        validation: Fraction of the training rows to hold out for validation, in ``[0, 1)``; of each class alike.
        seed: Seed of the choice of validation rows.
        split: Which of the data set's fixed train/test splits to take.
        flatten: Whether to give inputs of shape ``(N, inputs)``.
        target: Name of the target column of a text file or a frame; the last column by default.
        task: What the targets of a table are; None tells it by their type.
        drop: Columns of a text file or a frame to leave out.

    Returns:
        The data set, on the CPU.

    Raises:
        ValueError: The name or the column is unknown; the file is absent, malformed or empty; values are not finite,
            labels out of range, or inputs and targets of different lengths; a column holds dates, or numbers beside
            text; an option is out of range.
    """
    check_reals({"validation": validation})
    check_whole("split", split, 0)
    check_seed(seed)
    check_flags({"flatten": flatten})
    if not 0 <= validation < 1:
        raise ValueError(f"validation must be a fraction in [0, 1), got {validation}")
    if isinstance(drop, str):
        raise TypeError(f"drop must be a sequence of names, got {drop!r}")
    source = _read(name, data_dir, target, task, drop)
    shown = name if isinstance(name, str) else FRAME
    train, test = source.train_and_test_rows(split)
    train, held_out = hold_out(source.y, train, validation, seed) if validation else (train, None)
    if len(train) == 0:
        raise ValueError(f"the training set of {shown!r} must not be empty; lower validation={validation} or add rows")
    scaling = _Scaling.of(source, train)
    return Dataset(
        name=shown,
        task="regression" if source.classes is None else "classification",
        train=scaling.apply(source, train, flatten),
        validation=None if held_out is None else scaling.apply(source, held_out, flatten),
        test=scaling.apply(source, test, flatten),
        num_classes=None if source.classes is None else len(source.classes),
        y_mean=scaling.target.mean,
        y_std=scaling.target.std,
        classes=source.classes,
        target=target,
        drop=tuple(drop),
        encoding=scaling.encoding,
        notes=(*source.notes, *scaling.notes),
    )


@dataclass(frozen=True, eq=False)
class _Scaling:
    """The maps to the scale of the network: of pixels to [0, 1], of tables by the training rows."""

    target: TargetEncoding
    encoding: TableEncoding | None = None
    notes: tuple[str, ...] = ()
    x_mean: NDArray[np.float64] | float = 0.0
    x_std: NDArray[np.float64] | float = 1.0

    @staticmethod
    def of(source: Source, train: Rows) -> "_Scaling":
        mean, std = (
            (0.0, 1.0) if source.classes is not None else map(float, mean_and_std(source.y[train].astype(np.float64)))
        )
        target = TargetEncoding(source.target, mean, std, source.classes)
        if source.inputs is not None:
            rows = source.inputs.iloc[train]
            encoding = TableEncoding.learn(rows, target, source.ignored)
            return _Scaling(target, encoding, encoding.notes(rows))
        x = np.asarray(source.x)
        return _Scaling(target, None, (), *((0.0, source.pixel) if source.pixel else mean_and_std(x[train])))

    def apply(self, source: Source, rows: Rows, flatten: bool) -> Split:
        inputs = torch.from_numpy(self._inputs(source, rows))
        y = source.y[rows]
        if source.classes is None:
            y = ((y - self.target.mean) / self.target.std).astype(np.float32)
        return Split(inputs.flatten(1) if flatten else inputs, torch.from_numpy(y))

    def _inputs(self, source: Source, rows: Rows) -> NDArray[np.float32]:
        if self.encoding is not None and source.inputs is not None:
            return self.encoding.encode_inputs(Unread(source.where, source.inputs.iloc[rows]))
        x = np.asarray(source.x)[rows]
        if source.pixel is None:
            return ((x - self.x_mean) / self.x_std).astype(np.float32, copy=False)
        scaled = x.astype(np.float32)  # Pixels are exact in float32; in float64 CIFAR-10 would take gigabytes.
        scaled /= source.pixel
        return scaled


def _read(
    name: str | pd.DataFrame,
    data_dir: str | Path | None,
    target: str | None,
    task: Task | None,
    drop: Sequence[str],
) -> Source:
    if task not in (None, "classification", "regression"):
        raise ValueError(f"task must be classification or regression, got {task!r}")
    if isinstance(name, pd.DataFrame):
        return read_rows(name, target, task, drop)
    path = Path(name)
    suffix = path.suffix.lower()
    for option, value in {"target": target, "drop": ", ".join(drop) or None}.items():
        if value is not None and suffix not in SUFFIXES:
            raise ValueError(
                f"{option} must be left out where the data have no named columns, as a .csv, got {value!r}"
            )
    if task is not None and name in IMAGES:
        raise ValueError(f"task must be left out for images, got {task!r}")
    if name == "digits":
        return _read_digits()
    if name in DATASETS:
        if data_dir is None:
            raise ValueError(f"data_dir must be given for {name!r}: the folder that holds the data")
        return read_uci(name, Path(data_dir), task) if name in _UCI else _source_of(_IMAGES[name](Path(data_dir)))
    if suffix not in (*SUFFIXES, ".npz"):
        endings = ", ".join(SUFFIXES)
        raise ValueError(
            f"name must be one of {', '.join(DATASETS)}, or a path to a {endings} or .npz file, got {name!r}"
        )
    if not path.is_file():
        raise ValueError(f"name must be the path of a file that exists, got {name!r}")
    return read_npz(path, task) if suffix == ".npz" else read_rows(path, target, task, drop)


def _read_digits() -> Source:
    """Scikit-learn's 1,797 digits of 8 x 8 pixels, from 0 to 16."""
    digits = load_digits()
    classes = tuple(str(digit) for digit in range(10))
    return Source("digits", digits.images[:, None], digits.target.astype(np.int64), classes, pixel=16)


def _source_of(images: Images) -> Source:
    test_index = np.arange(images.train_rows, len(images.x))[None]
    return Source(images.where, images.x, images.y, images.classes, test_index, pixel=255)
