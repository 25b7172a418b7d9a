"""The data sets are the ones their tables describe, split and scaled as documented; bad files and options are named."""

import csv
import gzip
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bnn_pyro.data import DATASETS, Dataset, load

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


def test_npz_splits_are_the_given_ones(tmp_path: Path) -> None:
    test_index = np.array([[0, 1], [5, 3]], dtype=np.uint16)
    name = write_npz(tmp_path / "own.npz", X=np.arange(12.0).reshape(6, 2), y=np.arange(6.0), test_index=test_index)
    data = load(name, split=1)
    original = data.test.y * data.y_std + data.y_mean
    torch.testing.assert_close(original, torch.tensor([5.0, 3.0]))
    assert len(data.train) == 4


def test_npz_of_one_split_and_a_column_of_targets(tmp_path: Path) -> None:
    x = np.arange(12.0).reshape(6, 2)
    name = write_npz(tmp_path / "own.npz", X=x, y=np.arange(6.0)[:, None], test_index=np.array([2]))
    data = load(name)
    assert (data.train.y.shape, data.test.y.shape) == ((5,), (1,))


@pytest.mark.parametrize(
    ("y", "labels", "classes"),
    [
        (np.array([2, 0, 1, 0, 1, 2]), [2, 0, 1, 0, 1, 2], ("0", "1", "2")),
        (np.array([True, False, True, False, True, True]), [1, 0, 1, 0, 1, 1], ("False", "True")),
        (np.array(["b", "a", "b", "a", "c", "c"]), [1, 0, 1, 0, 2, 2], ("a", "b", "c")),
    ],
    ids=["integers", "booleans", "text"],
)
def test_npz_labels(tmp_path: Path, y: NDArray[Any], labels: list[int], classes: tuple[str, ...]) -> None:
    name = write_npz(tmp_path / "own.npz", X=np.arange(6.0)[:, None], y=y, test_index=np.array([[0, 5]]))
    data = load(name)
    assert (data.task, data.num_classes, data.classes) == ("classification", len(classes), classes)
    assert data.train.y.tolist() == labels[1:5]
    assert data.test.y.tolist() == [labels[0], labels[5]]
    torch.testing.assert_close(data.train.x.std(correction=0), torch.tensor(1.0))


def test_npz_images_keep_their_shape(tmp_path: Path) -> None:
    name = write_npz(tmp_path / "own.npz", X=np.random.RandomState(0).rand(10, 2, 5, 4), y=np.arange(10) % 2)
    assert load(name).input_shape == (2, 5, 4)
    assert load(name, flatten=True).input_shape == (40,)


@pytest.mark.parametrize(
    ("cells", "task", "classes"),
    [
        ([0.5 * i for i in range(30)], "regression", None),
        ([f"{i % 3}.0" for i in range(30)], "regression", None),
        (list(range(30)), "regression", None),
        ([3 + i % 4 for i in range(30)], "classification", ("3", "4", "5", "6")),
        ([-1 if i % 2 else 1 for i in range(30)], "classification", ("-1", "1")),
        (["cat" if i % 2 else "dog" for i in range(30)], "classification", ("cat", "dog")),
    ],
    ids=["floats", "whole floats", "many integers", "few integers", "signs", "text"],
)
def test_csv_target_tells_the_task(
    tmp_path: Path, cells: list[object], task: str, classes: tuple[str, ...] | None
) -> None:
    name = write_csv(tmp_path / "own.csv", {"a": range(30), "b": [0.1 * i * i for i in range(30)], "y": cells})
    data = load(name)
    assert (data.task, data.classes, data.input_shape) == (task, classes, (2,))
    assert data.outputs == (1 if classes is None else len(classes))
    assert (len(data.train), len(data.test)) == (24, 6)


