"""Whether inputs are given gates, by rows that neither of two fits has seen."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bnn_pyro.data import Dataset, Split
from bnn_pyro.inference.svi.fit import fit
from bnn_pyro.inference.svi.schedule import Schedule
from bnn_pyro.recipes import Recipe, trial_fits
from bnn_pyro.recipes import input_trial as module
from bnn_pyro.recipes.dense_training import DenseTraining
from bnn_pyro.recipes.input_trial import InputTrial
from bnn_pyro.recipes.trials import hold_trials
from tests.recipes.test_runs import QUICK, table

ASKED = replace(QUICK, select_inputs="auto")


def noisy(rows: int = 140, noise_inputs: int = 12) -> Dataset:
    """Return a table of which one input matters, and many say nothing."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(rows, 1 + noise_inputs, generator=generator)
    y = 1.4 * x[:, 0] + 0.2 * torch.randn(rows, generator=generator)
    return Dataset("made.csv", "regression", Split(x[:-40], y[:-40]), None, Split(x[-40:], y[-40:]), None)


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


def test_both_fits_take_two_fifths_of_the_epochs_and_see_no_held_out_row(
    monkeypatch: pytest.MonkeyPatch, fits: list[tuple[bool, int, Tensor]]
) -> None:
    monkeypatch.setattr(module, "_inputs_kept", lambda posterior: 2)
    dataset, state = table("regression", rows=160), torch.get_rng_state()
    trial = hold_trials(dataset, replace(ASKED, epochs=5), seed=1).inputs
    assert torch.equal(torch.get_rng_state(), state)
    assert trial is not None and (trial.rows, trial.kept, trial.inputs) == (24, 2, 3) and trial.gain is not None
    assert [(gates, epochs, len(x)) for gates, epochs, x in fits] == [(True, 2, 96), (False, 2, 96)]
    again = hold_trials(dataset, replace(ASKED, epochs=5), seed=1).inputs
    assert again == trial


def test_validation_rows_of_the_data_are_scored(fits: list[tuple[bool, int, Tensor]]) -> None:
    dataset = table("classification", rows=160)
    watched = replace(dataset, validation=Split(dataset.test.x[:30], dataset.test.y[:30]))
    trial = hold_trials(watched, ASKED).inputs
    assert trial is not None and trial.rows == 30
    assert {len(x) for _, _, x in fits} == {120}


@pytest.mark.parametrize("inclusion", [0.999, 1e-12])
def test_nothing_is_compared_where_gates_keep_all_inputs_or_leave_a_layer_empty(
    fits: list[tuple[bool, int, Tensor]], inclusion: float
) -> None:
    settings = replace(ASKED, inclusion=inclusion, init_inclusion=inclusion if inclusion > 0.5 else 0.01)
    trial = hold_trials(table("regression", rows=160), settings).inputs
    assert trial == InputTrial(None, None, 24, 3 if inclusion > 0.5 else 0, 3) and not trial.select_inputs
    assert [gates for gates, _, _ in fits] == [True]


def test_a_single_input_is_not_tried() -> None:
    one = table("regression", rows=160)
    train, test = (Split(part.x[:, :1], part.y) for part in (one.train, one.test))
    assert hold_trials(replace(one, train=train, test=test), ASKED).inputs is None


def test_gates_are_chosen_where_inputs_say_nothing() -> None:
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
    trial = hold_trials(noisy(), settings, progress=False).inputs
    assert trial is not None and trial.kept == 1 and trial.select_inputs


@pytest.mark.parametrize(
    ("gain", "expected"), [(0.1, True), (0.0, True), (-0.01, False), (None, False), (float("nan"), False)]
)
def test_what_is_chosen(gain: float | None, expected: bool) -> None:
    trial = InputTrial(gain, 0.05, 20, 2, 3)
    assert trial.select_inputs is expected
    assert trial.record()["select_inputs"] is expected and trial.record()["inputs"] == 3
