"""The data sets are the ones their tables describe, split and scaled as documented; bad files and options are named."""

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnn_pyro.data import DATASETS, load
from tests.data.files import regression_file, rows_of, write_mnist, write_npz

MNIST_TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


MNIST_TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


# name, rows, inputs, splits, test rows, and the test RMSE, averaged over the splits, of the training mean and of least
# squares, all as they stand in the table that describes the files.
UCI = [
    ("boston-housing", 506, 13, 20, 51, 9.033, 4.588),
    ("concrete", 1030, 8, 20, 103, 16.35, 10.31),
    ("energy", 768, 8, 20, 77, 10.10, 3.056),
    ("kin8nm", 8192, 8, 20, 819, 0.2647, 0.2023),
    ("naval", 11934, 16, 20, 1193, 0.01474, 0.005897),
    ("power-plant", 9568, 4, 20, 957, 17.13, 4.613),
    ("protein", 45730, 9, 5, 4573, 6.128, 5.213),
    ("wine-red", 1599, 11, 20, 160, 0.8207, 0.6544),
    ("yacht", 308, 6, 20, 31, 14.54, 8.969),
]


def test_digits_are_whole_stratified_and_in_the_unit_interval() -> None:
    data = load("digits")
    assert (data.name, data.task, data.num_classes, data.y_mean, data.y_std) == (
        "digits",
        "classification",
        10,
        0.0,
        1.0,
    )
    assert data.input_shape == (1, 8, 8)
    assert data.outputs == 10
    assert (len(data.train), data.validation, len(data.test)) == (1438, None, 359)
    assert data.train.x.dtype == torch.float32
    assert data.train.y.dtype == torch.int64
    assert (data.train.x.min().item(), data.train.x.max().item()) == (0.0, 1.0)
    assert torch.equal(data.train.x * 16, (data.train.x * 16).round())
    share = data.train.y.bincount() / (data.train.y.bincount() + data.test.y.bincount())
    torch.testing.assert_close(share, torch.full((10,), 0.8), atol=0.004, rtol=0)


def test_digits_test_set_is_the_same_for_every_seed_and_validation() -> None:
    first, second = load("digits", seed=0), load("digits", seed=7, validation=0.2)
    assert torch.equal(first.test.x, second.test.x)
    assert rows_of(first) == rows_of(second)


def test_flatten_only_changes_the_shape() -> None:
    flat = load("digits", flatten=True)
    assert flat.input_shape == (64,)
    assert torch.equal(flat.train.x, load("digits").train.x.flatten(1))


def test_validation_is_stratified_disjoint_and_drawn_by_the_seed() -> None:
    whole, data, again, other = load("digits"), *(load("digits", validation=0.25, seed=seed) for seed in (3, 3, 4))
    assert data.validation is not None and again.validation is not None and other.validation is not None
    assert (len(data.train), len(data.validation)) == (1438 - 360, 360)
    expected = whole.train.y.bincount() * 0.25
    assert (data.validation.y.bincount() - expected).abs().max() < 1
    assert rows_of(data) == rows_of(whole)
    assert torch.equal(data.validation.x, again.validation.x)
    assert not torch.equal(data.validation.x, other.validation.x)


@pytest.mark.parametrize(
    ("name", "mean", "std"), [("mnist", 0.1307, 0.3081), ("fashion-mnist", 0.2860, 0.3530)], ids=["mnist", "fashion"]
)
def test_images_are_the_published_ones(shared_data: Path, name: str, mean: float, std: float) -> None:
    data = load(name, data_dir=shared_data)
    assert (data.train.x.shape, data.test.x.shape) == ((60_000, 1, 28, 28), (10_000, 1, 28, 28))
    assert (data.train.x.dtype, data.num_classes) == (torch.float32, 10)
    assert data.train.x.mean(dtype=torch.float64).item() == pytest.approx(mean, abs=5e-5)
    assert data.train.x.double().std(correction=0).item() == pytest.approx(std, abs=5e-5)
    assert (data.train.x.min().item(), data.train.x.max().item()) == (0.0, 1.0)
    counts = (MNIST_TRAIN_COUNTS, MNIST_TEST_COUNTS) if name == "mnist" else ([6000] * 10, [1000] * 10)
    assert (data.train.y.bincount().tolist(), data.test.y.bincount().tolist()) == counts


