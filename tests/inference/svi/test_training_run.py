"""A run that was stopped and resumed is the run that was not; its records say what happened."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor

from bnn_pyro import fit
from bnn_pyro.inference.checkpoint import Checkpoint
from bnn_pyro.inference.svi import training_run as run_module
from bnn_pyro.inference.svi.checkpoint import read_progress
from bnn_pyro.inference.svi.schedule import Schedule
from bnn_pyro.inference.training.compute import Compute
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.guide import GuidePosterior
from tests.inference.svi.test_fit import FAST, X, Y, is_same, state
from tests.inference.training.two_processes import Stop, stopped, train
from tests.test_network import network

CASES: dict[str, dict[str, Any]] = {
    "adam": {},
    "traced": {"compute": Compute(engine="traced"), "epochs": 4, "net": mlp(6, (3,), 3).double()},
    "of torch": {"optimizer": lambda groups: torch.optim.SGD(groups, momentum=0.9), "clip_norm": 1.0},
    "phases": {"schedule": Schedule(hold=1, freeze=2, temperature=(0.7, 0.2), kl_warmup=2.0, frozen_kl_weight=0.3)},
    "held out": {"validation": 0.25, "net": "residual convolutions", "num_data": 9},
}


def run(path: Path | Checkpoint | None = None, *, batches: int | None = None, **options: Any) -> GuidePosterior:
    """A run that the power fails, or not."""
    given = {"epochs": 5, "batch_size": 6, "rates": FAST, "seed": 0, **options}
    model = network(given.pop("net", "mlp"), num_data=given.pop("num_data", 12))
    left = batches

    def jitter(x: Tensor) -> Tensor:
        nonlocal left
        left = None if left is None else left - 1
        if left == -1:
            raise Stop
        return x + 0.1 * torch.randn_like(x)

    return fit(model, (X, Y), augmentation=jitter, checkpoint=path, **given)


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_run_is_one_that_was_not_stopped(tmp_path: Path, name: str) -> None:
    whole, path = run(**CASES[name]), tmp_path / "run.pt"
    for batches in (3, 4) if name == "adam" else (6,):  # in the second epoch, and in the third of those then left
        with pytest.raises(Stop):
            run(path, batches=batches, **CASES[name])
    saved = read_progress(path)
    assert saved is not None and saved[1].epoch == 3 and not saved[1].is_over
    resumed = run(path, **CASES[name])
    assert is_same(state(resumed), state(whole))
    for one, other in zip(resumed.history, whole.history, strict=True):
        clock = ("seconds", "compile_seconds")
        assert {k: v for k, v in one.items() if k not in clock} == {k: v for k, v in other.items() if k not in clock}
    assert [record["seconds"] for record in resumed.history] == sorted(r["seconds"] for r in resumed.history)


def test_a_shrunk_run_is_resumed_as_it_was(tmp_path: Path) -> None:
    stopped(tmp_path / "run.pt", "shrinking", after=3)
    saved = read_progress(tmp_path / "run.pt")
    assert saved is not None and saved[1].epoch == 3 and not all(mask.all() for mask in saved[1].keep.values())
    assert is_same(state(train("shrinking", checkpoint=tmp_path / "run.pt")), state(train("shrinking")))


def test_a_run_shrunk_twice_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "WORTH_IT", 1.0)
    options: dict[str, Any] = {"schedule": Schedule(shrink_below=0.45), "epochs": 6, "kl_weight": 3.0}
    whole = run(**options)
    with pytest.raises(Stop):
        run(tmp_path / "run.pt", batches=9, **options)
    assert is_same(state(run(tmp_path / "run.pt", **options)), state(whole))


def test_a_run_that_is_over_stays_so(tmp_path: Path) -> None:
    calls: list[int] = []

    def callback(record: Any, posterior: GuidePosterior) -> bool:
        calls.append(record["epoch"])
        return len(calls) == 2

    first = run(tmp_path / "run.pt", callback=callback, seed=None)
    again = run(tmp_path / "run.pt", callback=callback, seed=None)  # the seed is in the file
    assert calls == [1, 2] and len(again.history) == 2 and is_same(state(first), state(again))


def test_it_is_written_every_so_often(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(Checkpoint(tmp_path / "run.pt", every=2), batches=7)
    saved = read_progress(tmp_path / "run.pt")
    assert saved is not None and saved[1].epoch == 2
    assert len(run(Checkpoint(tmp_path / "run.pt", every=4)).history) == 5
    saved = read_progress(tmp_path / "run.pt")
    assert saved is not None and saved[1].epoch == 5 and saved[1].is_over


def test_a_guide_of_pyro_is_resumed(tmp_path: Path) -> None:
    model = network()
    options: dict[str, Any] = {"epochs": 3, "batch_size": 6, "seed": 0, "compute": Compute(engine="eager")}

    def fitted(**more: Any) -> GuidePosterior:
        return fit(model, (X, Y), guide=AutoNormal(model.prior), **options, **more)

    with pytest.raises(Stop):
        fitted(checkpoint=tmp_path / "run.pt", callback=_stop_in_the_second)
    assert is_same(state(fitted(checkpoint=tmp_path / "run.pt")), state(fitted()))


def _stop_in_the_second(record: Any, posterior: GuidePosterior) -> None:
    if record["epoch"] == 2:
        raise Stop


def scored(posterior: GuidePosterior) -> list[int]:
    """The epochs after which the median model was scored."""
    return [record["epoch"] for record in posterior.history if any(key.endswith("_nll") for key in record)]


def test_long_runs_score_some_epochs_the_first_and_the_last_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "MOST_SCORES", 3)
    assert scored(run(epochs=5)) == [1, 2, 3, 4, 5]
    long = run(epochs=12)
    assert scored(long) == [1, 5, 9, 12] and len(long.history) == 12
    assert all("nodes_kept" in record for record in long.history)
    watched = run(epochs=12, validation=0.25, num_data=9, schedule=Schedule(patience=12))
    assert scored(watched) == list(range(1, 13))


@pytest.mark.parametrize(("selected", "frozen"), [(0.1, 1.0), (1.0, 0.1), (0.1, None), (1.0, 1.0), (1.0, None)])
def test_a_posterior_is_tempered_where_its_gates_or_its_slabs_were(selected: float, frozen: float | None) -> None:
    schedule = Schedule(hold=0, freeze=2, frozen_kl_weight=frozen)
    posterior = fit(network(), (X, Y), epochs=4, kl_weight=selected, schedule=schedule, seed=0)
    assert posterior.kl_weight == min(selected, frozen or 1.0)
    assert posterior.tempered == (posterior.kl_weight < 1)
    assert posterior.history[-1]["kl_weight"] == (selected if frozen is None else frozen)
