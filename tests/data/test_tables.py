"""Tables: what a file says, and what is wrong with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
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
    ("one label", {"X": X, "y": np.zeros(6, int)}, "must be of two classes at least, got '0' in all rows"),
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
    ("mixed target", "a,y\n1,2.5\n2,high\n", "column 'y' .* must hold numbers, got 'high' in row 2"),
    ("no target", "a,y\n1,NA\n2,\n", "the target 'y' of .* must have values, got missing cells alone"),
    ("one target", "a,y\n1,2.5\n2,\n", "the training set of .* must not be empty"),
    ("infinite", "a,y\n1,2.5\n1,inf\n", "column 'y' .* must hold finite numbers, got inf in row 2"),
    ("infinite input", "a,y\n1,2.5\ninf,2\n-inf,3", "column 'a' .* must hold finite numbers, got -?inf in row"),
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
    with pytest.raises(ValueError, match="own.csv' must be a table as text in UTF-8"):
        load(str(path))


def test_wrong_column_name_lists_the_columns(tmp_path: Path) -> None:
    name = write_csv(tmp_path / "own.csv", {"a": [1, 2], "price": [1.5, 2.5]})
    with pytest.raises(ValueError, match=r"^target must be a column of .* \(a, price\), got 'cost'$"):
        load(name, target="cost")


def test_numbers_alone_are_what_they_always_were(tmp_path: Path) -> None:
    """Bit for bit: where there is nothing to mend, columns are standardised by the training rows and no more."""
    random = np.random.RandomState(0)
    columns = {f"a{n}": (random.randn(90) * 10.0**n + n).tolist() for n in range(-2, 3)}
    columns |= {"k": [float(n % 3) for n in range(90)], "one": [0.1] * 90, "y": random.randn(90).tolist()}
    data = load(write_csv(tmp_path / "own.csv", columns), validation=0.2, seed=3)
    x, y = np.column_stack([columns[name] for name in columns if name != "y"]), np.array(columns["y"])
    train, test = hold_out(y, np.arange(90), 0.2, 0)
    train, validation = hold_out(y, train, 0.2, 3)
    x_std = x[train].std(0)
    x_std[-1] = 1.0
    for split, rows in ((data.train, train), (data.validation, validation), (data.test, test)):
        assert split is not None
        assert np.array_equal(split.x.numpy(), ((x[rows] - x[train].mean(0)) / x_std).astype(np.float32))
        assert np.array_equal(split.y.numpy(), ((y[rows] - y[train].mean()) / y[train].std()).astype(np.float32))
    assert data.feature_names == tuple(name for name in columns if name != "y")
    assert data.notes == ("constant in the training rows: one",)


def test_a_frame_is_loaded_as_its_file(tmp_path: Path) -> None:
    random = np.random.RandomState(0)
    frame = pd.DataFrame(
        {
            "size": random.randn(60),
            "colour": [("red", "blue", None)[n % 3] for n in range(60)],
            "price": random.randn(60),
            "sold": [None if n == 7 else ("no", "yes")[n % 2] for n in range(60)],
        }
    )
    frame.to_csv(tmp_path / "own.csv", index=False)
    for target in ("price", "sold"):
        given, read = (load(name, target=target) for name in (frame, str(tmp_path / "own.csv")))
        assert (given.name, read.name) == ("frame", str(tmp_path / "own.csv"))
        assert torch.equal(given.train.x, read.train.x) and torch.equal(given.test.y, read.test.y)
        assert given.encoding == read.encoding and given.notes == read.notes and given.classes == read.classes
    assert given.classes == ("no", "yes") and len(given.train) + len(given.test) == 59
    assert "1 of 60 rows left out, which have no sold" in given.notes


@pytest.mark.parametrize(
    ("cells", "task", "classes"),
    [
        ([1, 2, 3] * 10, "regression", None),
        ([1.0, 2.0, 3.0] * 10, "classification", ("1", "2", "3")),
        ([0.5, 1.5, 2.5] * 10, "classification", ("0.5", "1.5", "2.5")),
        (["a", "b", "c"] * 10, "classification", ("a", "b", "c")),
    ],
)
@pytest.mark.parametrize("ending", [".csv", ".npz"])
def test_a_task_can_be_asked_for(
    tmp_path: Path, cells: list[Any], task: Any, classes: tuple[str, ...] | None, ending: str
) -> None:
    path, a = tmp_path / f"own{ending}", np.linspace(0, 1, 30)
    write = (
        write_csv(path, {"a": a.tolist(), "y": cells}) if ending == ".csv" else write_npz(path, X=a[:, None], y=cells)
    )
    data = load(write, task=task)
    assert (data.task, data.classes) == (task, classes)
    assert data.train.y.dtype == (torch.float32 if classes is None else torch.int64)


@pytest.mark.parametrize(
    ("cells", "task", "message"),
    [
        (["a", "b", "c"] * 10, "regression", "task must be classification where .* text.* got regression"),
        ([n / 7 for n in range(30)], "classification", "task must be regression where .* 30 distinct numbers"),
        (
            [f"{n / 2}%" for n in range(30)],
            None,
            "targets .* 30 distinct texts in 30 rows.*write numbers without units",
        ),
        (["a"] * 30, None, "targets .* must be of two classes at least, got 'a' in all rows"),
        ([1] * 30, None, "targets .* must be of two classes at least, got '1' in all rows.* the task regression"),
        ([1.5] * 30, "ranking", "task must be classification or regression, got 'ranking'"),
    ],
)
def test_a_task_that_does_not_fit(tmp_path: Path, cells: list[Any], task: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(write_csv(tmp_path / "own.csv", {"a": range(30), "y": cells}), task=task)


def test_large_whole_numbers_are_classes_of_their_own(tmp_path: Path) -> None:
    """Beyond the range of int64 they are kept as floats."""
    cells, a = [1e25, 3e25] * 15, np.arange(30.0)
    assert load(write_csv(tmp_path / "own.csv", {"a": a.tolist(), "y": cells}), task="classification").num_classes == 2
    data = load(write_npz(tmp_path / "own.npz", X=a[:, None], y=np.array(cells)), task="classification")
    assert data.classes == ("1e+25", "3e+25")


def test_one_number_can_be_learned_by_regression(tmp_path: Path) -> None:
    data = load(write_csv(tmp_path / "own.csv", {"a": range(30), "y": [1] * 30}), task="regression")
    assert data.task == "regression" and bool((data.train.y == 0).all())


def test_arrays_have_names_too(tmp_path: Path) -> None:
    x = np.random.RandomState(0).rand(10, 3)
    data = load(write_npz(tmp_path / "own.npz", X=x, y=np.arange(10) % 2))
    assert data.feature_names == ("x0", "x1", "x2") and data.encoding is not None
    assert data.encoding.target.classes == ("0", "1") and data.notes == ()
    rows = data.encoding.raw_inputs()(torch.from_numpy(x))
    assert {tuple(row) for row in rows.tolist()} == {
        tuple(row) for s in (data.train, data.test) for row in s.x.tolist()
    }
    assert load(write_npz(tmp_path / "own.npz", X=x[:, None, :, None], y=np.arange(10) % 2)).encoding is None


def test_one_name_is_no_list_of_names() -> None:
    with pytest.raises(TypeError, match="drop must be a sequence of names, got 'price'"):
        load(pd.DataFrame({"a": [1.0], "price": [2.0]}), drop="price")
