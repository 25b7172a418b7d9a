"""`bnn-pyro predict`: what it prints, writes and refuses."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bnn_pyro.cli import app
from bnn_pyro.data.tables import hold_out
from tests.cli.calls import call


def made_rows(rows: int = 80) -> pd.DataFrame:
    random = np.random.RandomState(0)
    size, gap = random.randn(rows) * 20 + 100, random.randn(rows)
    gap[::9] = np.nan
    colour = np.array(["red", "blue"])[np.arange(rows) % 2]
    return pd.DataFrame({"size": size, "gap": gap, "colour": colour, "price": 1000 * size + 5e3 * (colour == "red")})


def test_raw_test_rows_have_the_scores_of_the_run(workplace: Path) -> None:
    table = made_rows()
    table.to_csv(workplace / "my.csv", index=False)
    fit = ["fit", "my.csv", "--target", "price", "--epochs", "2", "--hidden", "6", "--prior", "ss-ig", "--out", "run"]
    assert call(*fit, "--refine", "no", "--kl-weight", "1")[0] == 0
    rows = table.iloc[hold_out(table["price"].to_numpy(), np.arange(80), 0.2, 0)[1]]
    rows.assign(more=1).to_csv(workplace / "new.csv", sep=";", decimal=",", index=False)
    predict = ["predict", "run", "new.csv", "--out", "predictions.csv"]
    code, out, err = call(*predict)
    assert (code, err) == (0, "")
    found = pd.read_csv(workplace / "predictions.csv")
    assert list(found) == ["mean", "std", "q05", "q50", "q95"] and len(found) == 16
    metrics = json.loads((workplace / "run" / "metrics.json").read_text())
    rmse = np.sqrt(np.mean((found["mean"].to_numpy() - rows["price"].to_numpy()) ** 2))
    assert rmse == pytest.approx(metrics["posterior_test_rmse"], rel=1e-5)
    for words in (
        "  columns are separated by semicolons, a comma marks decimals\n  not read: more\n",
        "16 rows predicted from 32 draws of the posterior: predictions.csv",
        f"Of 16 rows with a target: rmse {metrics['posterior_test_rmse']:.4g}, nll",
    ):
        assert words in out
    before = (workplace / "predictions.csv").read_bytes()
    code, _, err = call(*predict)
    assert code == 2 and err == (
        "error: out must not exist yet, got 'predictions.csv': name another file, or replace it with --force\n"
    )
    rows.drop(columns=["price"]).to_csv(workplace / "new.csv", index=False)
    code, out, _ = call(*predict, "--force")
    assert code == 0 and "with a target" not in out and (workplace / "predictions.csv").read_bytes() == before
    rows.drop(columns=["gap"]).to_csv(workplace / "new.csv", index=False)
    code, _, err = call(*predict, "--force")
    assert code == 2 and "'new.csv' must have the columns of the training data, got none of gap" in err
    assert (workplace / "predictions.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["absent", "new.csv", "--out", "a.csv"],
            "folder must hold the config.json of a run, got no such file (absent",
        ),
        (["absent", "new.csv", "--out", "absent/a.csv"], "out must be a file in a folder that exists"),
        (["absent", "new.csv", "--out", "."], "out must be a file in a folder that exists"),
    ],
)
def test_refusals_are_one_line(arguments: list[str], words: str, workplace: Path) -> None:
    code, _, err = call("predict", *arguments)
    assert code == 2 and err.startswith("error: ") and words in err and err.count("\n") == 1
    assert not list(workplace.iterdir())


def test_help_fits_into_a_small_terminal() -> None:
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["predict", "--help"])
    assert "--force" in result.stdout and max(len(line) for line in result.stdout.splitlines()) <= 80