@pytest.mark.parametrize("compress", [True, False], ids=["gz", "plain"])
def test_images_are_read_from_either_form_and_nothing_is_written(tmp_path: Path, compress: bool) -> None:
    folder = write_mnist(tmp_path, compress=compress)
    before = sorted(folder.rglob("*"))
    data = load("mnist", data_dir=folder, flatten=True)
    assert (data.train.x.shape, data.test.x.shape) == ((40, 12), (20, 12))
    images = np.random.RandomState(0).randint(256, size=(40, 4, 3))
    torch.testing.assert_close(data.train.x.double(), torch.from_numpy(images).flatten(1) / 255, check_dtype=False)
    assert data.test.y.tolist() == [*range(10), *range(10)]
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(("name", "n", "d", "splits", "size", "constant", "linear"), UCI, ids=[row[0] for row in UCI])
def test_uci_errors_of_the_mean_and_of_least_squares(
    shared_data: Path, name: str, n: int, d: int, splits: int, size: int, constant: float, linear: float
) -> None:
    of_mean, of_line = [], []
    for split in range(splits):
        data = load(name, data_dir=shared_data, split=split)
        assert (data.train.x.shape, data.test.x.shape) == ((n - size, d), (size, d))
        train = torch.cat([data.train.x, torch.ones(len(data.train), 1)], dim=1).double()
        test = torch.cat([data.test.x, torch.ones(len(data.test), 1)], dim=1).double()
        weights = torch.linalg.lstsq(train.T @ train, train.T @ data.train.y.double(), driver="gelsd").solution
        of_mean.append(data.y_std * data.test.y.double().square().mean().sqrt().item())
        of_line.append(data.y_std * (test @ weights - data.test.y.double()).square().mean().sqrt().item())
    assert np.mean(of_mean) == pytest.approx(constant, rel=5e-4)
    assert np.mean(of_line) == pytest.approx(linear, rel=5e-4)
    with pytest.raises(ValueError, match=rf"^split must be in 0, \.\.\., {splits - 1}.* got {splits}$"):
        load(name, data_dir=shared_data, split=splits)


def test_uci_files_may_lie_in_the_folder_itself(shared_data: Path) -> None:
    data = load("yacht", data_dir=shared_data / "uci", split=3)
    assert torch.equal(data.train.x, load("yacht", data_dir=shared_data, split=3).train.x)


def test_regression_is_standardised_by_the_rows_that_remain_for_training(tmp_path: Path) -> None:
    name = regression_file(tmp_path)
    data, archive = load(name, validation=0.3, seed=1), np.load(name)
    assert data.validation is not None
    assert (data.task, data.num_classes, data.classes) == ("regression", None, None)
    assert (len(data.train), len(data.validation), len(data.test)) == (28, 12, 10)
    assert data.train.y.dtype == torch.float32
    for values in (data.train.x, data.train.y):
        torch.testing.assert_close(values.mean(0), torch.zeros_like(values[0]), atol=1e-6, rtol=0)
        torch.testing.assert_close(values.std(0, correction=0), torch.ones_like(values[0]))
    assert data.validation.x.mean(0).abs().max() > 1e-3
    parts = [data.train.y, data.validation.y, data.test.y]
    original = torch.cat(parts).double() * data.y_std + data.y_mean
    np.testing.assert_allclose(np.sort(original.numpy()), np.sort(archive["y"]), rtol=1e-5, atol=1e-5)


def test_constant_columns_become_zero(tmp_path: Path) -> None:
    """A mean of tenths is off by rounding, so that the computed standard deviation of a constant is not exactly 0."""
    x = np.stack([np.arange(1000.0), np.full(1000, 0.1)], axis=1)
    assert x[:800].std(axis=0)[1] > 0
    data = load(write_npz(tmp_path / "own.npz", X=x, y=np.full(1000, 5.0)))
    assert data.train.x[:, 1].abs().max() < 1e-12
    assert data.train.y.abs().max() == 0
    assert (data.y_mean, data.y_std) == (5.0, 1.0)


