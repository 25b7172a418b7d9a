"""Whether inputs are given gates, by rows that neither of two fits has seen."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bnn_pyro.data import Dataset, Split
from bnn_pyro.inference.svi.fit import fit
from bnn_pyro.inference.svi.schedule import Schedule
from bnn_pyro.recipes import Recipe
from bnn_pyro.recipes import input_trial as module
from bnn_pyro.recipes.dense_training import DenseTraining
from bnn_pyro.recipes.input_trial import InputTrial, try_input_gates
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

    monkeypatch.setattr(module, "fit", watched)
    return found


def test_both_fits_take_half_of_the_epochs_and_see_no_held_out_row(fits: list[tuple[bool, int, Tensor]]) -> None:
    dataset, state = table("regression", rows=160), torch.get_rng_state()
    trial = try_input_gates(dataset, replace(ASKED, epochs=6), seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert trial is not None and (trial.rows, trial.inputs) == (24, 3)
    assert [(gates, epochs, len(x)) for gates, epochs, x in fits] == [(False, 3, 96), (True, 3, 96)]
    again = try_input_gates(dataset, replace(ASKED, epochs=6), seed=1)
    assert again == trial


def test_validation_rows_of_the_data_are_scored(fits: list[tuple[bool, int, Tensor]]) -> None:
    dataset = table("classification", rows=160)
    watched = replace(dataset, validation=Split(dataset.test.x[:30], dataset.test.y[:30]))
    trial = try_input_gates(watched, ASKED)
    assert trial is not None and trial.rows == 30
    assert [len(x) for _, _, x in fits] == [120, 120]


def test_few_rows_or_a_single_input_are_not_tried() -> None:
    few = table("regression", rows=120)  # 80 to train on, of which 16 would be scored
    assert try_input_gates(few, ASKED) is None
    one = table("regression", rows=160)
    train, test = (Split(part.x[:, :1], part.y) for part in (one.train, one.test))
    assert try_input_gates(replace(one, train=train, test=test), ASKED) is None


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
    trial = try_input_gates(noisy(), settings, progress=False)
    assert trial is not None and trial.kept == 1 and trial.gain > 0 and trial.select_inputs


@pytest.mark.parametrize(
    ("gain", "kept", "expected"),
    [(0.1, 2, True), (0.0, 2, True), (-0.01, 2, False), (0.1, 0, False), (0.1, 3, False), (float("nan"), 2, False)],
)
def test_what_is_chosen(gain: float, kept: int, expected: bool) -> None:
    """Not gates that close no input, nor gates that leave none or a layer empty."""
    trial = InputTrial(gain, 0.05, 20, kept, 3)
    assert trial.select_inputs is expected
    assert trial.record()["select_inputs"] is expected and trial.record()["inputs"] == 3
