"""`bnn-pyro fit`: what it prints, writes and refuses."""

import json
from pathlib import Path

import pytest
import torch

from bnn_pyro import recipes
from bnn_pyro.data import DATASETS
from bnn_pyro.networks.named import NETS
from bnn_pyro.recipes import METHODS, PRIORS, Recipe
from bnn_pyro.reports.dependence_file import DEPENDENCE_FILE
from bnn_pyro.reports.folder import RUN_FILES
from bnn_pyro.reports.tables import TABLE_FILES
from tests.cli.calls import call, made_table

KEYS = {
    *("test_accuracy", "test_nll", "test_ece", "nodes_kept", "params_kept", "flops_kept", "inclusion", "kl_weight"),
    *("pruned_test_accuracy", "pruned_max_abs_diff", "latency_ratio", "seconds"),
}


def test_fit_prunes_the_digits_and_writes_a_run(workplace: Path) -> None:
    torch.set_num_threads(2)
    code, out, err = call("fit", "--epochs", "2", "--seed", "3")
    assert (code, err) == (0, "") and torch.get_num_threads() == 1
    folder = workplace / "runs" / "digits-ss-ghs-3"
    assert {path.name for path in folder.iterdir()} == set(RUN_FILES) - {DEPENDENCE_FILE}  # of tables
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics) >= KEYS
    assert metrics["pruned_max_abs_diff"] <= 1e-4
    config = json.loads((folder / "config.json").read_text())
    assert config.items() >= {"data": "digits", "net": "mlp", "prior": "ss-ghs", "epochs": 2, "seed": 3}.items()
    for words in ("test accuracy", "nodes: hidden1", "parameters", "FLOPs", "latency, batch 256", "Tempered (cold)"):
        assert words in out
    assert f"Report: {Path('runs', 'digits-ss-ghs-3', 'report.md')}" in out


def test_fit_a_table_of_ones_own_with_options(workplace: Path) -> None:
    made_table(workplace / "my.csv")
    options = ["--hidden", "6,4", "--prior", "ss-ig", "--select-inputs", "--inclusion", "0.3", "--kl-weight", "1"]
    code, out, err = call(
        "fit", "my.csv", "--target", "answer", "--epochs", "2", "--refine", "no", "--out", "run", *options
    )
    assert (code, err) == (0, "")
    config = json.loads((workplace / "run" / "config.json").read_text())
    assert config.items() >= {"data": "my.csv", "hidden": [6, 4], "inclusion": 0.3, "select_inputs": True}.items()
    assert config["task"] == "classification"
    assert config["kl_weight"] == 1 and config["schedule"]["frozen_kl_weight"] is None
    assert config["least_kl_weight"] is None  # what was asked for is kept
    assert "empered" not in out
    metrics = json.loads((workplace / "run" / "metrics.json").read_text())
    assert [total for _, total in metrics["nodes_kept"].values()] == [3, 6, 4]


def test_a_table_as_people_have_them_is_fitted_and_what_was_done_is_told(workplace: Path) -> None:
    """With decimal commas, row names, text, missing cells, a missing target and a column of dates."""
    rows = [
        f"r{n};{n / 7:.3f};{n % 5 if n % 9 else ''};{('red', 'blue')[n % 2]};2020-01-02;{n % 4 + 1 if n else ''}"
        for n in range(90)
    ]
    (workplace / "my.csv").write_text("\n".join([";size;gap;colour;day;stars", *rows]).replace(".", ","))
    options = [
        "--drop",
        "day",
        "--task",
        "regression",
        "--epochs",
        "2",
        "--hidden",
        "4",
        "--prior",
        "ss-ig",
        "--refine",
        "no",
        "--out",
        "run",
    ]
    code, out, err = call("fit", "my.csv", *options)
    assert (code, err) == (0, "") and "71 training rows, 18 test rows, 4 inputs, regression" in out
    notes = [
        "columns are separated by semicolons, a comma marks decimals",
        "the first column, of row names, is left out",
        "day left out (as asked)",
        "1 of 90 rows left out, which have no stars",
        "missing cells filled by the median, and marked by another input: gap (",
        "text as indicators of its levels: colour (2)",
    ]
    report = (workplace / "run" / "report.md").read_text()
    for note in notes:
        assert f"  {note}" in out and f"* {note}" in report
    config = json.loads((workplace / "run" / "config.json").read_text())
    assert config["task"] == "regression" and config["drop"] == ["day"] and len(config["notes"]) == len(notes)
    assert "| notes" not in report


