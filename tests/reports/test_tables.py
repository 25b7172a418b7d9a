"""Runs on tables: table.json, programs of raw numbers, and what the page says of them."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from bnn_pyro.data.encoding import LevelColumn, NumberColumn, TableEncoding, TargetEncoding
from bnn_pyro.export import export_net
from bnn_pyro.likelihoods import GaussianNoise, HeteroscedasticNoise, Normals
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.predictive_net import predictive_net
from bnn_pyro.reports.folder import RUN_FILES
from bnn_pyro.reports.measures import Run, evaluate_run
from bnn_pyro.reports.refined_files import REFINED_FILES
from bnn_pyro.reports.tables import (
    TABLE_FILES,
    PointPredictive,
    TableProgram,
    ensemble_program,
    example_rows,
    find_table,
    load_table,
    point_program,
    table_values,
)
from tests.reports.finished import classification, refined, regression, write

COLUMNS = (NumberColumn("size", 3.0, True), LevelColumn("colour", ("blue", "red"), missing=True))
NUMBERS = TableEncoding(COLUMNS, (2.0, 0.1, 0.5, 0.2), (4.0, 0.5, 0.5, 0.5), TargetEncoding("price", 100.0, 7.0))
WORDS = dataclasses.replace(NUMBERS, target=TargetEncoding("sold", classes=("no", "maybe", "yes")))
RAW = torch.tensor([[5.0, 0.0], [float("nan"), 1.0], [1.0, float("nan")], [2.0, 9.0]])


def of_table(run: Run) -> Run:
    return dataclasses.replace(run, encoding=WORDS if run.posterior.is_classification else NUMBERS)


def test_the_program_of_a_regression_gives_the_targets_units(tmp_path: Path) -> None:
    run = of_table(regression())
    write(tmp_path / "run", run, evaluate_run(run))
    assert {path.name for path in (tmp_path / "run").iterdir()} == {*RUN_FILES, *TABLE_FILES} - {"checkpoint.pt"}
    net = torch.export.load(tmp_path / "run" / "pruned.pt2").module()
    noise = float(run.posterior.median_values()["noise_scale"])
    for rows in (RAW, RAW[:1], RAW.double()):
        mean, sd = net(rows)
        scaled = run.pruned(NUMBERS.raw_inputs()(rows)).squeeze(1)
        torch.testing.assert_close(mean, 100.0 + 7.0 * scaled)
        torch.testing.assert_close(sd, torch.full((len(rows),), 7.0 * noise))
    values = json.loads((tmp_path / "run" / "table.json").read_text())
    assert values["noise_sd"] == pytest.approx(7.0 * noise) and values["target"]["name"] == "price"
    assert load_table(tmp_path / "run") == NUMBERS


def test_the_program_of_classes_gives_probabilities(tmp_path: Path) -> None:
    run = of_table(classification())
    write(tmp_path / "run", run, evaluate_run(run))
    net = torch.export.load(tmp_path / "run" / "pruned.pt2").module()
    torch.testing.assert_close(net(RAW), run.pruned(WORDS.raw_inputs()(RAW)).softmax(1))
    values = json.loads((tmp_path / "run" / "table.json").read_text())
    assert values["noise_sd"] is None and values["target"]["classes"] == ["no", "maybe", "yes"]


def test_the_ensemble_of_a_refined_run_takes_raw_rows_too(tmp_path: Path) -> None:
    run = of_table(refined(regression()))
    evaluation = evaluate_run(run)
    write(tmp_path / "run", run, evaluation, checkpoint=True)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {*RUN_FILES, *REFINED_FILES, *TABLE_FILES}
    mean, sd = torch.export.load(tmp_path / "run" / "ensemble.pt2").module()(RAW)
    assert run.refined is not None
    expected = run.refined.predict(NUMBERS.raw_inputs()(RAW), num_samples=100, return_draws=True)
    assert isinstance(expected, Normals)
    scaled_mean, scaled_sd = expected.moments()
    torch.testing.assert_close((mean, sd), (100.0 + 7.0 * scaled_mean, 7.0 * scaled_sd))
    page = (tmp_path / "run" / "report.md").read_text()
    for words in (
        "| 0 | size | its number |",
        "| 1 | colour | 0 for blue, 1 for red |",
        "mean, sd = net(x)  # (rows,) each, noise included, in the units of price",
        "bnn-pyro predict . new.csv --out predictions.csv",
        "the pruned network; ensemble.pt2 has draws of it",
        'inputs = load_table(".").raw_inputs()(x)  # as the network takes them\nmean = posterior.predict(inputs, num_',
        "mean = refined.predict(inputs)  # scaled as in training",
    ):
        assert words in page
    assert "\n\n\n" not in page
    for block in page.split("```python\n")[1:]:
        compile(block.split("```")[0], "report.md", "exec")


def test_programs_leave_what_they_are_made_of_alone() -> None:
    run = refined(regression())
    assert run.refined is not None
    ensemble = predictive_net(run.refined, draws=5)
    for program in (point_program(run.pruned, run.posterior, NUMBERS), ensemble_program(ensemble, NUMBERS)):
        assert isinstance(program, TableProgram) and not program.training
        for own in (run.pruned, ensemble):
            assert not {p.data_ptr() for p in own.parameters()} & {p.data_ptr() for p in program.parameters()}
    assert example_rows(NUMBERS).shape == (1, 2)


@pytest.mark.parametrize(
    ("likelihood", "outputs"), [(GaussianNoise(0.5), 1), (HeteroscedasticNoise(), 2)], ids=["known", "heteroscedastic"]
)
def test_noise_of_every_kind_is_in_the_program(
    tmp_path: Path, likelihood: GaussianNoise | HeteroscedasticNoise, outputs: int
) -> None:
    net = mlp(4, (3,), outputs).eval()
    program = TableProgram(NUMBERS.raw_inputs(), PointPredictive(net, likelihood, None), mean=100.0, std=7.0)
    export_net(program, example_rows(NUMBERS), tmp_path / "net.pt2")
    found = torch.export.load(tmp_path / "net.pt2").module()(RAW)
    expected = likelihood.predict(net(NUMBERS.raw_inputs()(RAW)).unsqueeze(0)).moments()
    torch.testing.assert_close(found, (100.0 + 7.0 * expected[0], 7.0 * expected[1]))


def test_what_is_no_run_on_a_table(tmp_path: Path) -> None:
    assert find_table(tmp_path) is None and table_values(None) is None
    with pytest.raises(ValueError, match="run must be one on a table and have a table.json"):
        load_table(tmp_path)
    for text in ("{", "{}", "[]"):
        (tmp_path / "table.json").write_text(text)
        with pytest.raises(ValueError, match="table.json of a run|must be of a table's encoding"):
            load_table(tmp_path)


def test_a_page_shows_so_many_columns() -> None:
    wide = dataclasses.replace(NUMBERS, columns=tuple(NumberColumn(f"x{n}", 0.0) for n in range(60)))
    values = table_values(wide)
    assert values is not None and len(values["columns"]) == 50 and values["more"] == 10 and values["count"] == 60
