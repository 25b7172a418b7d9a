"""Whether the noise of a regression follows its prediction: what errors on held-out rows say of their own size."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from bnn_pyro.evaluation.metrics import paired_difference
from bnn_pyro.evaluation.noise_line import log_density, noise_line

_FOLDS = 5
_ERRORS = 2  # standard errors that a noise has to gain; at one yacht's follows, whose means then get worse


@dataclass(frozen=True)
class NoiseTrial:
    """What errors on held-out rows said of a noise that follows the prediction.

    Attributes:
        gain: Mean log density per held-out row that a noise which follows the prediction adds to a constant one.
        gain_error: Its standard error.
        rows: Number of held-out rows.
    """

    gain: float
    gain_error: float
    rows: int

    @property
    def noise(self) -> Literal["constant", "mean"]:
        """The noise: one that follows the prediction where that gains more than two standard errors."""
        return "mean" if self.gain > _ERRORS * self.gain_error else "constant"

    def record(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "noise": self.noise}


def try_noise(mean: Tensor, y: Tensor, *, weight: Tensor | None = None) -> NoiseTrial:
    r"""Compare a noise that follows the prediction with a constant one, by the errors of held-out rows.

    Errors :math:`r = y - m` are modelled as :math:`N(0, \exp(a + b z)^2)` with :math:`z` the standardised prediction
    :math:`m` (`bnn_pyro.evaluation.noise_line`), and as :math:`N(0, s^2)`. Both are fitted to four fifths of the rows
    and scored on the last fifth, in turn.

    The fit of a network that predicts its noise is no such judge: variational inference makes that network fit worse
    at first, also where its posterior, sampled, predicts far better.

    Args:
        mean: Predicted means, shape ``(rows,)``.
        y: Targets, shape ``(rows,)``, of at least 10 rows.
        weight: How many rows each row counts for in the gain, shape ``(rows,)``; None for 1. Both noises are fitted to
            the errors without weights.

    Returns:
        The trial; with predictions that are all alike, or errors that are all zero, it gains nothing.

    Raises:
        ValueError: If the shapes differ, or there are fewer than 10 rows.
    """
    if mean.ndim != 1 or mean.shape != y.shape or len(y) < 2 * _FOLDS:
        raise ValueError(
            f"mean and y must have one shape (rows,) with at least {2 * _FOLDS} rows, "
            f"got {tuple(mean.shape)} and {tuple(y.shape)}"
        )
    mean, y = (values.detach().cpu().double() for values in (mean, y))
    spread, errors = mean.std(), y - mean
    fold = torch.arange(len(y)) % _FOLDS
    if not spread > 0 or not all((errors[fold != number] != 0).any() for number in range(_FOLDS)):
        return NoiseTrial(0.0, 0.0, len(y))
    z, errors = (mean - mean.mean()) / spread, errors / errors.square().mean().sqrt()
    following, constant = torch.empty_like(z), torch.empty_like(z)
    for number in range(_FOLDS):
        rest, here = fold != number, fold == number
        intercept, slope = noise_line(z[rest], errors[rest])
        following[here] = log_density(errors[here], intercept + slope * z[here])
        constant[here] = log_density(errors[here], errors[rest].square().mean().sqrt().log())
    return NoiseTrial(*paired_difference(following, constant, weight=weight), len(y))