def test_csv_target_is_the_named_column_or_the_last(tmp_path: Path) -> None:
    columns = {
        "first": [0.5, 1.5, 2.5, 3.5, 4.5],
        "second": [10.0, 20.0, 40.0, 30.0, 50.0],
        "third": [1.0, 2.0, 5.0, 4.0, 3.0],
    }
    name = write_csv(tmp_path / "own.csv", columns)
    for target, key in (("second", "second"), (None, "third")):
        data = load(name, target=target)
        original = torch.cat([data.train.y, data.test.y]) * data.y_std + data.y_mean
        torch.testing.assert_close(original.sort().values, torch.tensor(sorted(columns[key])))


def test_csv_with_byte_order_mark_spaces_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("\ufeffa, y\n1, 0.5\n\n2, 1.5\n3, 2.5\n", encoding="utf-8")
    data = load(str(path), target="y")
    assert len(data.train) + len(data.test) == 3


def test_every_row_of_a_rare_class_is_somewhere(tmp_path: Path) -> None:
    labels = np.array([0] * 30 + [1])
    data = load(write_npz(tmp_path / "own.npz", X=np.arange(31.0)[:, None], y=labels), validation=0.1)
    assert data.validation is not None
    assert sum(int((split.y == 1).sum()) for split in (data.train, data.validation, data.test)) == 1


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


@pytest.mark.parametrize("split", [-1, 1])
def test_split_out_of_range(split: int) -> None:
    with pytest.raises(ValueError, match=rf"^split must be in 0, \.\.\., 0, the splits of digits, got {split}$"):
        load("digits", split=split)


def test_validation_that_leaves_no_training_rows(tmp_path: Path) -> None:
    name = write_npz(tmp_path / "own.npz", X=np.ones((2, 1)), y=np.ones(2))
    with pytest.raises(ValueError, match="the training set of .* must not be empty; lower validation=0.5"):
        load(name, validation=0.5)


def test_target_without_columns_to_name() -> None:
    with pytest.raises(ValueError, match="^target must be left out"):
        load("digits", target="digit")


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_file_that_does_not_exist(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ValueError, match="^name must be the path of a file that exists"):
        load(str(tmp_path / f"absent{suffix}"))


X = np.arange(12.0).reshape(6, 2)
BAD_NPZ: list[tuple[str, dict[str, Any], str]] = [
    ("no y", {"X": X}, r"must hold the arrays X and y, .* got \['X'\]"),
    ("lengths", {"X": X, "y": np.arange(5.0)}, r"one target per example, got shapes \(6, 2\) and \(5,\)"),
    ("empty", {"X": X[:0], "y": np.arange(0.0)}, "not an empty set"),
    ("no inputs", {"X": X[:, :0], "y": np.arange(6.0)}, "not an empty set"),
    ("flat X", {"X": X[:, 0], "y": np.arange(6.0)}, r"X in .* must be numbers of shape \(n, \.\.\.\)"),
    ("text X", {"X": X.astype(str), "y": np.arange(6.0)}, "X in .* must be numbers"),
    ("wide y", {"X": X, "y": X}, r"y in .* must be numbers or text of shape \(n,\), got float64 of shape \(6, 2\)"),
    ("scalar y", {"X": X, "y": np.array(1.0)}, r"y in .* got float64 of shape \(\)"),
    ("complex y", {"X": X, "y": np.arange(6) * 1j}, "y in .* got complex128"),
    ("objects", {"X": X, "y": np.array([None] * 6)}, "must be an archive of plain arrays"),
    ("NaN in X", {"X": np.where(X == 7, np.nan, X), "y": np.arange(6.0)}, "inputs .* in 1 of 6 rows, first in row 4"),
    ("infinite y", {"X": X, "y": np.array([0, np.inf, 0, 0, np.inf, 0])}, "targets .* in 2 of 6 rows, first in row 2"),
    ("beyond float32", {"X": X * 1e38, "y": np.arange(6.0)}, "inputs .* must hold no NaN or infinite values"),
    ("negative label", {"X": X, "y": np.array([-1, 0, 1, -1, 0, 1])}, r"must be in 0, \.\.\., 2, .* got -1 to 1"),
    ("gap in labels", {"X": X, "y": np.array([0, 1, 9, 0, 1, 9])}, r"must be in 0, \.\.\., 2, .* got 0 to 9"),
    ("high test row", {"X": X, "y": np.arange(6.0), "test_index": np.array([[6]])}, "test_index .* from 0 to 5"),
    ("negative test row", {"X": X, "y": np.arange(6.0), "test_index": np.array([[-1]])}, "test_index .* from 0 to 5"),
    ("float test rows", {"X": X, "y": np.arange(6.0), "test_index": np.array([[1.0]])}, "test_index .* got float64"),
    ("no test rows", {"X": X, "y": np.arange(6.0), "test_index": np.zeros((1, 0), int)}, r"of shape \(1, 0\)"),
    (
        "all test rows",
        {"X": X, "y": np.arange(6.0), "test_index": np.arange(6)},
        "training set of .* must not be empty",
    ),
]


