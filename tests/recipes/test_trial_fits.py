"""Shorter fits of a recipe on some of the training rows: each is made once, from the same dense network."""

from dataclasses import replace

import pytest
import torch

from bnn_pyro.data import Split
from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.recipes.trial_fits import TrialFits, has_trial_rows
from tests.recipes.test_runs import QUICK, table


def test_a_fit_is_made_once_and_its_predictions_too() -> None:
    fits = TrialFits(table("regression", rows=160), replace(QUICK, noise="auto"), seed=1, progress=False)
    first = fits.posterior(input_gates=False)
    assert isinstance(first.model.likelihood, GaussianNoise)
    assert fits.posterior(input_gates=False) is first and fits.posterior(input_gates=True) is not first
    assert fits.predicted(input_gates=False) is fits.predicted(input_gates=False)
    assert ("inputs" in fits.posterior(input_gates=True).keep()) and "inputs" not in first.keep()


def test_rows_are_held_out_once() -> None:
    dataset = table("regression", rows=160)
    fits = TrialFits(dataset, QUICK, progress=False)
    (kept, _), (scored, y) = fits.train, fits.held_out
    assert (len(kept), len(scored), len(y), fits.inputs) == (96, 24, 24, 3)
    both = torch.cat([kept, scored])
    assert torch.equal(both.sort(0).values, dataset.train.x.sort(0).values)


@pytest.mark.parametrize(("rows", "validation", "expected"), [(140, None, True), (135, None, False), (120, 20, True)])
def test_how_many_rows_are_enough(rows: int, validation: int | None, expected: bool) -> None:
    dataset = table("regression", rows=rows)  # 40 of them for tests
    if validation is not None:
        dataset = replace(dataset, validation=Split(dataset.test.x[:validation], dataset.test.y[:validation]))
    assert has_trial_rows(dataset) is expected
