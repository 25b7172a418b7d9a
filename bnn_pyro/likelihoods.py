"""Likelihoods: the distribution of a target given what the network puts out.

A likelihood is asked four things: `check` once at the door, `prior` once in each run of the model and outside the data
plate, `distribution` inside it, `predict` on the draws of a posterior. In a Pyro model:

    latent = likelihood.prior(like=x)
    with pyro.plate("data", N, subsample_size=B):
        pyro.sample("y", likelihood.distribution(net(x), latent), obs=y)

`distribution` never waits for the device: it validates nothing, whatever Pyro's setting, because `check` has done so.
"""

import math
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple, Protocol

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.nn.functional import softplus

NOISE_SITE = "noise_scale"


class Likelihood(Protocol):
    """What a network's output is given to; implement these four methods to add a likelihood."""

    def prior(self, *, like: Tensor | None = None) -> Tensor | None:
        """Sample the likelihood's own latent, outside the data plate; None if it has none.

        Args:
            like: Floating-point tensor whose dtype and device the latent gets; torch's defaults if None.
        """

    def distribution(self, output: Tensor, latent: Tensor | None = None) -> TorchDistribution:
        """Return the distribution of the targets, one batch element a datum.

        Args:
            output: The network's output, `(*batch, out)`.
            latent: What `prior` returned, of a shape that broadcasts with `batch`.
        """

    def check(self, output: Tensor, y: Tensor | None = None) -> None:
        """Check an output and its targets; it reads values and so waits for the device: not for a training step.

        Args:
            output: The network's output, `(rows, out)`.
            y: Targets, `(rows,)`; None checks the output alone.

        Raises:
            ValueError: If a shape, dtype or value cannot belong to this likelihood.
        """

    def predict(self, output: Tensor, latent: Tensor | None = None) -> "Classes | Normals":
        """Return the predictive distribution of each draw of a posterior.

        Args:
            output: The network's outputs, `(draws, rows, out)`.
            latent: The draws of what `prior` samples, `(draws,)`; None if it samples nothing.

        Raises:
            ValueError: If the shapes do not fit each other.
        """


class Classes(NamedTuple):
    """Predicted class probabilities.

    Attributes:
        probabilities: Mean over the draws, `(rows, classes)`.
        draws: Those of each draw, `(draws, rows, classes)`.
    """

    probabilities: Tensor
    draws: Tensor


class Normals(NamedTuple):
    """Predicted normal of each draw, on the scale of the targets that the model saw.

    Attributes:
        mean: Means, `(draws, rows)`.
        sd: Standard deviations, `(draws, rows)`.
    """

    mean: Tensor
    sd: Tensor


@dataclass(frozen=True)
class Categorical:
    """Class labels whose logits are the network's output: `p(y = c | x) = softmax(f(x))_c`."""

    def prior(self, *, like: Tensor | None = None) -> None:
        """Sample nothing: a categorical likelihood has no latent of its own.

        Args:
            like: Not used.
        """

    def distribution(self, output: Tensor, latent: Tensor | None = None) -> TorchDistribution:
        """Return `Categorical(logits=output)`.

        Args:
            output: Logits, `(*batch, classes)`.
            latent: Not used.
        """
        return dist.Categorical(logits=output, validate_args=False)

    def check(self, output: Tensor, y: Tensor | None = None) -> None:
        """Check logits `(rows, classes)` and labels `(rows,)`, which are int64 in 0 ... classes - 1.

        Args:
            output: Logits, `(rows, classes)`.
            y: Labels, `(rows,)`.

        Raises:
            ValueError: If a shape, dtype or value is another.
        """
        if output.ndim != 2 or output.shape[1] < 2:
            raise ValueError(
                f"output must be logits of shape (rows, classes) with at least 2 classes, got {tuple(output.shape)}: "
                "give the network one output for each class."
            )
        _check_finite("output", output)
        if y is not None:
            _check_rows(y, output.shape[0])
            _check_labels(y, output.shape[1])

    def predict(self, output: Tensor, latent: Tensor | None = None) -> Classes:
        """Return the class probabilities, averaged over the draws as probabilities (not as logits), and each draw's.

        Args:
            output: Logits, `(draws, rows, classes)`.
            latent: Not used.

        Raises:
            ValueError: If output has another shape.
        """
        _check_draws(output)
        draws = output.softmax(-1)
        return Classes(draws.mean(0), draws)


