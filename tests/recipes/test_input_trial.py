"""Which inputs are read, by rows that neither two fits nor two short samples have seen."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bnn_pyro.data import Dataset, Split
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.svi.fit import fit
from bnn_pyro.inference.svi.schedule import Schedule
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.recipes import Recipe, trial_fits
from bnn_pyro.recipes.dense_training import DenseTraining
from bnn_pyro.recipes.input_trial import InputTrial
from bnn_pyro.recipes.trial_fits import TrialFits
from bnn_pyro.recipes.trials import hold_trials
from bnn_pyro.refinement import sample_whole
from tests.recipes.test_runs import QUICK, table

SHORT = SamplingPlan(kernel="mclmc", chains=2, warmup=10, draws=5)
ASKED = replace(QUICK, select_inputs="auto")


def noisy(rows: int = 140, noise_inputs: int = 12) -> Dataset:
    """Return a table of which one input matters, and many say nothing."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(rows, 1 + noise_inputs, generator=generator)
    y = 1.4 * x[:, 0] + 0.2 * torch.randn(rows, generator=generator)
    return Dataset("made.csv", "regression", Split(x[:-40], y[:-40]), None, Split(x[-40:], y[-40:]), None)


@pytest.fixture
def chains(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor | None, int]]:
    """The networks that are sampled: the numbers of the inputs that they read, and of their rows."""
    found: list[tuple[Tensor | None, int]] = []

    def watched(model: Any, data: Any, settings: Any, **options: Any) -> Any:
        found.append((model.selection, len(data[0])))
        assert model.num_data == len(data[0]) and settings.plan.chains == 8
        return sample_whole(model, data, replace(settings, plan=SHORT), **options)

    monkeypatch.setattr(trial_fits, "sample_whole", watched)
    return found


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, int, Tensor]]:
    """The fits that are made: whether inputs have gates, their epochs and their rows."""
    found: list[tuple[bool, int, Tensor]] = []

    def watched(model: Any, data: Any, **options: Any) -> Any:
        has = any(not group.writers for group in model.groups.values())
        found.append((has, options["epochs"], data[0]))
        return fit(model, data, **options)

    monkeypatch.setattr(trial_fits, "fit", watched)
    return found


def keeping(monkeypatch: pytest.MonkeyPatch, *inclusion: float) -> None:
    """Have the fit with gates on the inputs end with these inclusion probabilities."""
    fitted = TrialFits.posterior

    def changed(self: TrialFits, *, input_gates: bool) -> GuidePosterior:
        posterior = fitted(self, input_gates=input_gates)
        if input_gates:
            gamma = torch.tensor(inclusion)
            found = {**posterior.inclusion(), "inputs": gamma}
            monkeypatch.setattr(posterior, "inclusion", lambda: found)
            monkeypatch.setattr(posterior, "keep", lambda: {name: gamma > 0.5 for name, gamma in found.items()})
        return posterior

    monkeypatch.setattr(TrialFits, "posterior", changed)


def test_fits_take_two_fifths_of_the_epochs_and_nothing_sees_a_held_out_row(
    monkeypatch: pytest.MonkeyPatch, fits: list[tuple[bool, int, Tensor]], chains: list[tuple[Tensor | None, int]]
) -> None:
    keeping(monkeypatch, 0.75, 0.25, 0.875)
    dataset, state = table("regression", rows=160), torch.get_rng_state()
    trial = hold_trials(dataset, replace(ASKED, epochs=5), seed=1).inputs
    assert torch.equal(torch.get_rng_state(), state)
    assert trial is not None and (trial.rows, trial.kept) == (24, (0, 2)) and trial.gain is not None
    assert [(gates, epochs, len(x)) for gates, epochs, x in fits] == [(True, 2, 96), (False, 2, 96)]
    (some, rows), (every, as_many) = chains
    assert some is not None and some.tolist() == [0, 2] and every is None and rows == as_many == 96
    assert hold_trials(dataset, replace(ASKED, epochs=5), seed=1).inputs == trial


