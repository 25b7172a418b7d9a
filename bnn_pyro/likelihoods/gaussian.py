"""GaussianNoise: real targets with the same normal noise everywhere."""

from dataclasses import KW_ONLY, dataclass

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from bnn_pyro.likelihoods.base import NOISE_SITE, Normals
from bnn_pyro.likelihoods.checks import check_draws, check_means, check_positive
from bnn_pyro.likelihoods.half_cauchy import HalfCauchy


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
            check_positive("scale", self.scale)
        check_positive("prior_scale", self.prior_scale)

    def prior(self, *, like: Tensor | None = None) -> Tensor | None:
        """Sample the noise's standard deviation if it is learned.

        Args:
            like: Floating-point tensor whose dtype and device the site gets; torch's defaults if None.
        """
        if self.scale is not None:
            return None
        reference = torch.empty(()) if like is None else like
        half_cauchy = HalfCauchy(reference.new_full((), self.prior_scale))
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
        check_means(output, y, "the mean; several targets per row are for MultiOutputNoise(shape)")

    def predict(self, output: Tensor, latent: Tensor | None = None) -> Normals:
        """Return the mean and the noise of each draw.

        Args:
            output: Means, `(draws, rows, 1)` or `(draws, rows)`.
            latent: Draws of the learned scale, `(draws,)`, or one for all; not used if the scale is known.

        Raises:
            ValueError: If a shape is another, or if the scale is learned and latent is missing.
        """
        column = output.unsqueeze(-1) if output.ndim == 2 else output
        check_draws(column, 1)
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


def _one_a_draw(latent: Tensor, mean: Tensor) -> Tensor:
    """Return the draws of the learned scale in the shape of the means, `(draws, rows)`."""
    if latent.numel() not in (1, len(mean)):
        raise ValueError(
            f"latent must hold one {NOISE_SITE} for each of the {len(mean)} draws, or one for all, "
            f"got shape {tuple(latent.shape)}: give the draws of that site from the same posterior."
        )
    return latent.to(mean).reshape(-1, 1).expand_as(mean)
