"""The step size reaches an acceptance probability, and the slowest chain counts."""

import math

import torch

from bnn_pyro.inference.mcmc.step_size import StepSizeTuning


def tuned(tuning: StepSizeTuning, transitions: int) -> float:
    """The average step size where a chain accepts exp(-step size), another one exp(-3 step size)."""
    step = 0.1
    for _ in range(transitions):
        accepted = tuning.observe(torch.tensor([math.exp(-step), math.exp(-3 * step)]))
        step = tuning.update(float(accepted))
    return tuning.average


def test_reaches_the_harmonic_mean() -> None:
    step = tuned(StepSizeTuning(0.1, 0.8, torch.zeros(2)), 2000)
    assert abs(2 / (math.exp(step) + math.exp(3 * step)) - 0.8) < 0.01


def test_recent_acceptance_is_remembered() -> None:
    tuning = StepSizeTuning(0.1, 0.8, torch.zeros(1))
    assert math.isclose(float(tuning.observe(torch.tensor([0.0]))), 0.9 * 0.8, rel_tol=1e-6)


def test_goes_on_from_a_state() -> None:
    one, two = (StepSizeTuning(start, 0.8, torch.zeros(2)) for start in (0.1, 0.3))
    tuned(one, 7)
    two.load_state_dict(one.state_dict())
    assert tuned(one, 5) == tuned(two, 5)