def test_chains_see_some_of_many_rows(
    monkeypatch: pytest.MonkeyPatch, chains: list[tuple[Tensor | None, int]], caplog: pytest.LogCaptureFixture
) -> None:
    """And nothing is said of chains that are too short to mix."""
    monkeypatch.setattr(trial_fits, "_SAMPLED_ROWS", 30)
    keeping(monkeypatch, 0.75, 0.25, 0.875)
    assert hold_trials(table("regression", rows=160), ASKED, seed=1).inputs is not None
    assert [rows for _, rows in chains] == [30, 30] and not caplog.records


def test_validation_rows_of_the_data_are_scored(fits: list[tuple[bool, int, Tensor]]) -> None:
    dataset = table("classification", rows=160)
    watched = replace(dataset, validation=Split(dataset.test.x[:30], dataset.test.y[:30]))
    trial = hold_trials(watched, ASKED).inputs
    assert trial is not None and trial.rows == 30
    assert {len(x) for _, _, x in fits} == {120}


@pytest.mark.parametrize("inclusion", [0.999, 1e-12])
def test_nothing_is_compared_where_all_inputs_are_kept_or_a_layer_is_empty(
    fits: list[tuple[bool, int, Tensor]], inclusion: float
) -> None:
    settings = replace(ASKED, inclusion=inclusion, init_inclusion=inclusion if inclusion > 0.5 else 0.01)
    trial = hold_trials(table("regression", rows=160), settings).inputs
    assert trial is not None and (trial.gain, trial.gain_error, trial.rows) == (None, None, 24) and trial.reads is None
    assert (trial.kept, trial.is_empty) == (((0, 1, 2), False) if inclusion > 0.5 else ((), True))
    assert [gates for gates, _, _ in fits] == [True]


def test_a_single_input_is_not_tried() -> None:
    one = table("regression", rows=160)
    train, test = (Split(part.x[:, :1], part.y) for part in (one.train, one.test))
    assert hold_trials(replace(one, train=train, test=test), ASKED).inputs is None


def test_inputs_that_say_nothing_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial keeps the input that matters alone, and predicts held-out rows better with it."""
    settings = Recipe(
        hidden=(10,),
        inclusion=0.1,
        dense=DenseTraining(epochs=150, learning_rate=3e-3),
        epochs=600,
        batch_size=50,
        schedule=Schedule(hold=100, freeze=60, kl_warmup=100),
        select_inputs="auto",
    )
    monkeypatch.setattr(trial_fits, "_MOST_TRANSITIONS", 500)
    trial = hold_trials(noisy(), settings, progress=False).inputs
    assert trial is not None and trial.kept == trial.reads == (0,)


def test_an_input_that_a_fit_drops_wrongly_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_fits, "_MOST_TRANSITIONS", 500)
    keeping(monkeypatch, *[0.25] * 3, *[0.75] * 10)  # the first is the one that matters
    trial = hold_trials(noisy(), replace(ASKED, dense=DenseTraining(epochs=60)), progress=False).inputs
    assert trial is not None and trial.kept == tuple(range(3, 13)) and trial.reads is None
    assert trial.gain is not None and trial.gain < -0.1


@pytest.mark.parametrize(
    ("gain", "expected"), [(0.1, (0, 2)), (0.0, (0, 2)), (-0.01, None), (None, None), (float("nan"), None)]
)
def test_what_is_chosen(gain: float | None, expected: tuple[int, ...] | None) -> None:
    trial = InputTrial(gain, 0.05, 20, (0.75, 0.5, 0.875))
    assert trial.kept == (0, 2) and trial.reads == expected
    assert trial.record()["drops_inputs"] is (expected is not None) and trial.record()["inclusion"] == [
        0.75,
        0.5,
        0.875,
    ]