def test_fit_a_regression_with_a_residual_net_and_no_gates(workplace: Path) -> None:
    made_table(workplace / "my.csv", rows=40)
    text = (workplace / "my.csv").read_text().replace("yes", "1").replace("no", "0")
    (workplace / "my.csv").write_text(text)
    code, out, _ = call("fit", "my.csv", "--net", "residual-mlp", "--hidden", "6,4", "--prior", "gl", "--epochs", "2")
    assert code == 0
    assert "test RMSE" in out and "regression" in out and "nodes:" not in out
    metrics = json.loads((workplace / "runs" / "my-gl-0" / "metrics.json").read_text())
    assert metrics["params_kept"] == 1


@pytest.mark.parametrize(("rank", "speaks"), [("0", True), ("1", False)])
def test_processes_of_torchrun_are_joined(monkeypatch: pytest.MonkeyPatch, rank: str, speaks: bool) -> None:
    joined: list[str] = []
    monkeypatch.setattr(torch.distributed, "init_process_group", joined.append)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: joined.append("left"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)

    def fail(*args: object, **options: object) -> None:
        raise ValueError("enough")

    monkeypatch.setattr(recipes, "run", fail)
    code, out, err = call("fit", "digits")
    assert (code, err) == (2, "error: enough\n" * speaks) and joined == ["gloo", "left"] and bool(out) == speaks


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("digits",), (False, False)),
        (("my.csv",), (True, True)),
        (("my.csv", "--refine", "yes"), (True, False)),
        (("my.csv", "--refine", "no"), (False, False)),
        (("my.csv", "--quick"), (False, False)),
        (("my.csv", "--quick", "--refine", "yes"), (True, False)),
        (("my.csv", "--prior", "ig"), (False, False)),
        (("my.csv", "--method", "sghmc"), (False, False)),
    ],
)
def test_tables_are_refined_where_it_is_worth_it(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], expected: tuple[bool, bool]
) -> None:
    made_table(workplace / "my.csv")
    given = []

    def run(dataset: object, settings: Recipe, **options: object) -> None:
        given.append(settings)
        raise ValueError("enough")

    monkeypatch.setattr(recipes, "run", run)
    code, out, _ = call("fit", *arguments)
    assert code == 2 and ("decide on inputs" in out) is (given[0].select_inputs == "auto")
    assert [(each.refinement is not None, each.refine_if_worth) for each in given] == [expected]


def test_fit_by_sampling(workplace: Path) -> None:
    made_table(workplace / "my.csv")
    code, out, err = call("fit", "my.csv", "--target", "answer", "--method", "sghmc", "--epochs", "3", "--hidden", "5")
    assert (code, err) == (0, "")
    assert {path.name for path in (workplace / "runs" / "my-sghmc-0").iterdir()} == {*RUN_FILES, *TABLE_FILES}
    assert "to compare with, and 3 of sampling" in out and "Draws of a cooled sampler." in out


