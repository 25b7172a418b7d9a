"""RowWeights: observations that count for more or for less than one, beside their targets."""

import math
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from bnn_pyro.arguments import check_methods
from bnn_pyro.likelihoods.base import Likelihood, Prediction
from bnn_pyro.likelihoods.categorical import Categorical
from bnn_pyro.likelihoods.class_map import ClassMap


def with_weights(y: Tensor, weight: Tensor) -> Tensor:
    """Return targets with a weight per row, as `RowWeights` takes them.

    Args:
        y: Targets, shape ``(rows, *shape)``.
        weight: Weights, shape ``(rows,)``: how many observations a row counts for.

    Returns:
        Floating-point numbers, the targets of a row and then its weight, shape ``(rows, numbers + 1)``.

    Raises:
        ValueError: If there is not one weight per row, or a weight is negative or not finite.
    """
    for name, value in {"y": y, "weight": weight}.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if weight.shape != y.shape[:1]:
        raise ValueError(f"weight must have shape {tuple(y.shape[:1])}, one for each row, got {tuple(weight.shape)}")
    if not bool((weight.isfinite() & (weight >= 0)).all()):
        raise ValueError("weight must be at least 0 and finite in every row")
    dtype = y.dtype if y.is_floating_point() else weight.dtype if weight.is_floating_point() else torch.float32
    return torch.cat([y.reshape(len(y), -1).to(dtype), weight.unsqueeze(1).to(dtype)], 1)


@dataclass(frozen=True)
class RowWeights:
    r"""Observations with weights, of any likelihood: :math:`\log p(y_i \mid x_i) = v_i \log p_0(y_i \mid x_i)`.

    A row of weight 2 counts like two rows, one of weight 0 like none. ``fit``, ``sample``, ``fit_sghmc`` and
    ``train_dense`` take data (x, y, weight), or targets with their weights of `with_weights`. This is a weighted
    log-likelihood, whose posterior is the general one of Bissiri, Holmes and Walker (2016). Predictions are those of
    the likelihood itself; scores of targets with weights, as of validation rows, are weighted means.

    Args:
        base: The likelihood of one observation.
        shape: Shape of the targets of one row; ``()`` for one number or label.

    Raises:
        ValueError: If ``base`` is no likelihood.
    """

    base: Likelihood
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check the likelihood."""
        check_methods("base", self.base, "prior", "distribution", "check", "predict")

    def targets(self, y: Tensor) -> Tensor:
        """Return targets without their weights.

        Args:
            y: Targets, with weights or without.
        """
        if not self._has_weights(y):
            return y
        plain = y[..., :-1].reshape(*y.shape[:-1], *self.shape)
        return plain.long() if isinstance(self.base, Categorical | ClassMap) else plain

    def weights(self, y: Tensor) -> Tensor | None:
        """Return the weights of the rows that targets hold, shape ``(rows,)``; None where they hold none.

        Args:
            y: Targets, with weights or without.
        """
        return y[..., -1] if self._has_weights(y) else None

    def _has_weights(self, y: Tensor) -> bool:
        numbers = math.prod(self.shape) + 1
        last = tuple(y.shape[y.dim() - len(self.shape) :]) if self.shape else ()
        return y.dim() > 1 and y.shape[-1] == numbers and (not self.shape or last != self.shape)

    def prior(self, *, like: Tensor | None = None) -> Tensor | None:
        """Sample what the likelihood itself samples.

        Args:
            like: Floating-point tensor whose dtype and device the latent gets; torch's defaults if None.
        """
        return self.base.prior(like=like)

    def distribution(self, output: Tensor, latent: Tensor | None = None) -> TorchDistribution:
        """Return the distribution of targets with weights.

        Args:
            output: The network's output.
            latent: What `prior` returned.
        """
        return _WeightedRows(self, self.base.distribution(output, latent))

    def check(self, output: Tensor, y: Tensor | None = None) -> None:
        """Check an output, and its targets with weights or without.

        Args:
            output: The network's output.
            y: Targets.

        Raises:
            ValueError: If the likelihood refuses them, or a weight is negative or not finite.
        """
        self.base.check(output, None if y is None else self.targets(y))
        if y is not None and self._has_weights(y):
            with_weights(y[:, 0], y[:, -1])

    def predict(self, output: Tensor, latent: Tensor | None = None) -> Prediction:
        """Return what the likelihood itself predicts.

        Args:
            output: The network's outputs, ``(draws, rows, ...)``.
            latent: The draws of its latent.
        """
        return self.base.predict(output, latent)


class _WeightedRows(TorchDistribution):
    """Rows of targets and a weight, or of targets alone, whose weight is 1."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own form)

    def __init__(self, likelihood: RowWeights, base: TorchDistribution) -> None:
        self.likelihood, self.base = likelihood, base
        numbers = math.prod(likelihood.shape) + 1
        super().__init__(base.batch_shape, torch.Size([numbers]), validate_args=False)

    @property
    def support(self) -> Any:
        """Real numbers."""
        return dist.constraints.real_vector

    def expand(self, batch_shape: Any, _instance: object = None) -> "_WeightedRows":
        """Return the same distribution over a larger batch."""
        return _WeightedRows(self.likelihood, self.base.expand(torch.Size(batch_shape)))

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008  (torch's own form)
        """Return draws of weight 1."""
        drawn = self.base.sample(sample_shape)
        flat = drawn.reshape(*sample_shape, *self.batch_shape, -1)
        flat = flat if flat.is_floating_point() else flat.to(torch.get_default_dtype())
        return torch.cat([flat, torch.ones_like(flat[..., :1])], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the weighted log-densities, of batch shape."""
        density: Tensor = self.base.log_prob(self.likelihood.targets(value))
        return density * value[..., -1] if self.likelihood._has_weights(value) else density
