"""A run on its way to its end: the progress bar, and Ctrl-C."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from bnn_pyro.inference.generators import seeded
from bnn_pyro.inference.mcmc import loop
from bnn_pyro.inference.mcmc import runs as chains
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.inference.mcmc.stopping import StoppingRule
from tests.inference.mcmc.test_checkpoint import assert_same, finished, options, rows_of_data
from tests.inference.mcmc.test_sample import regression


def interrupting(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Makes Ctrl-C come in the middle of the fifth transition."""
    advance = chains.SequentialRun.advance

    def advanced(run: chains.SequentialRun) -> None:
        for _ in range(times if run.done == 5 else 0):
            signal.raise_signal(signal.SIGINT)
        advance(run)

    monkeypatch.setattr(chains.SequentialRun, "advance", advanced)


def test_ctrl_c_lets_the_transition_end_and_saves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt, match="stopped after 6 of 56 transitions"):
        interrupting(patched, 1)
        sample(regression, rows_of_data(), checkpoint=tmp_path / "run.pt", **options("nuts"))
    assert signal.getsignal(signal.SIGINT) is handler
    assert torch.load(tmp_path / "run.pt", weights_only=True)["state"]["done"] == 6
    assert_same(sample(regression, rows_of_data(), checkpoint=tmp_path / "run.pt", **options("nuts")), finished("nuts"))


def test_a_second_ctrl_c_is_obeyed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupting(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        sample(regression, rows_of_data(), checkpoint=tmp_path / "run.pt", **options("nuts"))
    assert not list(tmp_path.iterdir())


def test_progress_bar(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It begins where the run goes on."""
    given: Any = {**options("nuts"), "progress": True, "checkpoint": tmp_path / "run.pt"}
    for _ in range(2):
        sample(regression, rows_of_data(), **given)
        assert "56/56" in capsys.readouterr().err


class Slow:
    """A clock that a transition takes 10 seconds by."""

    def __init__(self, run: chains.BatchRun) -> None:
        self.run = run

    def perf_counter(self) -> float:
        return 10.0 * self.run.done


@pytest.mark.parametrize(("seconds", "warmup", "total"), [(1.0, 2, 6), (300.0, 8, 20), (1e5, 200, 600)])
def test_a_run_that_would_take_too_long_is_shortened(
    seconds: float, warmup: int, total: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few the seconds are there is a warm-up, and a draw of each chain for each that is kept, 4 in all."""
    plan = SamplingPlan(kernel="mclmc", chains=3, warmup=200, draws=4, thinning=100)
    potential = Potential(noncentered(regression), *rows_of_data())
    with seeded(0, torch.device("cpu")):
        run = chains.begin(plan, potential, None)
        assert isinstance(run, chains.BatchRun)
        monkeypatch.setattr(loop, "time", Slow(run))
        rule = StoppingRule(median=100.0, tail=100.0, seconds=seconds)
        _, found = loop.drive_until(run, rule, lambda: torch.ones(1), progress=False)
        assert found.tolist() == [1.0]
    assert (run.warmup_transitions, run.total) == (warmup, total)
    assert run.result()["vectors"].shape[:2] == (3, 4)
    assert (run.kernel.scale != 1).all()
