"""Predictions as distributions, and their scores."""

import pytest
import torch

from bnn_pyro.evaluation import ClassProbabilities, NormalMixture
from bnn_pyro.evaluation.metrics import classification_metrics, regression_metrics
from bnn_pyro.likelihoods import Classes, Normals
from bnn_pyro.posterior.scores import average, known, log_scores, predictive_distribution, scores

DRAWS, LABELS = torch.rand(2, 5, 3).softmax(-1), torch.randint(3, (5,))
CLASSES = Classes(DRAWS.mean(0), DRAWS)
NORMALS, TARGETS = Normals(torch.randn(2, 5), torch.rand(2, 5) + 0.1), torch.randn(5)


def test_scores_are_those_of_the_metrics() -> None:
    assert scores(CLASSES, LABELS) == classification_metrics(CLASSES.probabilities, LABELS)
    assert scores(NORMALS, TARGETS, y_std=2.0) == regression_metrics(*NORMALS, TARGETS, y_std=2.0)


def test_weights_are_those_of_the_metrics() -> None:
    weight = torch.arange(5)
    assert scores(CLASSES, LABELS, weight=weight) == classification_metrics(*CLASSES[:1], LABELS, weight=weight)
    assert scores(NORMALS, TARGETS, weight=weight) == regression_metrics(*NORMALS, TARGETS, weight=weight)
    assert scores(CLASSES, LABELS, weight=weight) != scores(CLASSES, LABELS)


def test_distributions_have_the_log_scores() -> None:
    classes = predictive_distribution(CLASSES, y_mean=3.0, y_std=2.0)
    assert isinstance(classes, ClassProbabilities)
    torch.testing.assert_close(classes.log_prob(LABELS), log_scores(CLASSES, LABELS))
    normals = predictive_distribution(NORMALS, y_mean=3.0, y_std=2.0)
    assert isinstance(normals, NormalMixture)
    wanted = log_scores(NORMALS, TARGETS, y_std=2.0).double()
    torch.testing.assert_close(normals.log_prob(3 + 2 * TARGETS), wanted, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="std must be positive and finite, got 0"):
        predictive_distribution(NORMALS, y_std=0.0)


def test_normals_of_several_targets_are_scored_as_one_observation_per_row() -> None:
    mean, y = NORMALS.mean.unsqueeze(-1).repeat(1, 1, 2), TARGETS.unsqueeze(-1).repeat(1, 2)
    several = Normals(mean, NORMALS.sd.unsqueeze(-1).repeat(1, 1, 2))
    each = torch.distributions.Normal(*several).log_prob(y).sum(-1)
    wanted = each.logsumexp(0) - torch.tensor(float(len(mean))).log()
    torch.testing.assert_close(log_scores(several, y), wanted.to(each.dtype))
    assert scores(several, y, y_std=2.0)["rmse"] == pytest.approx(scores(NORMALS, TARGETS, y_std=2.0)["rmse"])
    assert average(several).shape == y.shape
    with pytest.raises(ValueError, match="or Normals of one target per row, got Normals"):
        known(several)
    assert known(NORMALS) is NORMALS and torch.equal(average(CLASSES), CLASSES.probabilities)
