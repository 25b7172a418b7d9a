"""DenseTraining: how the dense network is trained that a posterior starts from, and the noise of its errors."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bnn_pyro.arguments import check_reals, check_wholes
from bnn_pyro.evaluation.noise_line import noise_line
from bnn_pyro.likelihoods import GaussianNoise, Likelihood, MeanDependentNoise, RowWeights
from bnn_pyro.likelihoods.base import targets_alone, weights_of
from bnn_pyro.weighted_means import weighted_mean

_LEAST_NOISE = 1e-6


@dataclass(frozen=True, kw_only=True)
class DenseTraining:
    """How a dense network is trained, by :func:`~bnn_pyro.inference.training.dense.train_dense`.

    Args:
        epochs: Passes over the data.
        batch_size: Rows per step.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        validation: Fraction of the rows that are held out, so that the weights are those of the epoch that predicts
            these rows best; None takes the last epoch's.

    Raises:
        ValueError: If there is no epoch, or no row in a batch, or the fraction is not in (0, 1).
    """

    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    validation: float | None = None

    def __post_init__(self) -> None:
        check_wholes({f"dense.{name}": getattr(self, name) for name in ("epochs", "batch_size")})
        rates = {f"dense.{name}": getattr(self, name) for name in ("learning_rate", "weight_decay")}
        check_reals(rates, optional={"dense.validation": self.validation})
        for name, rate in rates.items():
            if not 0 <= rate < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {rate}")
        if self.validation is not None and not 0 < self.validation < 1:
            raise ValueError(f"dense.validation must be in (0, 1) or None, got {self.validation}")


def training_noise(dense: nn.Module, train: tuple[Tensor, Tensor], likelihood: Likelihood) -> Tensor | None:
    """Return a likelihood's noise for a network, by maximum likelihood from its errors on the training rows.

    Args:
        dense: The network.
        train: (x, y), the training rows; weights beside the targets count for the errors' standard deviation alone.
        likelihood: What its output means.

    Returns:
        The standard deviation of the errors, shape ``()``; of `MeanDependentNoise` its two scales, shape ``(2,)``; not
        below 1e-6. None of likelihoods that learn no normal noise for one output.
    """
    weight = weights_of(likelihood, train[1])
    y = targets_alone(likelihood, train[1])
    likelihood = likelihood.base if isinstance(likelihood, RowWeights) else likelihood
    if not isinstance(likelihood, GaussianNoise | MeanDependentNoise):
        return None
    with torch.no_grad():
        mean: Tensor = dense(train[0]).squeeze(-1)
    errors = mean - y
    if weight is not None and isinstance(likelihood, GaussianNoise):
        return errors.new_tensor(math.sqrt(weighted_mean(errors.square(), weight))).clamp(min=_LEAST_NOISE)
    if isinstance(likelihood, GaussianNoise) or not (errors != 0).any():
        scale = errors.square().mean().sqrt().clamp(min=_LEAST_NOISE)
        return scale if isinstance(likelihood, GaussianNoise) else scale.expand(2)
    intercept, slope = noise_line(likelihood.position(mean), errors)
    return torch.stack([intercept - slope, intercept + slope]).exp().clamp(min=_LEAST_NOISE).to(mean)
