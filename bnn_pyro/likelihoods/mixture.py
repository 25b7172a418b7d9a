"""Mixture: what a likelihood without a form of its own predicts, one distribution per draw of the posterior."""

import inspect
import math
from collections.abc import Callable

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from bnn_pyro.devices import with_double
from bnn_pyro.weighted_means import checked_weight, weighted_mean

Metrics = Callable[..., dict[str, float]]
"""Scores of expected targets, ``(rows, *targets)``, against the targets, and with weights of the rows as a third."""

_SAMPLES = 2_000  # per row, that quantiles are taken of
_SEED = 0


class Mixture:
    r"""The predictive distribution of targets of any kind and shape, an average over the draws s of a posterior.

    .. math::
        p(y_n \mid x_n) = \frac{1}{S} \sum_s p(y_n \mid f(x_n; w_s), \lambda_s)

    Args:
        draws: The distribution of each draw, of batch shape ``(draws, rows)``.
        metrics: Scores beside the negative log-likelihood, a function of expected targets and targets, and of weights
            where rows have such; None for none.
        expected: What each draw expects, such as probabilities, shape ``(draws, rows, ...)``; None for its mean.
        is_real: Whether targets are real numbers with a unit, in which errors and densities can be reported.
        scale: Factor from the targets that the model saw to the unit of reports, and
        shift: what is added then.

    Raises:
        ValueError: If the batch shape is another, or ``scale`` is not positive and finite.
    """

    def __init__(
        self,
        draws: TorchDistribution,
        metrics: Metrics | None = None,
        *,
        expected: Tensor | None = None,
        is_real: bool = False,
        scale: float = 1.0,
        shift: float = 0.0,
    ) -> None:
        if len(draws.batch_shape) != 2 or 0 in draws.batch_shape:
            raise ValueError(f"draws must have batch shape (draws, rows), got {tuple(draws.batch_shape)}")
        if not (math.isfinite(scale) and scale > 0 and math.isfinite(shift)):
            raise ValueError(f"scale must be positive and finite, and shift finite, got {scale} and {shift}")
        self.draws, self.metrics, self.is_real, self.scale, self.shift = draws, metrics, is_real, scale, shift
        self.expected = draws.mean if expected is None else expected

    def scaled(self, *, mean: float = 0.0, std: float = 1.0) -> "Mixture":
        """Return the distribution of real targets in original units; others have none and stay as they are.

        Args:
            mean: What was taken away from the targets before they were divided.
            std: What they were divided by.

        Raises:
            ValueError: If ``std`` is not positive and finite, or ``mean`` is not finite.
        """
        if not self.is_real:
            return self
        own = {"expected": self.expected, "is_real": True}
        return Mixture(self.draws, self.metrics, **own, scale=std, shift=mean)  # type: ignore[arg-type]

    @property
    def mean(self) -> Tensor:
        """Expected targets, or probabilities, averaged over the draws: shape ``(rows, ...)``."""
        return self.expected.mean(0) * self.scale + self.shift

    @property
    def std(self) -> Tensor:
        """Standard deviation of the targets, ``(rows, ...)``: of the draws' noise, and of their means."""
        variance = self.draws.variance.mean(0) + self.draws.mean.var(0, correction=0)
        return variance.sqrt() * self.scale

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation, each ``(rows, ...)``."""
        return self.mean, self.std

    def log_prob(self, y: Tensor) -> Tensor:
        """Return the log predictive density, or probability, of each row, shape ``(rows,)``.

        Args:
            y: Targets, shape ``(rows, ...)``.
        """
        draws: Tensor = self.draws.log_prob((y - self.shift) / self.scale if self.is_real else y)
        per_row = math.log(self.scale) * self._numbers(y)
        return draws.logsumexp(0) - math.log(len(draws)) - per_row

    def scores(self, y: Tensor, *, weight: Tensor | None = None) -> dict[str, float]:
        """Return ``nll``, the mean of minus `log_prob`, and what ``metrics`` adds.

        Args:
            y: Targets, shape ``(rows, ...)``.
            weight: How many rows each row counts for, shape ``(rows,)``, by which every mean is weighted; None for 1.

        Raises:
            ValueError: If the weights are not such, or ``metrics`` takes none.
        """
        if weight is not None:
            weight = checked_weight(weight, len(y))
            own = {} if self.metrics is None else _weighting(self.metrics)(self.mean, y, weight)
            return {**own, "nll": -weighted_mean(self.log_prob(y), weight)}
        own = {} if self.metrics is None else self.metrics(self.mean, y)
        return {**own, "nll": -float(with_double(self.log_prob(y)).double().mean())}

    def sample(self, num_samples: int = 1, *, seed: int | None = None) -> Tensor:
        """Draw targets of all draws of the posterior, of each about as many, in random order.

        Args:
            num_samples: How many per row, at least 1.
            seed: Seed of this call; None continues from the global random state.

        Returns:
            Shape ``(num_samples, rows, ...)``.
        """
        device = self.expected.device
        with torch.random.fork_rng([device] if device.type == "cuda" else [], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            each = -(-num_samples // self.draws.batch_shape[0])
            found = self.draws.sample(torch.Size([each])).flatten(0, 1)
            found = found[torch.randperm(len(found), device=device)[:num_samples]]
        return found * self.scale + self.shift if self.is_real else found

    def quantile(self, q: float | Tensor) -> Tensor:
        """Return quantiles of the targets, of 2,000 samples per row that are always the same.

        Args:
            q: Levels in (0, 1), a number or shape ``(levels,)``.

        Returns:
            Shape ``(rows, ...)``, or ``(levels, rows, ...)``.

        Raises:
            ValueError: If a level is not in (0, 1).
        """
        samples = self.sample(_SAMPLES, seed=_SEED)
        levels = torch.as_tensor(q, dtype=samples.dtype, device=samples.device)
        if not bool(((levels > 0) & (levels < 1)).all()):
            raise ValueError(f"q must be in (0, 1), got {q}")
        places = (levels * len(samples)).ceil().long() - 1
        found: Tensor = samples.sort(0).values[places]
        return found

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Return the central interval that holds the targets with a probability.

        Args:
            level: The probability, in (0, 1).

        Returns:
            Lower and upper ends, each ``(rows, ...)``.

        Raises:
            ValueError: If the level is not in (0, 1).
        """
        if not 0 < level < 1:
            raise ValueError(f"level must be in (0, 1), got {level}")
        low, high = self.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], device="cpu"))
        return low, high

    def _numbers(self, y: Tensor) -> Tensor | int:
        """Return how many numbers each row has, gaps left out."""
        return (~y.isnan()).flatten(1).sum(1) if y.dim() > 1 else 1


def _weighting(metrics: Metrics) -> Metrics:
    """Return metrics that take weights of rows, or raise."""
    try:
        inspect.signature(metrics).bind(None, None, None)
    except TypeError as error:
        name = getattr(metrics, "__name__", repr(metrics))
        raise ValueError(f"metrics must take (mean, y, weight) where rows have weights, got {name}: {error}") from error
    return metrics
