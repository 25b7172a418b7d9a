"""The step size reaches an acceptance probability, and the slowest chain counts."""

import math

import torch

from bnn_pyro.inference.mcmc.step_size import StepSizeTuning

NONE = torch.zeros(2, dtype=torch.bool)  # of two chains, none diverges


def tuned(tuning: StepSizeTuning, transitions: int) -> float:
    """The average step size where a chain accepts exp(-step size), another one exp(-3 step size)."""
    step = 0.1
    for _ in range(transitions):
        accepted = tuning.observe(torch.tensor([math.exp(-step), math.exp(-3 * step)]), NONE)
        step = tuning.update(float(accepted))
    return tuning.average


def test_reaches_the_harmonic_mean() -> None:
    step = tuned(StepSizeTuning(0.1, 0.8, torch.zeros(2)), 2000)
    assert abs(2 / (math.exp(step) + math.exp(3 * step)) - 0.8) < 0.01


def test_recent_acceptance_is_remembered() -> None:
    tuning = StepSizeTuning(0.1, 0.8, torch.zeros(1))
    assert math.isclose(float(tuning.observe(torch.tensor([0.0]), NONE[:1])), 0.9 * 0.8, rel_tol=1e-6)


def test_a_divergence_counts_ten_rejections() -> None:
    tuning, other = (StepSizeTuning(0.1, 0.8, torch.zeros(16)) for _ in range(2))
    acceptance, diverged = torch.full((16,), 0.8), torch.arange(16) == 3
    difference = float(other.observe(acceptance, ~diverged & False) - tuning.observe(acceptance, diverged))
    assert math.isclose(difference, 10 / 16, rel_tol=1e-5)
    assert float(tuning.observe(acceptance, diverged | True)) == 0


def test_goes_on_from_a_state() -> None:
    one, two = (StepSizeTuning(start, 0.8, torch.zeros(2)) for start in (0.1, 0.3))
    tuned(one, 7)
    two.load_state_dict(one.state_dict())
    assert tuned(one, 5) == tuned(two, 5)
