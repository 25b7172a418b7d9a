"""MultiOutputNoise: several real targets per row, or an image of them, with normal noise."""

from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from bnn_pyro.arguments import check_flags
from bnn_pyro.likelihoods.base import NOISE_SITE
from bnn_pyro.likelihoods.checks import check_means_of_targets, check_positive, needed
from bnn_pyro.likelihoods.half_cauchy import HalfCauchy
from bnn_pyro.likelihoods.mixture import Mixture
from bnn_pyro.likelihoods.target_metrics import real_metrics
from bnn_pyro.likelihoods.targets import Targets


@dataclass(frozen=True)
class MultiOutputNoise:
    r"""Several real targets per row, independent given the network's outputs: ``y_k ~ N(f_k(x), scale_k²)``.

    The scales are learned, ``scale_k ~ HalfCauchy(prior_scale)``, at the site ``noise_scale``: one for each target, or
    one for all of them. A map of targets, such as a depth per pixel, is a shape of several dimensions. Noise that is
    correlated between the targets is that of `CorrelatedNoise`.

    Args:
        shape: Shape of the targets of one row; a number for a vector of as many.
        shared: Whether all targets share one scale.
        missing: Whether a target may be NaN, and then adds nothing; it has to be missing at random.
        prior_scale: Median of each scale under its prior; the default suits standardised targets.

    Raises:
        ValueError: If the shape has no dimension, or one below 1, or ``prior_scale`` is not positive and finite.
    """

    shape: int | tuple[int, ...]
    shared: bool = False
    missing: bool = False
    prior_scale: float = 1.0

    def __post_init__(self) -> None:
        """Check the hyper-parameters."""
        object.__setattr__(self, "shape", (self.shape,) if isinstance(self.shape, int) else tuple(self.shape))
        if not self.event or min(self.event) < 1:
            raise ValueError(f"shape must have a dimension, and none below 1, got {self.shape}")
        check_positive("prior_scale", self.prior_scale)
        check_flags({"shared": self.shared, "missing": self.missing})

    @property
    def event(self) -> tuple[int, ...]:
        """Shape of the targets of one row."""
        return (self.shape,) if isinstance(self.shape, int) else self.shape

    def prior(self, *, like: Tensor | None = None) -> Tensor:
        """Sample the standard deviations of the noise, of the shape of a row's targets, or of ones if they share it.

        Args:
            like: Floating-point tensor whose dtype and device the site gets; torch's defaults if None.
        """
        like = torch.empty(()) if like is None else like
        shape = (1,) * len(self.event) if self.shared else self.event
        half_cauchy = HalfCauchy(like.new_full(shape, self.prior_scale))
        noise: Tensor = pyro.sample(NOISE_SITE, half_cauchy.to_event(len(shape)))
        return noise

    def distribution(self, output: Tensor, latent: Tensor | None = None) -> Targets:
        """Return the targets of each row as one observation.

        Args:
            output: Means, ``(*batch, *shape)``; a vector of as many numbers is taken in their order.
            latent: The scales, of a shape that broadcasts with the means.
        """
        last = zip(reversed(output.shape[-len(self.event) :]), reversed(self.event), strict=True)
        has_shape = all(size == wanted for size, wanted in last)  # from the last one, so that rows are seldom looked at
        mean = output if has_shape else output.reshape(*output.shape[:-1], *self.event)
        base = dist.Normal(mean, needed(latent, NOISE_SITE), validate_args=False)
        return Targets(base.expand(mean.shape), len(self.event), missing=self.missing)

    def check(self, output: Tensor, y: Tensor | None = None) -> None:
        """Check means and real targets, each of shape ``(rows, *shape)``.

        Args:
            output: Means; ``(rows, numbers)`` with as many numbers does too.
            y: Targets.

        Raises:
            ValueError: If a shape, dtype or value is another.
        """
        check_means_of_targets(output, y, self.event, missing=self.missing)

    def predict(self, output: Tensor, latent: Tensor | None = None) -> Mixture:
        """Return the distribution of the targets in each draw.

        Args:
            output: Means, ``(draws, rows, *shape)``.
            latent: Scales, ``(draws, *shape)``, or with ones in place of the shape if they are shared.
        """
        scale = needed(latent, NOISE_SITE).unsqueeze(1)
        return Mixture(self.distribution(output, scale), real_metrics, is_real=True)