@dataclass(frozen=True)
class GaussianNoise:
    """Real targets with the same normal noise everywhere: `y ~ N(f(x), scale²)`.

    A learned noise has the prior `scale ~ HalfCauchy(prior_scale)` and is the site `noise_scale`. The half-Cauchy is
    flat near 0, so data with little noise may say so; InverseGamma(1, 1) on the variance would hold the noise away from
    0: at a scale of .03 its log density is -1100. Squared error as the loss of a datum is the known scale `sqrt(1/2)`.

    Source: Gelman (2006), Prior distributions for variance parameters in hierarchical models.

    Args:
        scale: Known standard deviation of the noise, in the units of the targets the model sees; None learns it.
        prior_scale: Median of the learned scale under its prior; the default suits standardised targets.

    Raises:
        ValueError: If a scale is not positive and finite.
    """

    scale: float | None = None
    _: KW_ONLY
    prior_scale: float = 1.0

    def __post_init__(self) -> None:
        """Check the hyper-parameters."""
        if self.scale is not None:
            _check_positive("scale", self.scale)
        _check_positive("prior_scale", self.prior_scale)

    def prior(self, *, like: Tensor | None = None) -> Tensor | None:
        """Sample the noise's standard deviation if it is learned.

        Args:
            like: Floating-point tensor whose dtype and device the site gets; torch's defaults if None.
        """
        if self.scale is not None:
            return None
        reference = torch.empty(()) if like is None else like
        half_cauchy = dist.HalfCauchy(reference.new_full((), self.prior_scale), validate_args=False)
        noise: Tensor = pyro.sample(NOISE_SITE, half_cauchy)
        return noise

    def distribution(self, output: Tensor, latent: Tensor | None = None) -> TorchDistribution:
        """Return `Normal(output, scale)`.

        Args:
            output: Means, `(*batch, 1)` or `(rows,)`.
            latent: The learned scale, of a shape that broadcasts with the batch; not used if the scale is known.
        """
        mean = output if output.ndim == 1 else output.squeeze(-1)
        return dist.Normal(mean, self._scale(mean, latent), validate_args=False)

    def check(self, output: Tensor, y: Tensor | None = None) -> None:
        """Check means `(rows, 1)` or `(rows,)` and real targets `(rows,)`.

        Args:
            output: Means, `(rows, 1)` or `(rows,)`.
            y: Targets, `(rows,)`.

        Raises:
            ValueError: If a shape, dtype or value is another.
        """
        if output.ndim != 1 and (output.ndim != 2 or output.shape[1] != 1):
            raise ValueError(
                f"output must have shape (rows, 1) or (rows,), got {tuple(output.shape)}: "
                "give the network one output, the mean."
            )
        _check_finite("output", output)
        if y is not None:
            _check_rows(y, output.shape[0])
            _check_real(y)

    def predict(self, output: Tensor, latent: Tensor | None = None) -> Normals:
        """Return the mean and the noise of each draw.

        Args:
            output: Means, `(draws, rows, 1)` or `(draws, rows)`.
            latent: Draws of the learned scale, `(draws,)`, or one for all; not used if the scale is known.

        Raises:
            ValueError: If a shape is another, or if the scale is learned and latent is missing.
        """
        column = output.unsqueeze(-1) if output.ndim == 2 else output
        _check_draws(column, 1)
        mean = column.squeeze(-1)
        scale = self._scale(mean, latent)
        return Normals(mean, scale if self.scale is not None else _one_a_draw(scale, mean))

    def _scale(self, mean: Tensor, latent: Tensor | None) -> Tensor:
        """Return the known scale as a tensor like mean, else the learned one."""
        if self.scale is not None:
            return torch.full_like(mean, self.scale)  # a float would be copied to the device in every step
        if latent is None:
            raise ValueError(
                "latent must be given when the noise is learned, got None: "
                f"pass what prior() returned, or a posterior's draws of {NOISE_SITE}."
            )
        return latent