@pytest.mark.parametrize(("arrays", "message"), [row[1:] for row in BAD_NPZ], ids=[row[0] for row in BAD_NPZ])
def test_bad_npz(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(write_npz(tmp_path / "own.npz", **arrays))


def test_npz_that_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    for content in (b"", b"no archive at all"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="own.npz' must be an archive of plain arrays"):
            load(str(path))
    with path.open("wb") as file:
        np.save(file, X)
    with pytest.raises(ValueError, match="own.npz' must be an archive of plain arrays"):
        load(str(path))


BAD_CSV = [
    ("empty", "", "a header and rows below it"),
    ("header only", "a,y\n", "a header and rows below it"),
    ("no header", "1,2\n3,4\n", "must begin with a header of distinct column names, got 1, 2"),
    ("twice the same", "a,a\n3,4\n", "must begin with a header of distinct column names"),
    ("nameless", "a,\n3,4\n", "must begin with a header of distinct column names"),
    ("ragged", "a,y\n1,2\n3\n", "row 2 of .* must have 2 cells, as the header, got 1"),
    ("text input", "a,y\n1,2\nred,4\n", "column 'a' .* must hold numbers, got 'red' in row 2"),
    ("missing input", "a,y\n1,2\n,4\n", "column 'a' .* must hold numbers, got '' in row 2"),
    ("missing target", "a,y\n1,2.5\n2,\n", "column 'y' .* must hold numbers, got '' in row 2"),
    ("mixed target", "a,y\n1,2.5\n2,NA\n", "column 'y' .* must hold numbers, got 'NA' in row 2"),
    ("NaN", "a,y\n1,2.5\nnan,3.5\n", "inputs .* must hold no NaN or infinite values, got some in 1 of 2 rows"),
    ("infinite", "a,y\n1,2.5\n1,inf\n", "targets .* must hold no NaN or infinite values"),
    ("no input", "y\n1\n2\n", "must have a column besides its target 'y'"),
]


@pytest.mark.parametrize(("text", "message"), [row[1:] for row in BAD_CSV], ids=[row[0] for row in BAD_CSV])
def test_bad_csv(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load(str(path))


@pytest.mark.parametrize("content", [b"a,y\n1,\xff\n", b'a,y\n1,"' + b"2" * 200_000 + b'"\n'], ids=["bytes", "endless"])
def test_csv_that_is_no_text(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="own.csv' must be comma-separated text in UTF-8"):
        load(str(path))


def test_wrong_column_name_lists_the_columns(tmp_path: Path) -> None:
    name = write_csv(tmp_path / "own.csv", {"a": [1, 2], "price": [1.5, 2.5]})
    with pytest.raises(ValueError, match=r"^target must be a column of .* \(a, price\), got 'cost'$"):
        load(name, target="cost")
