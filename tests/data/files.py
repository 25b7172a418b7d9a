"""Files of data as a person has them."""

import csv
import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnn_pyro.data import Dataset


def write_csv(path: Path, columns: Mapping[str, Sequence[object]]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return str(path)


def write_npz(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


def write_idx(path: Path, values: NDArray[np.uint8], compress: bool) -> None:
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    content = b"\0\0\x08" + bytes([values.ndim]) + sizes + values.tobytes()
    path = path.with_name(path.name + ".gz") if compress else path
    path.write_bytes(gzip.compress(content) if compress else content)


def write_mnist(folder: Path, *, compress: bool, labels: int = 10) -> Path:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.RandomState(0)
    for part, rows in (("train", 40), ("t10k", 20)):
        images = random.randint(256, size=(rows, 4, 3)).astype(np.uint8)
        write_idx(raw / f"{part}-images-idx3-ubyte", images, compress)
        write_idx(raw / f"{part}-labels-idx1-ubyte", (np.arange(rows) % labels).astype(np.uint8), compress)
    return folder


def rows_of(data: Dataset) -> list[tuple[float, ...]]:
    """All rows of a data set, sorted, so that sets can be told apart whatever their order."""
    splits = [split for split in (data.train, data.validation, data.test) if split is not None]
    return sorted(tuple(row) for split in splits for row in split.x.flatten(1).tolist())


def regression_file(folder: Path, rows: int = 50) -> str:
    random = np.random.RandomState(0)
    return write_npz(
        folder / "own.npz", X=random.randn(rows, 3) * [1.0, 10.0, 100.0] + 7.0, y=random.randn(rows) * 4 - 2
    )