def test_naval_has_two_constant_inputs(shared_data: Path) -> None:
    x = load("naval", data_dir=shared_data).train.x
    spread = x.std(dim=0, correction=0)
    assert [column for column, value in enumerate(spread.tolist()) if value < 0.5] == [8, 11]
    assert x[:, [8, 11]].abs().max() < 1e-6


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="got 'minst'$") as error:
        load("minst")
    assert all(name in str(error.value) for name in DATASETS)


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "digits"])
def test_names_that_need_a_folder_say_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^data_dir must be given for '{name}'"):
        load(name)
    if not name.startswith(("mnist", "fashion", "cifar")):
        with pytest.raises(ValueError, match=f"^data_dir must hold 'uci/{name}.npz'"):
            load(name, data_dir=tmp_path)


@pytest.mark.parametrize(
    "fault", [RuntimeError("no network"), PermissionError("read-only")], ids=["offline", "read-only"]
)
def test_images_that_cannot_be_fetched(fault: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object) -> None:
        raise fault

    monkeypatch.setattr("torchvision.datasets.MNIST.download", fail)
    with pytest.raises(ValueError, match="^data_dir must hold MNIST or be a folder that it can be downloaded into"):
        load("mnist", data_dir=tmp_path)


def test_absent_images_are_fetched_by_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(self: Any) -> None:
        write_mnist(Path(self.root), compress=False)

    monkeypatch.setattr("torchvision.datasets.MNIST.download", download)
    monkeypatch.setattr("torchvision.datasets.MNIST._load_data", lambda self: (None, None))
    assert len(load("mnist", data_dir=tmp_path).train) == 40


def test_labels_of_images_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^the labels in .* must be in 0, \.\.\., 9, .* got 0 to 11"):
        load("mnist", data_dir=write_mnist(tmp_path, compress=False, labels=12))


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08", b"\0\0\x08\x01\0\0\0\x28", b"no idx file", b"\0\0\x0d\x01\0\0\0\0"]
)
@pytest.mark.parametrize("compress", [True, False], ids=["gz", "plain"])
def test_broken_idx_files(tmp_path: Path, content: bytes, compress: bool) -> None:
    path = write_mnist(tmp_path, compress=compress) / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path = path.with_name(path.name + ".gz") if compress else path
    path.write_bytes(gzip.compress(content) if compress else content)
    with pytest.raises(ValueError, match="train-labels-idx1-ubyte.*must be a whole idx file"):
        load("mnist", data_dir=tmp_path)


def test_cut_off_gz_file(tmp_path: Path) -> None:
    path = write_mnist(tmp_path, compress=True) / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="train-images-idx3-ubyte.gz' must be a whole idx file"):
        load("mnist", data_dir=tmp_path)


@pytest.mark.parametrize("validation", [-0.1, 1.0, 1.5, math.nan])
def test_validation_out_of_range(validation: float) -> None:
    with pytest.raises(ValueError, match=rf"^validation must be a fraction in \[0, 1\), got {validation}$"):
        load("digits", validation=validation)


@pytest.mark.parametrize(
    ("split", "rule"), [(-1, "at least 0, got -1"), (1, r"in 0, \.\.\., 0, the splits of digits, got 1")]
)
def test_split_out_of_range(split: int, rule: str) -> None:
    with pytest.raises(ValueError, match=f"^split must be {rule}$"):
        load("digits", split=split)


def test_validation_that_leaves_no_training_rows(tmp_path: Path) -> None:
    name = write_npz(tmp_path / "own.npz", X=np.ones((2, 1)), y=np.ones(2))
    with pytest.raises(ValueError, match="the training set of .* must not be empty; lower validation=0.5"):
        load(name, validation=0.5)


def test_target_without_columns_to_name() -> None:
    with pytest.raises(ValueError, match="^target must be left out"):
        load("digits", target="digit")