def expect_error(workplace: Path, *arguments: str) -> str:
    """Check that a call fails by one line and writes nothing; return the line."""
    before = {path: path.stat().st_mtime_ns for path in workplace.rglob("*")}
    code, _, err = call("fit", *arguments)
    assert code == 2
    assert err.startswith("error: ") and err.count("\n") == 1 and err.endswith("\n")
    assert {path: path.stat().st_mtime_ns for path in workplace.rglob("*")} == before
    return err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cifar"], ["data must be one of", *DATASETS, "got 'cifar'"]),
        (["--method", "sghmc", "--prior", "ss-gl"], ["prior must be ss-ig or ig", "got 'ss-gl'"]),
        (["--method", "sghmc", "--kl-weight", "0.5"], ["kl_weight is of method svi, got 0.5"]),
        (["--epochs", "0"], ["epochs must be at least 1"]),
        (["--kl-weight", "-1"], ["kl_weight must be positive and finite, got -1.0"]),
        (["--kl-weight", "0"], ["kl_weight must be positive and finite, got 0.0"]),
        (["--inclusion", "1"], ["inclusion must lie in (0, 1), got 1.0"]),
        (["--inclusion", "0"], ["inclusion must lie in (0, 1), got 0.0"]),
        (["--inclusion", "nan"], ["inclusion must lie in (0, 1), got nan"]),
        (["--hidden", "50,x"], ["hidden must be whole numbers", "'50,x'"]),
        (["--hidden", "0"], ["hidden must be the widths"]),
        (["--threads", "0"], ["threads must be from 1 to"]),
        (["--device", "abacus"], ["device must be cpu or cuda"]),
        (["--device", "xpu"], ["device must be cpu where torch finds no XPU device, got 'xpu'"]),
        (["--device", "meta"], ["device must be one of cpu, cuda, mps, xpu", "got 'meta'"]),
        (["mnist"], ["data_dir must be given for 'mnist'"]),
        (["digits", "--target", "price"], ["target must be left out"]),
        (["digits", "--drop", "price"], ["drop must be left out"]),
        (["digits", "--task", "regression"], ["task must be left out for images, got 'regression'"]),
        (["missing.csv"], ["name must be the path of a file that exists"]),
        (["--prior", "ig", "--select-inputs"], ["select_inputs and inclusion need a prior with gates"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and len(value) < 3 else "",
)
def test_bad_options_are_told_in_one_line(arguments: list[str], words: list[str], workplace: Path) -> None:
    err = expect_error(workplace, *arguments)
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    ("option", "value", "names"),
    [("--net", "vgg", NETS), ("--prior", "laplace", PRIORS), ("--method", "mcmc", METHODS)],
)
def test_names_are_checked_and_printed(option: str, value: str, names: tuple[str, ...], workplace: Path) -> None:
    code, _, err = call("fit", option, value)
    assert code == 2 and f"'{option}'" in err and f"'{value}' is not one of" in err
    assert all(f"'{name}'" in err for name in names) and not list(workplace.iterdir())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty set"),
        ("left,price", "empty set"),
        ("left,price\n1,inf\n3,4\n5,6", "column 'price' of 'my.csv' must hold finite numbers, got inf in row 1"),
        ("left,price\n1,2.5\n-inf,4.5\n5,6.5", "column 'left' of 'my.csv' must hold finite numbers, got -inf"),
        ("left,price\n1,2.5\ntwo,4.5\n5,6.5", "column 'left' of 'my.csv' must hold numbers, got 'two' in row 2"),
        ("left,price\n1,2.5\n3\n5,6.5", "row 2 of 'my.csv' must have 2 cells"),
    ],
    ids=["empty", "no rows", "infinite target", "infinite", "text", "short row"],
)
def test_bad_tables_are_told_in_one_line(text: str, words: str, workplace: Path) -> None:
    (workplace / "my.csv").write_text(text)
    assert words in expect_error(workplace, "my.csv")


def test_an_unknown_column_lists_the_known(workplace: Path) -> None:
    made_table(workplace / "my.csv")
    err = expect_error(workplace, "my.csv", "--target", "cost")
    assert "target must be a column of 'my.csv' (left, right, answer, price), got 'cost'" in err


def test_a_folder_that_holds_a_run_is_told_in_one_line(workplace: Path) -> None:
    (workplace / "run").mkdir()
    (workplace / "run" / "report.md").write_text("mine")
    err = expect_error(workplace, "--out", "run")
    assert "out must not hold a run already, got '" in err and "run' with report.md" in err


def test_help_names_all_that_is_known() -> None:
    code, out, _ = call("fit", "--help")
    assert code == 0
    for name in (*DATASETS, *NETS, *PRIORS, "--kl-weight", "tempered", "Examples", "bnn-pyro fit mnist"):
        assert name in out
