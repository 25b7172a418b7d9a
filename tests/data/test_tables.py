"""Tables: what a file says, and what is wrong with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bnn_pyro.data import load
from bnn_pyro.data.tables import hold_out
from tests.data.files import write_csv, write_npz


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


SPLITS: dict[str, tuple[NDArray[Any], float, int]] = {
    "balanced": (np.arange(100) % 5, 0.2, 20),
    "a class of one row": (np.array([0] * 30 + [1]), 0.2, 6),
    "classes of one row": (np.array([0] * 30 + [1, 2, 3]), 0.2, 7),
    "only classes of one row": (np.arange(10), 0.3, 3),
    "more classes than rows held out": (np.arange(40) % 20, 0.1, 4),
    "more classes than rows kept": (np.arange(40) % 20, 0.9, 36),
    "none to round to": (np.arange(100) % 5, 0.001, 1),
    "one class": (np.zeros(9, dtype=np.int64), 0.5, 4),
    "two rows": (np.array([0, 1]), 0.5, 1),
    "one row": (np.array([0]), 0.5, 1),
    "all but none": (np.arange(10) % 2, 0.99, 10),
    "regression": (np.linspace(0, 1, 50), 0.25, 12),
}


@pytest.mark.parametrize(("y", "fraction", "count"), SPLITS.values(), ids=SPLITS)
def test_every_row_is_kept_or_held_out(y: NDArray[Any], fraction: float, count: int) -> None:
    rows = np.arange(0, 2 * len(y), 2)
    targets = np.repeat(y, 2)
    kept, held_out = hold_out(targets, rows, fraction, 0)
    assert len(held_out) == count
    assert sorted([*kept, *held_out]) == rows.tolist()
    assert (np.diff(kept) > 0).all() and (np.diff(held_out) > 0).all()
    again, _ = hold_out(targets, rows, fraction, 0)
    assert np.array_equal(kept, again)


@pytest.mark.parametrize("seed", range(5))
def test_each_class_is_held_out_alike(seed: int) -> None:
    """Of 100, 50 and 25 rows a fifth, whatever classes of one row are beside them."""
    y = np.repeat([0, 1, 2, 3, 4], [100, 50, 25, 1, 1])
    _, held_out = hold_out(y, np.arange(len(y)), 0.2, seed)
    assert np.bincount(y[held_out], minlength=5)[:3].tolist() == [20, 10, 5]


def test_the_largest_classes_are_held_out_alike_where_there_are_too_many() -> None:
    """Of 12 rows 4 are held out: one of each of the three large classes, one of the other three."""
    y = np.repeat([0, 1, 2, 3, 4, 5], [3, 3, 3, 1, 1, 1])
    for seed in range(20):
        _, held_out = hold_out(y, np.arange(len(y)), 1 / 3, seed)
        assert np.minimum(np.sort(y[held_out]), 3).tolist() == [0, 1, 2, 3]


def test_the_seed_decides_which_rows_are_held_out() -> None:
    y = np.arange(100) % 5
    first, second = (hold_out(y, np.arange(100), 0.2, seed)[1] for seed in (0, 1))
    assert not np.array_equal(first, second)


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
