"""Class probabilities of draws: by hand, and by sampling."""

import math

import pytest
import torch
from torch import Tensor

from bnn_pyro.evaluation import ClassProbabilities

DRAWS = torch.tensor([[[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]], [[0.1, 0.5, 0.4], [0.0, 1.0, 0.0]]]).double()


def test_by_hand() -> None:
    of = ClassProbabilities(DRAWS)
    assert (of.draws, of.rows, of.classes) == (2, 2, 3)
    p = torch.tensor([[0.4, 0.35, 0.25], [0.0, 1.0, 0.0]]).double()
    torch.testing.assert_close(of.probs, p)
    torch.testing.assert_close(of.mean, p)
    torch.testing.assert_close(of.std, (p * (1 - p)).sqrt())
    assert of.predicted.tolist() == [0, 1]
    assert float(of.entropy[0]) == pytest.approx(-sum(v * math.log(v) for v in (0.4, 0.35, 0.25)))
    each = [-sum(v * math.log(v) for v in row) for row in ((0.7, 0.2, 0.1), (0.1, 0.5, 0.4))]
    assert float(of.mutual_information[0]) == pytest.approx(float(of.entropy[0]) - sum(each) / 2)
    assert of.entropy[1] == of.mutual_information[1] == 0


def test_log_prob_of_labels() -> None:
    of = ClassProbabilities(DRAWS)
    assert of.log_prob(torch.tensor([2, 1])).tolist() == pytest.approx([math.log(0.25), 0.0])
    found = of.log_prob(torch.tensor([[0, 1], [1, 0]]))
    assert found.shape == (2, 2)
    assert found[1].tolist() == pytest.approx([math.log(0.35), math.log(torch.finfo(torch.float64).tiny)])


def test_prediction_sets_are_the_smallest() -> None:
    of = ClassProbabilities(DRAWS)
    for level, wanted in ((0.39, [True, False, False]), (0.41, [True, True, False]), (0.76, [True, True, True])):
        found = of.prediction_set(level)
        assert found[0].tolist() == wanted and found[1].tolist() == [False, True, False]
    p = (2 * torch.randn(1, 200, 6)).softmax(-1)
    for level in (0.5, 0.9):
        found = ClassProbabilities(p).prediction_set(level)
        held = (p[0] * found).sum(-1)
        least = torch.where(found, p[0], 2.0).amin(-1)
        assert (held >= level).all() and (held - least < level).all()


def test_samples_have_the_probabilities_and_share_draws_over_rows() -> None:
    certain = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    drawn = ClassProbabilities(certain).sample(2000, seed=1)
    assert drawn.dtype == torch.int64 and drawn.shape == (2000, 2)
    assert (drawn.sum(1) == 1).all()  # one draw says 0, 1, the other 1, 0
    assert abs(float(drawn[:, 0].double().mean()) - 0.5) < 0.05
    of = ClassProbabilities(DRAWS)
    found = of.sample(5000, seed=2)[:, 0].bincount(minlength=3) / 5000
    assert (found - of.probs[0]).abs().max() < 0.03
    state = torch.get_rng_state()
    assert torch.equal(of.sample(9, seed=2), of.sample(9, seed=2)) and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        (DRAWS[0], r"draws_probs must have shape \(draws, rows, classes\)"),
        (DRAWS[:, :, :1], "2 classes"),
        (DRAWS[:0], "at least one draw"),
        (-DRAWS, "must not be negative or NaN"),
        (DRAWS * math.nan, "must not be negative or NaN"),
        (2 * DRAWS, "must sum to 1 in each row, got a sum that differs by 1"),
    ],
)
def test_bad_draws(draws: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassProbabilities(draws)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.tensor([1]), r"y must have shape \(\*batch, 2\)"),
        (torch.tensor([0.0, 1.0]), "y must be integers"),
        (torch.tensor([0, 3]), r"y must be in 0 \.\.\. 2, got 0 \.\.\. 3"),
    ],
)
def test_bad_labels(y: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassProbabilities(DRAWS).log_prob(y)


def test_bad_questions() -> None:
    with pytest.raises(ValueError, match="level must be between 0 and 1, got 1"):
        ClassProbabilities(DRAWS).prediction_set(1.0)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        ClassProbabilities(DRAWS).sample(0)
