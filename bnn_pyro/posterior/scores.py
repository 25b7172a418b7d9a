"""Predictions of a likelihood as distributions, and their scores."""

from pyro.distributions import Normal
from torch import Tensor

from bnn_pyro.evaluation import ClassProbabilities, NormalMixture
from bnn_pyro.evaluation.metrics import (
    class_log_scores,
    classification_metrics,
    normal_log_scores,
    regression_metrics,
)
from bnn_pyro.likelihoods import Classes, Mixture, Normals, Prediction
from bnn_pyro.likelihoods.target_metrics import real_metrics


def average(predicted: Prediction) -> Tensor:
    """Return what is predicted on average over the draws: class probabilities, or expected targets.

    Args:
        predicted: What each draw predicts.
    """
    if isinstance(predicted, Classes):
        return predicted.probabilities
    return predicted.mean.mean(0) if isinstance(predicted, Normals) else predicted.mean


def predictive_distribution(
    predicted: Prediction, *, y_mean: float = 0.0, y_std: float = 1.0
) -> NormalMixture | ClassProbabilities | Mixture:
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
    if isinstance(predicted, Normals) and predicted.mean.dim() == 2:
        return NormalMixture(predicted.mean, predicted.sd).scaled(mean=y_mean, std=y_std)
    return _mixture(predicted).scaled(mean=y_mean, std=y_std)


def scores(predicted: Prediction, y: Tensor, *, y_std: float = 1.0, weight: Tensor | None = None) -> dict[str, float]:
    """Return the scores of a prediction.

    Args:
        predicted: The predictive distribution, averaged over its draws.
        y: Observations, shape ``(rows, ...)``.
        y_std: Standard deviation by which y was divided, so that errors are reported on its original scale.
        weight: How many rows each row counts for, shape ``(rows,)``, by which every mean is weighted; None for 1.

    Returns:
        Those of `bnn_pyro.evaluation.metrics.classification_metrics` or of
        `bnn_pyro.evaluation.metrics.regression_metrics`; of other targets those that their likelihood brings.
    """
    if isinstance(predicted, Classes):
        return classification_metrics(predicted.probabilities, y, weight=weight)
    if isinstance(predicted, Normals) and predicted.mean.dim() == 2:
        return regression_metrics(predicted.mean, predicted.sd, y, y_std=y_std, weight=weight)
    scaled = _mixture(predicted).scaled(std=y_std)
    return scaled.scores(y * y_std if scaled.is_real else y, weight=weight)


def log_scores(predicted: Prediction, y: Tensor, *, y_std: float = 1.0) -> Tensor:
    """Return the log score of each row of a prediction, whose mean is minus the ``nll`` of `scores`.

    Args:
        predicted: The predictive distribution, averaged over its draws.
        y: Observations, shape ``(rows, ...)``.
        y_std: Standard deviation by which y was divided, so that scores are on its original scale.

    Returns:
        Shape ``(rows,)``; higher is better.
    """
    if isinstance(predicted, Classes):
        return class_log_scores(predicted.probabilities, y)
    if isinstance(predicted, Normals) and predicted.mean.dim() == 2:
        return normal_log_scores(predicted.mean, predicted.sd, y, y_std=y_std)
    scaled = _mixture(predicted).scaled(std=y_std)
    return scaled.log_prob(y * y_std if scaled.is_real else y)


def _mixture(predicted: Normals | Mixture) -> Mixture:
    """Return a prediction as a mixture, also where a likelihood predicts normals of several targets per row."""
    if isinstance(predicted, Mixture):
        return predicted
    normals = Normal(predicted.mean, predicted.sd, validate_args=False).to_event(predicted.mean.dim() - 2)
    return Mixture(normals, real_metrics, is_real=True)


def of_one_form(predicted: Prediction) -> Prediction:
    """Return a prediction as classes, as normals of one target per row, or else as a mixture.

    Args:
        predicted: What each draw predicts.
    """
    return _mixture(predicted) if isinstance(predicted, Normals) and predicted.mean.dim() != 2 else predicted


def draws_in(predicted: Prediction) -> int:
    """Return how many draws a prediction has.

    Args:
        predicted: What each of them predicts.
    """
    if isinstance(predicted, Mixture):
        return int(predicted.draws.batch_shape[0])
    return len(predicted.draws if isinstance(predicted, Classes) else predicted.mean)


def known(predicted: Prediction) -> Classes | Normals:
    """Return a prediction as what comparisons and tables know, classes or normals of one target per row.

    Args:
        predicted: What each draw predicts.

    Raises:
        ValueError: If it is another.
    """
    if isinstance(predicted, Mixture) or (isinstance(predicted, Normals) and predicted.mean.dim() != 2):
        raise ValueError(
            f"likelihood must predict Classes, or Normals of one target per row, got {type(predicted).__name__}: "
            "comparisons and tables know these alone, predict, evaluate and reports take any"
        )
    return predicted
