"""`bnn-pyro refine` and `bnn-pyro fit --refine`: what they print, write and refuse."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

import bnn_pyro
from bnn_pyro import Refinement, SamplingPlan
from bnn_pyro.inference.mcmc import starts
from bnn_pyro.inference.training.ensemble import train_ensemble
from bnn_pyro.recipes import defaults, load_refined
from bnn_pyro.reports.folder import RUN_FILES
from bnn_pyro.reports.refined_files import REFINED_FILES
from bnn_pyro.reports.tables import TABLE_FILES
from tests.cli.calls import call

FIT = ["fit", "my.csv", "--target", "middle", "--epochs", "2", "--hidden", "6", "--prior", "ss-ig", "--out", "run"]
FIT += ["--refine", "no"]


def made_numbers(path: Path, rows: int = 80) -> None:
    """Write a table whose third column is what to predict, and whose last one is another."""
    x = torch.randn(rows, 2)
    lines = [f"{a:.4f},{b:.4f},{a - b:.4f},{5 * a:.4f}" for a, b in x.tolist()]
    path.write_text("\n".join(["left,right,middle,price", *lines]))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make chains and the training of their starting points short."""
    plan = SamplingPlan(kernel="mclmc", chains=3, warmup=40, draws=6, thinning=2)
    usual = partial(Refinement, plan=plan, until=None)
    monkeypatch.setattr(bnn_pyro, "Refinement", lambda **options: usual(**options))
    monkeypatch.setattr(defaults, "Refinement", lambda until, slab: usual(slab=slab))
    monkeypatch.setattr(starts, "train_ensemble", partial(train_ensemble, steps=50))


def numbers(folder: Path) -> set[str]:
    return set(json.loads((folder / "metrics.json").read_text()))


def test_a_run_is_refined_once_and_again_by_force(workplace: Path) -> None:
    made_numbers(workplace / "my.csv")
    assert call(*FIT)[0] == 0
    before = {path.name for path in (workplace / "run").iterdir()}
    assert before == {*RUN_FILES, *TABLE_FILES} and not any("refined" in name for name in numbers(workplace / "run"))
    code, out, _ = call("refine", "run", "--chains", "4", "--seconds", "30", "--start", "draws", "--seed", "7")
    assert code == 0
    assert {path.name for path in (workplace / "run").iterdir()} == before | set(REFINED_FILES)
    for words in ("my.csv: 64 training rows", "refined", "test NLL", "bytes of the program", "Report: run/report.md"):
        assert words in out
    config = json.loads((workplace / "run" / "config.json").read_text())
    assert config["refinement"]["plan"]["chains"] == 4 and config["refinement"]["until"]["seconds"] == 30
    assert config["refinement"]["least_chains"] == 4  # as many as asked for, however large the table is
    assert config["refinement"]["start"] == "draws" and config["refinement_seed"] == 7
    assert load_refined(workplace / "run").chains == 4
    code, _, err = call("refine", "run")
    assert code == 2 and err.startswith("error: run must not be refined already") and err.count("\n") == 1
    assert call("refine", "run", "--force")[0] == 0
    assert load_refined(workplace / "run").chains == 3


def test_data_that_have_moved_are_asked_for(workplace: Path) -> None:
    made_numbers(workplace / "my.csv")
    assert call(*FIT)[0] == 0
    (workplace / "my.csv").rename(workplace / "moved.csv")
    code, _, err = call("refine", "run")
    assert code == 2 and err == "error: data must be given where the run's are not found: there is no file 'my.csv'\n"
    code, _, err = call("refine", "run", "--data", "moved.csv", "--target", "left")
    assert code == 2 and "data must be those of the run, 'my.csv', got 'moved.csv' with" in err
    code, _, err = call("refine", "run", "--data", "moved.csv", "--drop", "left")
    assert code == 2 and "with input_shape [2], not [3]" in err
    renamed = (workplace / "moved.csv").read_text().replace("left,", "other,", 1)
    (workplace / "renamed.csv").write_text(renamed)
    code, _, err = call("refine", "run", "--data", "renamed.csv")
    assert code == 2 and "with the input 'left', got 'renamed.csv' with 'other'" in err
    code, out, _ = call("refine", "run", "--data", "moved.csv")  # the target is the run's
    assert code == 0 and "refined" in out


def test_fit_refines_when_asked_to(workplace: Path) -> None:
    made_numbers(workplace / "my.csv")
    code, out, _ = call(*FIT, "--refine", "yes", "--reference")
    assert code == 0 and "then the pruned network is sampled\n" in out and "bytes of the program" in out
    assert {path.name for path in (workplace / "run").iterdir()} == {*RUN_FILES, *REFINED_FILES, *TABLE_FILES}
    assert load_refined(workplace / "run").num_draws == 18 and "reference_draws" in numbers(workplace / "run")
    assert load_refined(workplace / "run").predict(torch.randn(5, 3)).shape == (5,)


@pytest.mark.parametrize(("rows", "refined"), [(80, True), (8_000, False)])
def test_auto_refines_where_it_is_worth_it(rows: int, refined: bool, workplace: Path) -> None:
    made_numbers(workplace / "my.csv", rows=rows)
    code, out, err = call(*FIT, "--refine", "auto")
    assert code == 0 and "then the pruned network is sampled, if it is worth it" in out
    assert (workplace / "run" / "refined.pt").exists() is refined
    assert ("Not refined: the pruned network has" in out) is not refined
    assert refined or err == ""


def test_a_folder_without_a_run_is_refused_in_one_line(workplace: Path) -> None:
    for arguments, words in (
        (["absent"], "folder must hold the config.json of a run, got no such file (absent"),
        (["absent", "--chains", "0"], "folder must hold the config.json of a run"),
    ):
        code, _, err = call("refine", *arguments)
        assert code == 2 and err.startswith("error: ") and words in err and err.count("\n") == 1
    assert not list(workplace.iterdir())


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [("--seconds", "0", "seconds must be positive and finite"), ("--chains", "0", "chains must be at least 1, got 0")],
)
def test_settings_are_checked(option: str, value: str, words: str, workplace: Path) -> None:
    made_numbers(workplace / "my.csv")
    assert call(*FIT)[0] == 0
    code, _, err = call("refine", "run", option, value)
    assert code == 2 and words in err and not (workplace / "run" / "refine.partial").exists()


def test_names_are_checked_and_printed() -> None:
    starts_of, refine_of = ["refine", "run", "--start", "prior"], [*FIT, "--refine", "x"]
    for arguments, names in ((starts_of, "'ensemble', 'draws'"), (refine_of, "'no', 'auto', 'yes'")):
        code, _, err = call(*arguments)
        assert code == 2 and f"is not one of {names}" in err
