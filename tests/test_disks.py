"""On a disk that is full, or cannot be written to, each writer says so in one line and loses nothing older."""

import json
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from bnn_pyro.data.mapped import Spool
from bnn_pyro.export import export_net, save_net
from bnn_pyro.inference.checkpoint import EpochFile
from bnn_pyro.inference.mcmc.checkpoint import RunFile as ChainFile
from bnn_pyro.inference.svi.checkpoint import RunFile
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.files import save_posterior
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.reports import claim
from bnn_pyro.reports.folder import write_networks, write_report
from bnn_pyro.reports.measures import evaluate_run
from guides import AutoSpikeSlab
from tests import kills
from tests.cli.calls import call, made_table
from tests.mutations import network, run_folder
from tests.reports.finished import CONFIG, refined, regression, sampled
from tests.small_disks import Disk, small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk") as found:
        yield found


def is_one_line(error: OSError) -> bool:
    return bool(str(error)) and "\n" not in str(error)


# ---- checkpoints -----------------------------------------------------------------------------------------------------

WRITES: dict[str, tuple[Any, str]] = {
    "svi": (RunFile, "write"),
    "sghmc": (EpochFile, "write"),
    "dense": (EpochFile, "write"),
    "sample": (ChainFile, "save"),
}


class Stop(Exception):
    """The power fails."""


def stop_at_the_third(owner: Any, name: str) -> Any:
    """Let a run be saved twice, and stop it then."""
    before, calls = getattr(owner, name), []

    def counted(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise Stop
        before(*arguments)

    return mock.patch.object(owner, name, counted)


@cache
def undisturbed(what: str) -> kills.State:
    return kills.API[what](None)


@pytest.mark.parametrize("what", WRITES)
def test_a_run_that_cannot_be_saved_is_resumed_from_what_was(what: str, disk: Disk) -> None:
    run = partial(kills.API[what], disk.folder / "run.pt")
    with stop_at_the_third(*WRITES[what]), pytest.raises(Stop):
        run()
    saved = disk.content()
    assert set(saved) == {"run.pt"}
    for name, condition in disk.conditions().items():
        if what == "sample" and name != "full":
            continue  # whose programs take long to make
        with condition(), pytest.raises(OSError) as raised:
            run()
        assert is_one_line(raised.value), name
        assert disk.content() == saved, name
    found = run()
    assert all(torch.equal(value, found[name]) for name, value in undisturbed(what).items())


# ---- what is written once --------------------------------------------------------------------------------------------


@cache
def writers() -> dict[str, Callable[[Path], object]]:
    model, run = network(), refined(regression())
    guide = GuidePosterior(model, AutoSpikeSlab(model.prior))
    evaluation, net, x = evaluate_run(run), mlp(4, (40,), 2), torch.zeros(3, 4)
    return {
        "posterior": lambda folder: save_posterior(guide, folder / "it.pt"),
        "draws": lambda folder: save_posterior(sampled(model, draws=40), folder / "it.pt"),
        "weights": lambda folder: save_net(net, folder),
        "program": lambda folder: export_net(net, x, folder / "it.pt2"),
        "networks": lambda folder: write_networks(folder, run, config=CONFIG, save_checkpoint=None),
        "report": lambda folder: write_report(folder, run, evaluation, config=CONFIG),
    }


@pytest.mark.parametrize("what", writers())
def test_what_cannot_be_written_leaves_what_was(what: str, disk: Disk) -> None:
    """What is small may be written all the same where there is some room; each file is whole then."""
    write = writers()[what]
    write(disk.folder)
    before = disk.content()
    for name, condition in disk.conditions().items():
        if what == "report" and name not in ("nearly full", "files may have 1,000 bytes"):
            continue  # which would cost as much again
        with condition(), pytest.raises(OSError) as raised:
            write(disk.folder)
        assert is_one_line(raised.value), name
        after = disk.content()
        changed = {file for file in before if after[file] != before[file]}
        assert after.keys() == before.keys() and all(file.endswith((".json", ".md")) for file in changed), name


def test_rows_that_do_not_fit_on_the_disk(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(disk.folder))
    spool = Spool(most=0)
    with pytest.raises(OSError) as raised:
        for _ in range(100):
            spool.add(torch.zeros(10_000))
        spool.tensor()
    assert is_one_line(raised.value)


# ---- the command line ------------------------------------------------------------------------------------------------


def test_predictions_that_cannot_be_written(disk: Disk, tmp_path: Path) -> None:
    run_folder(tmp_path / "run")
    arguments = ("predict", str(tmp_path / "run"), str(tmp_path / "run" / "table.csv"), "--force")
    out = disk.folder / "predictions.csv"
    assert call(*arguments, "--out", str(out))[0] == 0
    before = disk.content()
    for name, condition in disk.conditions().items():
        with condition():
            code, _, text = call(*arguments, "--out", str(out))
        assert (code, text.count("\n")) == (1, 1) and text.startswith("error: "), name
        assert disk.content() == before, name


@pytest.mark.parametrize("form", ["pt2", "weights"])
def test_a_network_that_cannot_be_exported(form: str, disk: Disk, tmp_path: Path) -> None:
    run_folder(tmp_path / "run")
    for name, condition in disk.conditions().items():
        if name == "files may have 1,000 bytes":
            continue  # the net's weights have fewer
        with condition():
            arguments = ("export", str(tmp_path / "run"), "--format", form, "--out", str(disk.folder / "exported"))
            code, _, text = call(*arguments)
        assert (code, text.count("\n")) == (1, 1) and text.startswith("error: "), (name, text)
        assert disk.content() == {} and list(disk.folder.iterdir()) == [], name


@pytest.mark.slow
@pytest.mark.parametrize("room", [0, 12_000, 60_000, 200_000])
def test_the_command_line_resumes_what_a_full_disk_has_stopped(
    room: int, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "SAVED_AFTER", 0.0)
    torch.manual_seed(0)
    made_table(tmp_path / "my.csv")
    monkeypatch.chdir(tmp_path)
    assert call(*kills.TABLE, "--out", "undisturbed")[0] == 0
    out = disk.folder / "run"
    with disk.full(room):
        code, _, text = call(*kills.TABLE, "--out", str(out))
    assert (code, text.count("\n")) == (1, 1) and "No space left on device" in text
    code, _, text = call(*kills.TABLE, "--out", str(out), "--resume")
    assert (code, text) == (0, "")
    assert kills.outcome(out) == kills.outcome(tmp_path / "undisturbed")
    assert json.loads((out / "metrics.json").read_text()) and not list(out.rglob(".*"))


def test_a_folder_that_cannot_be_written_to(disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_table(tmp_path / "my.csv")
    monkeypatch.chdir(tmp_path)
    with disk.read_only():
        code, _, text = call(*kills.TABLE, "--out", str(disk.folder / "run"))
    assert (code, text.count("\n")) == (2, 1) and "out must be a folder that can be written to" in text
    assert disk.content() == {}
