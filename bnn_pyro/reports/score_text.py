"""Scores as text: their names, how many digits they have, and which of them comes first."""

from collections.abc import Mapping
from typing import cast

SCORES = {
    "accuracy": "accuracy",
    "rmse": "RMSE",
    "nll": "NLL",
    "crps": "CRPS",
    "ece": "ECE",
    "brier": "Brier",
    "mae": "MAE",
    "deviance": "Poisson deviance",
    "iou": "mean IoU",
    "coverage95": "95 % interval covers",
}
"""What scores are called, by their names in ``metrics.json``."""

INTERVAL = {"coverage90": "90 % interval covers", "width90": "its mean width"}
"""Likewise, of the interval that a summary shows."""

_IN_PERCENT = ("accuracy", "coverage95", "coverage90")
_IN_UNITS = ("rmse", "mae", "crps", "width90")  # of the target


def main_score(metrics: Mapping[str, object]) -> str:
    """Return the name of the score that comes first: accuracy, root mean square error, or else the log score.

    Args:
        metrics: The numbers of ``metrics.json``.
    """
    return next((name for name in ("accuracy", "rmse") if f"test_{name}" in metrics), "nll")


def is_classification(metrics: Mapping[str, object]) -> bool:
    """Return whether a run's targets are classes.

    Args:
        metrics: The numbers of ``metrics.json``.
    """
    return "test_accuracy" in metrics


def score_text(metrics: Mapping[str, object], prefix: str, name: str) -> str:
    """Return a score as text.

    Args:
        metrics: The numbers of ``metrics.json``.
        prefix: Whose score it is, such as ``"pruned_test_"``.
        name: One of `SCORES` or `INTERVAL`.
    """
    value = cast(float, metrics[f"{prefix}{name}"])
    if name in _IN_PERCENT:
        return percent(value, 2)
    return f"{value:.4g}" if name in _IN_UNITS else f"{value:.4f}"


def percent(fraction: float, digits: int = 1) -> str:
    """Return a fraction in percent.

    Args:
        fraction: The fraction.
        digits: Digits after the point.
    """
    return f"{100 * fraction:.{digits}f} %"
