"""What a recipe leaves to held-out rows is decided before the run, by fits that are made once."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from bnn_pyro.data import Dataset, Split
from bnn_pyro.inference.svi.fit import fit
from bnn_pyro.inference.svi.schedule import Schedule
from bnn_pyro.likelihoods import MeanDependentNoise
from bnn_pyro.priors import Gaussian
from bnn_pyro.recipes import Recipe, trial_fits
from bnn_pyro.recipes.defaults import sampled_slab
from bnn_pyro.recipes.dense_training import DenseTraining
from bnn_pyro.recipes.input_trial import InputTrial
from bnn_pyro.recipes.noise_trial import NoiseTrial
from bnn_pyro.recipes.trials import Trials, hold_trials
from bnn_pyro.refinement import Refinement
from tests.recipes.test_runs import QUICK, table

OPEN = replace(QUICK, select_inputs="auto", noise="auto", refinement=Refinement())


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The fits that are made: whether inputs have gates."""
    found: list[bool] = []

    def watched(model: Any, data: Any, **options: Any) -> Any:
        found.append(any(not group.writers for group in model.groups.values()))
        return fit(model, data, **options)

    monkeypatch.setattr(trial_fits, "fit", watched)
    return found


def test_both_questions_share_their_fits(fits: list[bool]) -> None:
    state = torch.get_rng_state()
    both = hold_trials(table("regression", rows=160), OPEN, seed=1, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert both.inputs is not None and both.noise is not None and both.noise.rows == 24
    assert fits[0] and fits in ([True], [True, False])
    asked = len(fits)
    inputs = hold_trials(table("regression", rows=160), replace(OPEN, noise="constant"), seed=1, progress=False)
    assert inputs == Trials(inputs=both.inputs) and len(fits) <= 2 * asked


@pytest.mark.parametrize("gates", [False, True])
def test_the_noise_alone_needs_one_fit(fits: list[bool], gates: bool) -> None:
    found = hold_trials(table("regression", rows=160), replace(OPEN, select_inputs=gates), progress=False)
    assert fits == [gates] and found.inputs is None and found.noise is not None


def test_nothing_is_fitted_where_nothing_is_open_or_rows_are_few(fits: list[bool]) -> None:
    many, few = table("regression", rows=160), table("regression", rows=120)  # of 80 rows 16 would be scored
    assert hold_trials(many, QUICK) == hold_trials(few, OPEN) == Trials()
    assert hold_trials(many, replace(OPEN, select_inputs=False, refinement=None)) == Trials()  # nothing is sampled
    classes = replace(OPEN, select_inputs=False)
    assert hold_trials(table("classification", rows=160), classes) == Trials() and not fits


def test_what_was_not_asked_is_decided_too() -> None:
    some, follows = InputTrial(0.1, 0.05, 20, (0.25, 0.75, 0.875)), NoiseTrial(0.3, 0.1, 20)
    for trials, expected in (
        (Trials(), (None, None)),
        (Trials(inputs=some), ((1, 2), None)),
        (Trials(inputs=replace(some, gain=-0.1)), (None, None)),
        (Trials(noise=NoiseTrial(0.2, 0.15, 20)), (None, None)),
        (Trials(noise=follows), (None, MeanDependentNoise())),
        (Trials(some, follows), ((1, 2), MeanDependentNoise())),
    ):
        decided = trials.decide(OPEN)
        assert decided.refinement is not None and decided.noise == "constant" and decided.select_inputs is False
        assert (decided.reads, decided.refinement.likelihood) == expected
    asked = replace(QUICK, select_inputs=True, noise="input")
    assert Trials().decide(asked) == asked


@pytest.mark.parametrize(("slab", "expected"), [(sampled_slab(3), sampled_slab(1)), (Gaussian(0.3), Gaussian(0.3))])
def test_the_usual_slab_follows_the_inputs_that_are_left(slab: Gaussian, expected: Gaussian) -> None:
    one = Trials(inputs=InputTrial(0.1, 0.05, 20, (0.25, 0.75, 0.125)))
    decided = one.decide(replace(OPEN, refinement=Refinement(slab=slab)))
    assert decided.reads == (1,) and decided.refinement is not None and decided.refinement.slab == expected


def test_a_noise_that_grows_is_seen() -> None:
    """The noise of a target grows with its mean; the same target with a constant noise is not taken for one."""
    generator = torch.Generator().manual_seed(3)
    x, noise = torch.rand(400, 2, generator=generator) * 3 - 1.5, torch.randn(400, generator=generator)
    settings = Recipe(
        hidden=(10,),
        inclusion=0.1,
        dense=DenseTraining(epochs=120, learning_rate=3e-3),
        epochs=240,
        schedule=Schedule(hold=40, freeze=20, kl_warmup=40),
        noise="auto",
        refinement=Refinement(),
    )
    for varies in (True, False):
        y = x[:, 0] + 0.2 * noise * (x[:, 0].exp() if varies else 1)
        rows = Split(x, (y - y.mean()) / y.std())
        found = hold_trials(Dataset("made.csv", "regression", rows, None, rows, None), settings, progress=False)
        assert found.noise is not None and (found.noise.noise == "mean") is varies
