"""Predictions of a likelihood as distributions, and their scores."""

from torch import Tensor

from bnn_pyro.evaluation import ClassProbabilities, NormalMixture
from bnn_pyro.evaluation.metrics import (
    class_log_scores,
    classification_metrics,
    normal_log_scores,
    regression_metrics,
)
from bnn_pyro.likelihoods import Classes, Normals


def predictive_distribution(
    predicted: Classes | Normals, *, y_mean: float = 0.0, y_std: float = 1.0
) -> NormalMixture | ClassProbabilities:
    """Return the predictive distribution of a prediction, averaged over its draws, as an object to ask.

    Args:
        predicted: What each draw predicts.
        y_mean: What was taken away from the targets before they were divided; not used for classes.
        y_std: What they were divided by, so that the distribution is in original units; not used for classes.

    Raises:
        ValueError: If ``y_mean`` is not finite, or ``y_std`` not positive and finite.
    """
    if isinstance(predicted, Classes):
        return ClassProbabilities(predicted.draws)
    return NormalMixture(predicted.mean, predicted.sd).scaled(mean=y_mean, std=y_std)


def scores(predicted: Classes | Normals, y: Tensor, *, y_std: float = 1.0) -> dict[str, float]:
    """Return the scores of a prediction.

    Args:
        predicted: The predictive distribution, averaged over its draws.
        y: Observations, shape ``(rows,)``.
        y_std: Standard deviation by which y was divided, so that errors are reported on its original scale.

    Returns:
        Those of `bnn_pyro.evaluation.metrics.classification_metrics` or of
        `bnn_pyro.evaluation.metrics.regression_metrics`.
    """
    if isinstance(predicted, Classes):
        return classification_metrics(predicted.probabilities, y)
    return regression_metrics(predicted.mean, predicted.sd, y, y_std=y_std)


def log_scores(predicted: Classes | Normals, y: Tensor, *, y_std: float = 1.0) -> Tensor:
    """Return the log score of each row of a prediction, whose mean is minus the ``nll`` of `scores`.

    Args:
        predicted: The predictive distribution, averaged over its draws.
        y: Observations, shape ``(rows,)``.
        y_std: Standard deviation by which y was divided, so that scores are on its original scale.

    Returns:
        Shape ``(rows,)``; higher is better.
    """
    if isinstance(predicted, Classes):
        return class_log_scores(predicted.probabilities, y)
    return normal_log_scores(predicted.mean, predicted.sd, y, y_std=y_std)