@dataclass(frozen=True)
class HeteroscedasticNoise:
    """Real targets whose normal noise the network predicts too: `y ~ N(f_0(x), (softplus(f_1(x)) + min_scale)²)`.

    Source: Nix, Weigend (1994), Estimating the mean and variance of the target probability distribution.

    Args:
        min_scale: Smallest standard deviation, in the units of the targets the model sees; it bounds the density at a
            point that is fitted exactly.

    Raises:
        ValueError: If min_scale is not positive and finite.
    """

    min_scale: float = 1e-3

    def __post_init__(self) -> None:
        """Check the hyper-parameter."""
        _check_positive("min_scale", self.min_scale)

    def prior(self, *, like: Tensor | None = None) -> None:
        """Sample nothing: the noise is an output of the network.

        Args:
            like: Not used.
        """

    def distribution(self, output: Tensor, latent: Tensor | None = None) -> TorchDistribution:
        """Return `Normal(output_0, softplus(output_1) + min_scale)`.

        Args:
            output: Means and raw scales, `(*batch, 2)`.
            latent: Not used.
        """
        mean, raw = output.unbind(-1)
        return dist.Normal(mean, softplus(raw) + self.min_scale, validate_args=False)

    def check(self, output: Tensor, y: Tensor | None = None) -> None:
        """Check outputs `(rows, 2)` and real targets `(rows,)`.

        Args:
            output: Means and raw scales, `(rows, 2)`.
            y: Targets, `(rows,)`.

        Raises:
            ValueError: If a shape, dtype or value is another.
        """
        if output.ndim != 2 or output.shape[1] != 2:
            raise ValueError(
                f"output must have shape (rows, 2), got {tuple(output.shape)}: "
                "give the network two outputs, the mean and the raw scale."
            )
        _check_finite("output", output)
        if y is not None:
            _check_rows(y, output.shape[0])
            _check_real(y)

    def predict(self, output: Tensor, latent: Tensor | None = None) -> Normals:
        """Return the mean and the noise of each draw.

        Args:
            output: Means and raw scales, `(draws, rows, 2)`.
            latent: Not used.

        Raises:
            ValueError: If output has another shape.
        """
        _check_draws(output, 2)
        mean, raw = output.unbind(-1)
        return Normals(mean, softplus(raw) + self.min_scale)


def default_likelihood(task: str) -> Likelihood:
    """Return the likelihood of a task: one of classes, or a normal one whose noise is learnt.

    Args:
        task: `"classification"` or `"regression"`.

    Raises:
        ValueError: If there is no such task.
    """
    if task not in ("classification", "regression"):
        raise ValueError(f"task must be classification or regression, got {task!r}")
    return Categorical() if task == "classification" else GaussianNoise()


def _one_a_draw(latent: Tensor, mean: Tensor) -> Tensor:
    """Return the draws of the learned scale in the shape of the means, `(draws, rows)`."""
    if latent.numel() not in (1, len(mean)):
        raise ValueError(
            f"latent must hold one {NOISE_SITE} for each of the {len(mean)} draws, or one for all, "
            f"got shape {tuple(latent.shape)}: give the draws of that site from the same posterior."
        )
    return latent.to(mean).reshape(-1, 1).expand_as(mean)


def _check_positive(name: str, value: float) -> None:
    """Raise unless a hyper-parameter is positive and finite."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive and finite, got {value}: it is a standard deviation.")


def _check_finite(name: str, values: Tensor) -> None:
    """Raise if there is a NaN or an infinite value."""
    bad = int((~values.isfinite()).sum())
    if bad:
        raise ValueError(
            f"{name} must be finite, got {bad} NaN or infinite values of {values.numel()}: "
            "clean the data, or look for weights that diverged."
        )


def _check_rows(y: Tensor, rows: int) -> None:
    """Raise unless the targets are one a row, and there are any."""
    if y.shape != (rows,) or rows == 0:
        raise ValueError(
            f"y must have shape ({rows},), one target for each row of the output and at least one, "
            f"got {tuple(y.shape)}: squeeze a column with y.squeeze(-1)."
        )


def _check_labels(y: Tensor, classes: int) -> None:
    """Raise unless the targets are class labels."""
    if y.dtype != torch.int64:
        raise ValueError(f"y must hold class labels of dtype torch.int64, got {y.dtype}: convert them with y.long().")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"y must hold labels in 0 ... {classes - 1}, got {low} ... {high}: "
            "number the classes from 0, or give the network more outputs."
        )


def _check_real(y: Tensor) -> None:
    """Raise unless the targets are finite real numbers."""
    if not y.is_floating_point():
        raise ValueError(f"y must hold real targets, got {y.dtype}: convert them with y.to(output.dtype).")
    _check_finite("y", y)


def _check_draws(output: Tensor, columns: int | None = None) -> None:
    """Raise unless the output is `(draws, rows, columns)` with at least one draw."""
    if output.ndim != 3 or output.shape[0] == 0 or columns not in (None, output.shape[2]):
        wanted = "outputs" if columns is None else columns
        raise ValueError(
            f"output must have shape (draws, rows, {wanted}) with at least one draw, got {tuple(output.shape)}: "
            "stack the draws, or add their dimension with output.unsqueeze(0)."
        )
