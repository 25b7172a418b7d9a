"""Image data sets as arrays, read from the files that they are handed round in."""

from __future__ import annotations

import contextlib
import io
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import CIFAR10, MNIST

from bnn_pyro.data.archives import check_archive, decompressed

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Images:
    """Images and their labels, the training rows first.

    Attributes:
        where: The file or folder that they were read from.
        x: Pixels from 0 to 255, shape ``(rows, channels, height, width)``.
        y: Labels, shape ``(rows,)``.
        train_rows: Number of training rows.
        classes: What each label stands for.
    """

    where: str
    x: Bytes
    y: NDArray[np.int64]
    train_rows: int
    classes: tuple[str, ...]


# ---- MNIST and Fashion-MNIST -----------------------------------------------------------------------------------------


def read_mnist(kind: type[MNIST], folder: Path) -> Images:
    """Read MNIST, or a set like it, from its idx files, plain or compressed; the folder need not be writable.

    Args:
        kind: The class of torchvision that tells where the files are; what is absent is downloaded by it.
        folder: Folder in torchvision's layout.

    Returns:
        The images, of one channel.

    Raises:
        ValueError: If a file is absent and cannot be downloaded, or is no whole idx file.
    """
    raw = folder / kind.__name__ / "raw"
    names = [f"{part}-{file}" for part in ("train", "t10k") for file in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    if not all(_idx_path(raw, name).is_file() for name in names):
        _download(kind, folder, f"put the four idx files, plain or .gz, into '{raw}'")
    train_x, train_y, test_x, test_y = (_read_idx(_idx_path(raw, name)) for name in names)
    x, y = np.concatenate([train_x, test_x])[:, None], np.concatenate([train_y, test_y]).astype(np.int64)
    return Images(f"'{raw}'", x, y, len(train_x), tuple(kind.classes))


def _idx_path(raw: Path, name: str) -> Path:
    return raw / name if (raw / name).is_file() else raw / f"{name}.gz"


def _download(kind: type[MNIST | CIFAR10], folder: Path, otherwise: str) -> None:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            kind(folder, train=True, download=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"data_dir must hold {kind.__name__} or be a folder that it can be downloaded into, got '{folder}'; "
            f"{otherwise} ({error})"
        ) from error


def _read_idx(path: Path) -> Bytes:
    """Read an idx file of bytes: two zeros, the type 8, the number of dimensions, the big-endian sizes, the values."""
    try:
        content = decompressed(path) if path.suffix == ".gz" else path.read_bytes()
        if content[:3] != b"\0\0\x08":
            raise ValueError("it does not begin as an idx file of bytes does")
        start = 4 + 4 * content[3]
        shape = np.frombuffer(content[4:start], ">u4").astype(int)
        return np.frombuffer(content, np.uint8, offset=start).reshape(tuple(shape))
    except (OSError, EOFError, IndexError, ValueError, zlib.error) as error:
        raise ValueError(f"'{path}' must be a whole idx file; remove it and fetch it again ({error})") from error


# ---- CIFAR-10 --------------------------------------------------------------------------------------------------------

_CIFAR_SIZE = (32, 32)


def read_cifar10(folder: Path) -> Images:
    """Read CIFAR-10 from the six batches of its Python version, in torchvision's layout; download what is absent.

    Args:
        folder: Folder that holds ``cifar-10-batches-py``.

    Returns:
        The images, of 3 x 32 x 32 pixels.

    Raises:
        ValueError: If the batches are absent, or not the original ones, and cannot be downloaded.
    """
    try:
        train, test = (CIFAR10(folder, train=part, download=False) for part in (True, False))
    except RuntimeError:
        batches = f"'{folder / CIFAR10.base_folder}'"
        _download(CIFAR10, folder, f"put the batches of the Python version into {batches}, or take cifar10-jpeg")
        train, test = (CIFAR10(folder, train=part, download=False) for part in (True, False))
    x = np.ascontiguousarray(np.concatenate([train.data, test.data]).transpose(0, 3, 1, 2))
    y = np.asarray([*train.targets, *test.targets], dtype=np.int64)
    return Images(f"'{folder / CIFAR10.base_folder}'", x, y, len(train.targets), tuple(train.classes))


def read_cifar10_jpeg(folder: Path) -> Images:
    """Read the lossy copy of CIFAR-10 whose images are JPEG files; it is not CIFAR-10 exactly.

    Args:
        folder: Folder that holds ``cifar10-jpeg/cifar10_jpeg.npz`` or ``cifar10_jpeg.npz``: for ``train`` and ``test``
            the JPEG files one after another (``_bytes``), where each begins and the last ends (``_offsets``), and the
            labels (``_labels``); and ``class_names``.

    Returns:
        The images, of 3 x 32 x 32 pixels.

    Raises:
        ValueError: If the archive is absent or malformed.
    """
    paths = (folder / "cifar10-jpeg" / "cifar10_jpeg.npz", folder / "cifar10_jpeg.npz")
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise ValueError(f"data_dir must hold 'cifar10-jpeg/cifar10_jpeg.npz' or 'cifar10_jpeg.npz', got '{folder}'")
    try:
        check_archive(path)
        with np.load(path) as archive:
            arrays = dict(archive)
        parts = [_decoded(arrays[f"{part}_bytes"], arrays[f"{part}_offsets"]) for part in ("train", "test")]
        labels = [arrays[f"{part}_labels"].astype(np.int64) for part in ("train", "test")]
        classes = tuple(str(name) for name in arrays["class_names"])
    except Exception as error:  # a file that is no archive, or bytes that are no image, fail in a dozen ways
        raise ValueError(f"'{path}' must hold JPEG files, offsets, labels and class_names ({error})") from error
    return Images(f"'{path}'", np.concatenate(parts), np.concatenate(labels), len(parts[0]), classes)


def _decoded(content: Bytes, offsets: NDArray[np.integer]) -> Bytes:
    """Decode JPEG files of the right size, shape ``(rows, channels, height, width)``."""
    files = (content[start:end].tobytes() for start, end in zip(offsets[:-1], offsets[1:], strict=True))
    return np.ascontiguousarray(np.stack([_pixels(file) for file in files]).transpose(0, 3, 1, 2))


def _pixels(file: bytes) -> Bytes:
    with Image.open(io.BytesIO(file), formats=("JPEG",)) as image:
        if image.size != _CIFAR_SIZE:  # a header of a few bytes may ask for gigabytes
            raise ValueError(f"images must have {_CIFAR_SIZE} pixels, got {image.size}")
        return np.asarray(image.convert("RGB"))
