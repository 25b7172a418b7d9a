"""Encodings: learned from training rows alone, the same for new rows, and kept as JSON."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bnn_pyro.data import load
from bnn_pyro.data.encoding import LevelColumn, NumberColumn, TableEncoding, TargetEncoding, mean_and_std
from bnn_pyro.data.frames import Unread, read_cells, read_table

ROWS = 40
TARGET = TargetEncoding("y", 3.0, 2.0)


def table(**columns: Any) -> pd.DataFrame:
    """Numbers, numbers with gaps, three levels of which one is rare, and two levels."""
    random = np.random.RandomState(0)
    return pd.DataFrame(
        {
            "size": random.randn(ROWS) * 100 + 1000,
            "gap": [None if n % 8 == 0 else n / 2 for n in range(ROWS)],
            "colour": ["green" if n < 2 else ("red", "blue")[n % 2] for n in range(ROWS)],
            "flag": np.arange(ROWS) % 4 == 0,
            **columns,
            "y": random.randn(ROWS),
        }
    )


def learned(frame: pd.DataFrame, target: TargetEncoding = TARGET) -> TableEncoding:
    return TableEncoding.learn(read_table(frame).inputs, target)


def test_columns_and_features() -> None:
    encoding = learned(table())
    assert encoding.columns == (
        NumberColumn("size", float(table()["size"].median())),
        NumberColumn("gap", 10.0, True),
        LevelColumn("colour", ("blue", "red"), other=True),
        LevelColumn("flag", ("False", "True")),
    )
    assert encoding.feature_names == (
        *("size", "gap", "gap is missing", "colour=blue", "colour=red", "colour=other", "flag=True"),
    )
    assert encoding.column_names == ("size", "gap", "colour", "flag")


def test_training_rows_are_scaled() -> None:
    frame = table()
    encoding = learned(frame)
    x = encoding.encode_inputs(read_cells(frame))
    assert x.dtype == np.float32 and x.shape == (ROWS, 7)
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(x[:, :2].std(0), 1, rtol=1e-6)
    filled = frame["gap"].fillna(10.0).to_numpy()
    np.testing.assert_allclose(x[:, 1], (filled - filled.mean()) / filled.std(), rtol=1e-5, atol=1e-6)
    is_missing = frame["gap"].isna().to_numpy().astype(float)
    np.testing.assert_allclose(x[:, 2], (is_missing - is_missing.mean()) / 0.5, rtol=1e-5)
    np.testing.assert_allclose(x[:, 6], (frame["flag"].to_numpy() - 0.25) / 0.5, rtol=1e-6)


def test_new_rows() -> None:
    """A text that was not there is among the rare ones, or the mean of all where there were none."""
    encoding = learned(table())
    new = pd.DataFrame(
        {
            "more": ["not read"] * 3,
            "flag": [True, None, "maybe"],
            "colour": ["violet", "blue", None],
            "gap": [None, 3, 4],
            "size": [1000.0, None, 1100],
        }
    )
    raw = encoding.raw(read_cells(new))
    np.testing.assert_equal(raw, [[1000, np.nan, 2, 1], [np.nan, 3, 0, np.nan], [1100, 4, np.nan, -1]])
    x = encoding.encode_inputs(read_cells(new))
    features = x * np.array(encoding.stds) + np.array(encoding.means)
    np.testing.assert_allclose(features[0], [1000, 10, 1, 0, 0, 1, 1], atol=1e-4)
    median = float(table()["size"].median())
    np.testing.assert_allclose(features[1], [median, 3, 0, 1, 0, 0, 0.25], rtol=1e-5, atol=1e-4)
    assert x[2, 3:].tolist() == [0, 0, 0, 0]
    assert torch.equal(encoding.raw_inputs()(torch.from_numpy(raw)), torch.from_numpy(x))


def test_cells_as_in_no_training_row_are_told() -> None:
    encoding, frame = learned(table()), table()
    assert encoding.unlearned(read_cells(frame)) == ()
    new = frame.astype({"flag": object}).assign(colour=None, gap=None, size=[None, *[1.0] * (ROWS - 1)])
    new.loc[:2, "flag"] = "TRUE"
    assert encoding.unlearned(read_cells(new)) == (
        "missing as in no training row: size (1), colour (40)",
        "text as in no training row: flag (3, such as 'TRUE')",
    )


def test_it_is_learned_from_training_rows_alone() -> None:
    frame = table()
    data = load(frame)
    assert data.encoding is not None
    rows = np.random.RandomState(1).permutation(ROWS)[: ROWS // 2]
    half = TableEncoding.learn(read_table(frame).inputs.iloc[rows], TARGET)
    changed = frame.copy()
    others = np.setdiff1d(np.arange(ROWS), rows)
    changed.loc[others, ["size", "gap"]] = 1e6
    changed.loc[others, "colour"] = "violet"
    assert TableEncoding.learn(read_table(changed).inputs.iloc[rows], TARGET) == half != data.encoding


@pytest.mark.parametrize(
    ("texts", "column", "features"),
    [
        (["a"] * 20 + ["b"] * 20, LevelColumn("t", ("a", "b")), ["t=b"]),
        (["a"] * 36 + ["b"] * 4, LevelColumn("t", ("a",), other=True), ["t=other"]),
        (["a"] * 20 + ["b"] * 10 + ["c"] * 10, LevelColumn("t", ("a", "b", "c")), ["t=a", "t=b", "t=c"]),
        (["a"] * 39 + [None], LevelColumn("t", ("a",), missing=True), ["t is missing"]),
        (["a"] * 20 + ["b"] * 10 + [None] * 10, LevelColumn("t", ("a", "b"), missing=True), ["t=b", "t is missing"]),
        (["a"] * 40, LevelColumn("t", ("a",)), []),
        ([f"a{n}" for n in range(40)], LevelColumn("t", (), other=True), []),
    ],
)
def test_levels(texts: list[str | None], column: LevelColumn, features: list[str]) -> None:
    found = LevelColumn.learn("t", np.array(texts, dtype=object))
    assert found == column and [name for name, _ in found.features()] == features


def test_a_level_is_in_a_hundredth_of_the_rows() -> None:
    texts = np.array(["a"] * 900 + ["b"] * 91 + ["c"] * 9, dtype=object)
    assert LevelColumn.learn("t", texts) == LevelColumn("t", ("a", "b"), other=True)


def test_a_long_text_costs_its_own_length() -> None:
    """Not its length in each row, which would be 4 TB here."""
    texts = np.array([*["a", "b"] * 50_000, "c" * 10_000_000], dtype=object)
    assert LevelColumn.learn("t", texts) == LevelColumn("t", ("a", "b"), other=True)


def test_what_was_done_is_told() -> None:
    frame = table(name=[f"n{n}" for n in range(ROWS)], one=1.5, word="same")
    encoding = learned(frame)
    assert encoding.ignored == ("name", "word") and "one" in encoding.column_names
    assert encoding.notes(read_table(frame).inputs) == (
        "missing cells filled by the median, and marked by another input: gap (5)",
        "text as indicators of its levels: colour (2 and rare ones), flag (2)",
        "left out, as text that tells no rows apart (numbers with signs or units count as text): name, word",
        "constant in the training rows: one",
    )
    frame = table(colour=[None if n < 3 else ("red", "blue")[n % 2] for n in range(ROWS)])
    assert learned(frame).notes(read_table(frame).inputs)[:2] == (
        "missing cells filled by the median, and marked by another input: gap (5)",
        "missing cells of text marked by another input: colour (3)",
    )
    assert learned(frame[["size", "y"]]).notes(frame) == ()


def test_there_and_back() -> None:
    for target in (TARGET, TargetEncoding("label", classes=("no", "yes"))):
        encoding = learned(table(word="same"), target)
        values = json.loads(json.dumps({**encoding.to_json(), "more": 1}))
        assert TableEncoding.from_json(values) == encoding
        assert values["features"] == list(encoding.feature_names)
    for wrong in ({}, {**values, "form": 2}, {**values, "columns": [{"kind": "dates"}]}):
        with pytest.raises(ValueError, match="the encoding must (be|hold)"):
            TableEncoding.from_json(wrong)


def test_targets() -> None:
    numbers = learned(table()).encode_targets(read_cells(pd.DataFrame({"y": ["5", None, "2"]})))
    np.testing.assert_equal(numbers, np.array([1.0, np.nan, -0.5], dtype=np.float32))
    words = learned(table(), TargetEncoding("y", classes=("no", "yes")))
    assert words.encode_targets(read_cells(pd.DataFrame({"y": ["yes", None, "no"]}))).tolist() == [1, -1, 0]
    with pytest.raises(ValueError, match="the target 'y' of the frame must be one of no, yes, got 'maybe'"):
        words.encode_targets(read_cells(pd.DataFrame({"y": ["yes", "maybe"]})))
    digits = learned(table(), TargetEncoding("y", classes=("1", "2")))
    for cells in (["1", "2"], [1.0, 2.0], ["1.0", "2.0"], [1, 2]):
        assert digits.encode_targets(read_cells(pd.DataFrame({"y": cells}))).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": "big"}, "column 'size' of the frame must hold numbers, got 'big' in row 1"),
        ({"size": np.inf}, "column 'size' of the frame must hold finite numbers, got inf in row 1"),
        ({"size": 1e39}, "column 'size' of the frame must hold finite numbers, got 1e.39 in row 1"),
    ],
)
def test_bad_rows(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learned(table()).encode_inputs(read_cells(table().assign(**change)))


def test_absent_columns_are_named() -> None:
    with pytest.raises(ValueError, match="the frame must have the columns of the training data, got none of gap, flag"):
        learned(table()).raw(read_cells(table().drop(columns=["gap", "flag"])))
    with pytest.raises(ValueError, match="a column must tell rows apart, got none among word: no text is frequent"):
        TableEncoding.learn(pd.DataFrame({"word": pd.Series(["same"] * 9, dtype=object)}), TARGET)


def test_constants_count_as_one() -> None:
    mean, std = mean_and_std(np.stack([np.arange(4.0), np.full(4, 0.1)], 1))
    assert mean.tolist() == [1.5, 0.1] and std.tolist() == [np.arange(4.0).std(), 1.0]


def test_raw_rows_of_a_frame_are_those_of_its_text() -> None:
    encoding = learned(table())
    frame = table()
    as_text = Unread("text", frame.astype(object).map(lambda cell: None if pd.isna(cell) else str(cell)))
    np.testing.assert_equal(encoding.raw(as_text), encoding.raw(read_cells(frame)))
