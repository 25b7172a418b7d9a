"""`bnn-pyro compare`: what it prints, writes and refuses."""

import json
import logging
from pathlib import Path

import pytest

from bnn_pyro.comparison import COMPARISON_FILES
from bnn_pyro.comparison import METHODS as COMPARED
from bnn_pyro.recipes import PRIORS
from tests.cli.calls import call, made_table


def test_compare_a_table_of_ones_own(workplace: Path) -> None:
    made_table(workplace / "my.csv", rows=40)
    table = (workplace / "my.csv").read_text().replace("yes", "1").replace("no", "0")
    (workplace / "my.csv").write_text(table)
    lengths = [
        "--task",
        "regression",
        "--epochs",
        "2",
        "--warmup",
        "4",
        "--draws",
        "4",
        "--hidden",
        "3",
        "--minutes",
        "1",
    ]
    code, out, err = call("compare", "my.csv", "--methods", "svi,chees", *lengths, "--seed", "3")
    assert (code, err) == (0, "") and logging.getLogger("bnn_pyro.inference.mcmc.sample").level == logging.NOTSET
    folder = workplace / "runs" / "compare-my-ss-ghs-3"
    assert {path.name for path in folder.iterdir()} == set(COMPARISON_FILES)
    metrics = json.loads((folder / "comparison.json").read_text())
    assert list(metrics["methods"]) == ["AutoSpikeSlab", "ChEES"] and metrics["groups"] == {"inputs": 3, "hidden1": 3}
    for words in (
        "1 of 2: AutoSpikeSlab",
        "Scores on the test rows",
        "Agreement at",
        "Chains have not converged: ChEES",
    ):
        assert words in out
    assert f"Report: {Path('runs', 'compare-my-ss-ghs-3', 'comparison.md')}" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cifar"], "data must be one of"),
        (["digits", "--minutes", "0"], "minutes must be positive and finite, got 0.0"),
        (["digits", "--draws", "3"], "draws must be at least 4, got 3"),
        (["digits", "--device", "meta"], "device must be one of cpu, cuda, mps, xpu"),
    ],
)
def test_compare_refuses_in_one_line(arguments: list[str], words: str, workplace: Path) -> None:
    code, _, err = call("compare", *arguments)
    assert code == 2 and err.startswith("error: ") and words in err and err.count("\n") == 1
    assert not list(workplace.iterdir())


@pytest.mark.parametrize(
    ("option", "value", "wrong", "names"),
    [("--methods", "svi,hmc", "hmc", tuple(COMPARED)), ("--prior", "laplace", "laplace", PRIORS)],
)
def test_names_are_checked_and_printed(
    option: str, value: str, wrong: str, names: tuple[str, ...], workplace: Path
) -> None:
    code, _, err = call("compare", "digits", option, value)
    assert code == 2 and f"'{option}'" in err and f"'{wrong}' is not one of" in err
    assert all(f"'{name}'" in err for name in names) and not list(workplace.iterdir())


def test_help_of_compare_names_all_methods() -> None:
    code, out, _ = call("compare", "--help")
    assert code == 0
    for name in (*COMPARED, "--minutes", "bnn-pyro compare yacht"):
        assert name in out
