"""What a run predicts for raw rows is what its metrics were measured of."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from bnn_pyro.data import load
from bnn_pyro.data.tables import hold_out
from bnn_pyro.inference.mcmc import starts
from bnn_pyro.inference.training.ensemble import train_ensemble
from bnn_pyro.recipes import load_run, predict_frame, refine_run, run
from bnn_pyro.recipes import prediction as module
from bnn_pyro.recipes.prediction import predict_rows
from tests.recipes.test_refined_runs import SHORT
from tests.recipes.test_runs import QUICK, table

ROWS = 150


def rows_of_a_person() -> pd.DataFrame:
    """A table with inputs on their own scales, text, and missing cells."""
    random = np.random.RandomState(0)
    size, age = random.randn(ROWS) * 20 + 100, random.randn(ROWS) * 900 + 5000
    colour = np.array(["red", "blue", "green"])[random.randint(3, size=ROWS)]
    price = 1e5 + 2e4 * ((size - 100) / 20 - (age - 5000) / 900 + (colour == "red")) + 500 * random.randn(ROWS)
    frame = pd.DataFrame({"size": size, "age": age, "colour": colour, "sold": price > 1e5, "price": price})
    frame.loc[random.rand(ROWS) < 0.1, "age"] = np.nan
    return frame.astype({"sold": object}).replace({"sold": {True: "yes", False: "no"}})


FRAME = rows_of_a_person()


def held_out(target: str) -> pd.DataFrame:
    """The test rows as they are in the table."""
    y = FRAME[target].to_numpy() if target == "price" else (FRAME[target] == "yes").to_numpy().astype(np.int64)
    return FRAME.iloc[hold_out(y, np.arange(ROWS), 0.2, 0)[1]]


@pytest.fixture(scope="module", params=["price", "sold"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    target: str = request.param
    folder = tmp_path_factory.mktemp("runs") / "run"
    dataset = load(FRAME, target=target, drop=["sold"] if target == "price" else ["price"])
    run(dataset, QUICK, seed=4, out=folder, progress=False)
    return target, folder


def rmse(predicted: pd.DataFrame, rows: pd.DataFrame) -> float:
    return float(np.sqrt(np.mean((predicted["mean"] - rows["price"]) ** 2)))


def metrics_of(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "metrics.json").read_text())
    return found


def test_predictions_of_the_test_rows_have_the_scores_of_the_run(finished: tuple[str, Path]) -> None:
    target, folder = finished
    rows, metrics, state = held_out(target), metrics_of(folder), torch.get_rng_state()
    predicted = predict_frame(folder, rows)
    assert torch.equal(torch.get_rng_state(), state)
    assert predicted.index.equals(rows.index)
    if target == "price":
        assert list(predicted) == ["mean", "std", "q05", "q50", "q95"]
        assert rmse(predicted, rows) == pytest.approx(metrics["posterior_test_rmse"], rel=1e-5)
        assert (predicted["q05"] < predicted["q50"]).all() and (predicted["q50"] < predicted["q95"]).all()
        assert 5e4 < predicted["mean"].mean() < 1.5e5
    else:
        assert list(predicted) == ["class", "p(no)", "p(yes)"]
        accuracy = (predicted["class"] == rows["sold"]).mean()
        assert accuracy == pytest.approx(metrics["posterior_test_accuracy"], rel=1e-5)
        np.testing.assert_allclose(predicted["p(no)"] + predicted["p(yes)"], 1, rtol=1e-5)
    found = predict_rows(folder, rows)
    assert found.scores is not None and found.scored_rows == 30 and found.draws == "32 draws of the tempered posterior"
    for name, value in found.scores.items():
        assert value == pytest.approx(metrics[f"posterior_test_{name}"], rel=1e-5, abs=1e-6)


def test_a_refined_run_predicts_from_its_draws(
    finished: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, folder = finished
    monkeypatch.setattr(starts, "train_ensemble", partial(train_ensemble, steps=200))
    own = Path(shutil.copytree(folder, tmp_path / "run"))
    dataset = load(FRAME, target=target, drop=["sold"] if target == "price" else ["price"])
    metrics = refine_run(own, dataset, SHORT, progress=False)
    found = predict_rows(own, held_out(target))
    assert found.draws == "18 draws of the refined network" and found.scores is not None
    for name, value in found.scores.items():
        assert value == pytest.approx(metrics[f"refined_test_{name}"], rel=1e-5, abs=1e-6)
    raw = torch.tensor(held_out(target)[["size", "age"]].to_numpy())
    levels = pd.Categorical(held_out(target)["colour"], categories=["blue", "green", "red"]).codes
    program = torch.export.load(own / "ensemble.pt2").module()
    out: Tensor | tuple[Tensor, Tensor] = program(torch.cat([raw, torch.tensor(levels.copy())[:, None]], 1))
    given = found.frame["mean"] if target == "price" else found.frame["p(yes)"]
    own_values = out[:, 1] if isinstance(out, Tensor) else out[0]
    np.testing.assert_allclose(own_values, given, rtol=1e-4)


def test_rows_do_not_depend_on_each_other(finished: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    target, folder = finished
    rows = held_out(target)
    whole = predict_rows(folder, rows)
    pd.testing.assert_frame_equal(predict_frame(folder, rows.iloc[7:9]), whole.frame.iloc[7:9], rtol=1e-5)
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 7)
    parts = predict_rows(folder, rows)
    pd.testing.assert_frame_equal(parts.frame, whole.frame, rtol=1e-5)
    assert parts.scores == pytest.approx(whole.scores, rel=1e-5, abs=1e-6)


def test_columns_may_be_in_any_order_and_more(finished: tuple[str, Path]) -> None:
    """Without the target, with text that was not there before, and with numbers as text."""
    target, folder = finished
    rows = held_out(target)
    others = pd.DataFrame({"name": "x", "colour": rows["colour"], "age": rows["age"], "size": rows["size"].astype(str)})
    found = predict_rows(folder, others)
    pd.testing.assert_frame_equal(found.frame, predict_frame(folder, rows))
    assert found.scores is None and found.scored_rows == 0 and found.notes == ("not read: name",)
    surprising = predict_rows(folder, others.assign(colour="violet", age=np.nan))
    assert np.isfinite(surprising.frame.iloc[:, -1]).all()
    assert surprising.notes == ("not read: name", "text as in no training row: colour (30, such as 'violet')")
    some = rows.astype({target: object})
    some.iloc[:10, list(some).index(target)] = None
    assert predict_rows(folder, some).scored_rows == 20


def test_what_cannot_be_predicted(finished: tuple[str, Path], tmp_path: Path) -> None:
    target, folder = finished
    rows = held_out(target)
    with pytest.raises(ValueError, match="the frame must have the columns of the training data, got none of age"):
        predict_frame(folder, rows.drop(columns=["age"]))
    with pytest.raises(ValueError, match="column 'age' of the frame must hold numbers, got 'old' in row 1"):
        predict_frame(folder, rows.assign(age="old"))
    with pytest.raises(ValueError, match="rows must be a file that exists and ends in .csv"):
        predict_frame(folder, tmp_path / "absent.csv")
    with pytest.raises(ValueError, match="folder must hold the config.json of a run"):
        predict_frame(tmp_path, rows)
    run(table("regression"), QUICK, seed=4, out=tmp_path / "run", progress=False)  # of tensors, without a table
    assert load_run(tmp_path / "run") is not None
    with pytest.raises(ValueError, match="run must be one on a table and have a table.json"):
        predict_frame(tmp_path / "run", rows)
