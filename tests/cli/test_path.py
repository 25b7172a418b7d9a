"""`bnn-pyro path`, and `bnn-pyro fit --kl-weight auto`, which does the same."""

import json
from pathlib import Path

import pytest
import torch

from bnn_pyro.recipes import load_run
from bnn_pyro.reports.folder import RUN_FILES
from bnn_pyro.reports.path_files import PATH_FILES
from bnn_pyro.reports.tables import TABLE_FILES
from tests.cli.calls import call, made_table

OPTIONS = ("my.csv", "--target", "answer", "--hidden", "6", "--epochs", "4")


def test_a_path_is_printed_and_ships_what_fit_would_at_its_choice(workplace: Path) -> None:
    torch.manual_seed(0)
    made_table(workplace / "my.csv")
    code, out, err = call("path", *OPTIONS, "--kl-weights", "1,.03", "--out", "one")
    assert (code, err) == (0, "")
    assert "a path of KL weights 0.03, 1, and a fit at the chosen one" in out
    records = json.loads((workplace / "one" / "path.json").read_text())
    assert [record["kl_weight"] for record in records] == [0.03, 1.0]
    chosen = next(record["kl_weight"] for record in records if record["chosen"])
    assert "Sparsity path" in out and f"KL weight {chosen:g} is chosen" in out and out.count("chosen\n") == 1
    files = {path.name for path in (workplace / "one").iterdir()}
    assert files == {*RUN_FILES, *PATH_FILES, *TABLE_FILES}
    config = json.loads((workplace / "one" / "config.json").read_text())
    assert config["kl_weight"] == chosen and config["path"]["kl_weights"] == [1.0, 0.03]
    code, _, _ = call("fit", *OPTIONS, "--refine", "no", "--kl-weight", str(chosen), "--out", "other")
    assert code == 0 and not (workplace / "other" / "path.json").exists()
    one, other = (load_run(workplace / name) for name in ("one", "other"))
    assert one.kl_weight == other.kl_weight == chosen
    states = [posterior.guide.state_dict() for posterior in (one, other)]  # type: ignore[attr-defined]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    page = (workplace / "one" / "report.md").read_text()
    assert "## Sparsity path" in page and "](path.png)" in page
    assert "Sparsity path" not in (workplace / "other" / "report.md").read_text()


def test_fit_can_choose_the_weight(workplace: Path) -> None:
    made_table(workplace / "my.csv", rows=40)
    code, out, err = call("fit", *OPTIONS, "--refine", "no", "--kl-weight", "auto", "--out", "run")
    assert (code, err) == (0, "") and "a path that chooses the KL weight, then" in out and "Sparsity path" in out
    records = json.loads((workplace / "run" / "path.json").read_text())
    assert [record["kl_weight"] for record in records] == [0.03, 0.1, 0.3, 1.0]
    assert not any(record["refined"] for record in records)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("path", "--kl-weights", "-1"), "kl_weights must be positive and finite"),
        (("path", "--kl-weights", "a,b"), "kl_weights must be numbers with commas between"),
        (("path", "--prior", "ig"), "path needs method svi and a prior with gates"),
        (("fit", "--kl-weight", "auto", "--prior", "gl"), "path needs method svi and a prior with gates"),
        (("fit", "--kl-weight", "auto", "--method", "sghmc"), "path needs method svi and a prior with gates"),
        (("fit", "--kl-weight", "some"), "kl_weight must be a number or auto, got 'some'"),
    ],
)
def test_bad_options_are_told_in_one_line(arguments: tuple[str, ...], words: str, workplace: Path) -> None:
    code, _, err = call(*arguments)
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1 and words in err
    assert not list(workplace.iterdir())
