"""Named data sets as tensors: images, regression benchmarks and a user's own tables, split and scaled."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor
from torchvision.datasets import MNIST, FashionMNIST

from bnn_pyro.data.images import Images, read_cifar10, read_cifar10_jpeg, read_mnist
from bnn_pyro.data.tables import Numbers, Rows, Source, hold_out, read_csv, read_npz, read_uci

_IMAGES: dict[str, Callable[[Path], Images]] = {
    "mnist": partial(read_mnist, MNIST),
    "fashion-mnist": partial(read_mnist, FashionMNIST),
    "cifar10": read_cifar10,
    "cifar10-jpeg": read_cifar10_jpeg,
}


_UCI = ("boston-housing", "concrete", "energy", "kin8nm", "naval", "power-plant", "protein", "wine-red", "yacht")


DATASETS: tuple[str, ...] = ("digits", *_IMAGES, *_UCI)
"""The names that `load` knows; a path to a ``.csv`` or ``.npz`` file is understood as well."""


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
        target: The column of a table that was asked for as the target; None for the usual one.
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
    """Load a data set by its name, or from a ``.csv`` or ``.npz`` file.

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
    train, held_out = hold_out(source.y, train, validation, seed) if validation else (train, None)
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
        target=target,
    )


@dataclass(frozen=True, eq=False)
class _Scaling:
    """The affine maps to the scale of the network: of pixels to [0, 1], of tables by the training rows."""

    x_mean: NDArray[np.float64] | float
    x_std: NDArray[np.float64] | float
    y_mean: float = 0.0
    y_std: float = 1.0

    @staticmethod
    def of(source: Source, train: Rows) -> "_Scaling":
        if source.pixel is not None:
            return _Scaling(0.0, source.pixel)
        if source.classes is not None:
            return _Scaling(*_mean_and_std(source.x[train]))
        y_mean, y_std = _mean_and_std(source.y[train])
        return _Scaling(*_mean_and_std(source.x[train]), float(y_mean), float(y_std))

    def apply(self, source: Source, rows: Rows, flatten: bool) -> Split:
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


def _mean_and_std(rows: Numbers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    constant = rows.min(axis=0) == rows.max(axis=0)  # Its computed standard deviation need not be exactly 0.
    return rows.mean(axis=0), np.where(constant, 1.0, rows.std(axis=0))


def _read(name: str, data_dir: str | Path | None, target: str | None) -> Source:
    path = Path(name)
    suffix = path.suffix.lower()
    if target is not None and suffix != ".csv":
        raise ValueError(f"target must be left out where the data is not a .csv with named columns, got {target!r}")
    if name == "digits":
        return _read_digits()
    if name in DATASETS:
        if data_dir is None:
            raise ValueError(f"data_dir must be given for {name!r}: the folder that holds the data")
        return read_uci(name, Path(data_dir)) if name in _UCI else _source_of(_IMAGES[name](Path(data_dir)))
    if suffix not in (".csv", ".npz"):
        raise ValueError(f"name must be one of {', '.join(DATASETS)}, or a path to a .csv or .npz file, got {name!r}")
    if not path.is_file():
        raise ValueError(f"name must be the path of a file that exists, got {name!r}")
    return read_npz(path) if suffix == ".npz" else read_csv(path, target)


def _read_digits() -> Source:
    """Scikit-learn's 1,797 digits of 8 x 8 pixels, from 0 to 16."""
    digits = load_digits()
    classes = tuple(str(digit) for digit in range(10))
    return Source("digits", digits.images[:, None], digits.target.astype(np.int64), classes, pixel=16)


def _source_of(images: Images) -> Source:
    test_index = np.arange(images.train_rows, len(images.x))[None]
    return Source(images.where, images.x, images.y, images.classes, test_index, pixel=255)
