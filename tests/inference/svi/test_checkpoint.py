"""The file of a run: whole, checked at the door, and of this run alone."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bnn_pyro import fit
from bnn_pyro.inference.svi.checkpoint import Progress, RunFile, read_progress
from bnn_pyro.inference.svi.schedule import Schedule
from tests.inference.svi.test_fit import X, Y
from tests.test_network import network


def progress(**changes: Any) -> Progress:
    """Some progress."""
    values: dict[str, Any] = {
        **{"epoch": 2, "since": 1, "is_over": False, "kl_weight": 0.5, "gate_mode": "free"},
        **{"history": [{"epoch": 1, "loss": 1.0}], "model": {"w": torch.ones(2)}, "guide": {}},
        **{"keep": {"a": torch.tensor([True, False])}, "steps": {"adam": []}, "random": {"cpu": torch.get_rng_state()}},
    }
    return Progress(**{**values, **changes})


def test_there_and_back(tmp_path: Path) -> None:
    file = RunFile(tmp_path / "run.pt", 2, {"epochs": 7, "temperature": (0.5, 0.1)})
    assert [file.is_due(epochs) for epochs in (1, 2, 3, 4)] == [False, True, False, True]
    assert read_progress(file.path) is None and read_progress(None) is None
    file.write(progress())
    saved = read_progress(file.path)
    assert saved is not None and saved[0] == file.settings
    found, expected = vars(saved[1]), vars(progress())
    assert found.keys() == expected.keys() and found["history"] == expected["history"]
    assert torch.equal(found["model"]["w"], torch.ones(2)) and found["keep"]["a"].tolist() == [True, False]
    file.check(saved[0])
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_another_run_is_refused(tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 2, "batch_size": 6, "checkpoint": tmp_path / "run.pt"}
    fit(network(), (X, Y), seed=0, **options)
    for changes, message in (
        ({"seed": 1}, "seed must be 0, as when the run in .*run.pt was begun, got 1: give another checkpoint"),
        ({"schedule": Schedule(hold=1)}, "hold must be 0, as"),
        ({"clip_norm": 1.0}, "optimizer must be 'AdamStep', as .* got 'Adam'"),
        ({"optimizer": torch.optim.SGD}, "got 'SGD'"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(network(), (X, Y), **{"seed": 0, **options, **changes})
    with pytest.raises(ValueError, match="model must be made as when .*run.pt was saved"):
        fit(network("normed"), (X, Y), seed=0, **options)


def test_what_is_no_file_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "run.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"must be a file written by fit\(checkpoint=...\), got .* damaged"):
        fit(network(), (X, Y), epochs=1, checkpoint=tmp_path / "run.pt")
    for path in (tmp_path, tmp_path / "nowhere" / "run.pt"):
        with pytest.raises(ValueError, match="checkpoint must be a file in a folder that exists, got "):
            fit(network(), (X, Y), epochs=1, checkpoint=path)
