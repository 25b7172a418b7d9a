"""CIFAR-10 is read in both of its forms; MNIST's files are tested with the data sets that are made of them."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import CIFAR10

from bnn_pyro.data import load
from bnn_pyro.data.images import read_cifar10, read_cifar10_jpeg

NAMES = [f"class {label}" for label in range(10)]


def pictures(rows: int, seed: int) -> NDArray[np.uint8]:
    """Images of one colour, which JPEG keeps to a few grey levels."""
    colours = np.random.RandomState(seed).randint(256, size=(rows, 1, 1, 3))
    return np.broadcast_to(colours, (rows, 32, 32, 3)).astype(np.uint8)


def write_batches(folder: Path) -> Path:
    """Write batches of 4 training and 3 test rows as torchvision reads them."""
    base = folder / "cifar-10-batches-py"
    base.mkdir()
    names = [f"data_batch_{number}" for number in range(1, 6)]
    for seed, (name, rows) in enumerate([*((name, 4) for name in names), ("test_batch", 3)]):
        data = pictures(rows, seed).transpose(0, 3, 1, 2).reshape(rows, -1)
        (base / name).write_bytes(pickle.dumps({"data": data, "labels": [(seed + i) % 10 for i in range(rows)]}))
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}))
    return folder


def write_jpeg(path: Path, **changes: Any) -> None:
    """Write an archive of 6 training and 4 test rows."""
    arrays: dict[str, Any] = {"class_names": np.array(NAMES)}
    for part, rows in (("train", 6), ("test", 4)):
        files = []
        for picture in pictures(rows, rows):
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "JPEG", quality=75)
            files.append(file.getvalue())
        arrays[f"{part}_bytes"] = np.frombuffer(b"".join(files), np.uint8)
        arrays[f"{part}_offsets"] = np.cumsum([0, *map(len, files)]).astype(np.uint32)
        arrays[f"{part}_labels"] = np.arange(rows, dtype=np.uint8)
    np.savez(path, **(arrays | changes))


def test_cifar10_in_the_layout_of_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5: True)
    images = read_cifar10(write_batches(tmp_path))
    assert images.x.shape == (23, 3, 32, 32) and images.x.flags.c_contiguous and images.train_rows == 20
    assert (images.x[4:8] == pictures(4, 1).transpose(0, 3, 1, 2)).all()
    assert images.y.tolist()[:5] == [0, 1, 2, 3, 1] and images.classes == tuple(NAMES)
    data = load("cifar10", data_dir=tmp_path)
    assert data.input_shape == (3, 32, 32) and (len(data.train), len(data.test)) == (20, 3)
    assert torch.equal(data.test.x, torch.from_numpy(images.x[20:]) / 255)


def test_cifar10_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: CIFAR10) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr(CIFAR10, "download", fail)
    with pytest.raises(
        ValueError, match=r"must hold CIFAR10 .*cifar-10-batches-py', or take cifar10-jpeg \(no network"
    ):
        load("cifar10", data_dir=tmp_path)


@pytest.mark.parametrize("folder", ["cifar10-jpeg", "."])
def test_cifar10_from_jpeg_files(folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    write_jpeg(tmp_path / folder / "cifar10_jpeg.npz")
    images = read_cifar10_jpeg(tmp_path)
    assert images.x.shape == (10, 3, 32, 32) and images.x.flags.c_contiguous and images.train_rows == 6
    expected = np.concatenate([pictures(6, 6), pictures(4, 4)]).transpose(0, 3, 1, 2)
    assert np.abs(images.x.astype(int) - expected).max() <= 8
    data = load("cifar10-jpeg", data_dir=tmp_path, flatten=True)
    assert data.input_shape == (3072,) and data.test.y.tolist() == [0, 1, 2, 3] and data.classes == tuple(NAMES)


def test_jpeg_archive_that_is_absent_or_broken(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data_dir must hold 'cifar10-jpeg/cifar10_jpeg.npz'"):
        load("cifar10-jpeg", data_dir=tmp_path)
    path = tmp_path / "cifar10_jpeg.npz"
    for changes in ({"train_bytes": np.zeros(5000, np.uint8)}, {"train_labels": np.arange(5, dtype=np.uint8)}):
        write_jpeg(path, **changes)
        with pytest.raises(ValueError, match=r"cifar10_jpeg.npz'"):
            load("cifar10-jpeg", data_dir=tmp_path)
    large = io.BytesIO()
    Image.new("RGB", (33, 32)).save(large, "JPEG")
    content, offsets = np.frombuffer(large.getvalue(), np.uint8), np.array([0, len(large.getvalue())])
    write_jpeg(path, train_bytes=content, train_offsets=offsets)
    with pytest.raises(ValueError, match=r"images must have \(32, 32\) pixels, got \(33, 32\)"):
        load("cifar10-jpeg", data_dir=tmp_path)
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="must hold JPEG files, offsets, labels and class_names"):
        load("cifar10-jpeg", data_dir=tmp_path)


@pytest.mark.slow
def test_the_jpeg_copy_is_as_its_description_says(shared_data: Path) -> None:
    data = load("cifar10-jpeg", data_dir=shared_data)
    assert (len(data.train), len(data.test)) == (50_000, 10_000)
    assert data.train.y.bincount().tolist() == [5_000] * 10 and data.test.y.bincount().tolist() == [1_000] * 10
    assert data.train.y[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    mean, std = data.train.x.mean((0, 2, 3)), data.train.x.std((0, 2, 3))
    torch.testing.assert_close(mean, torch.tensor([0.4913, 0.4821, 0.4465]), rtol=0, atol=1e-4)
    torch.testing.assert_close(std, torch.tensor([0.2452, 0.2428, 0.2606]), rtol=0, atol=1e-4)
