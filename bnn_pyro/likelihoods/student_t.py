"""StudentT: real targets with outliers."""

from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from bnn_pyro.likelihoods.base import NOISE_SITE
from bnn_pyro.likelihoods.checks import check_column, check_positive, check_real, check_rows, needed
from bnn_pyro.likelihoods.mixture import Mixture
from bnn_pyro.likelihoods.target_metrics import real_metrics
from bnn_pyro.likelihoods.targets import Targets


@dataclass(frozen=True)
class StudentT:
    r"""Real targets with heavy-tailed noise, so that outliers pull less: ``y ~ StudentT(df, f(x), scale)``.

    The scale is learned, ``scale ~ HalfCauchy(prior_scale)``, at the site ``noise_scale``; the noise has the standard
    deviation ``scale sqrt(df / (df - 2))``. Source: Lange, Little, Taylor (1989), Robust statistical modeling using
    the t distribution.

    Args:
        df: Degrees of freedom, above 2, so that there is a variance; 4 is the usual choice.
        prior_scale: Median of the scale under its prior; the default suits standardised targets.

    Raises:
        ValueError: If ``df`` is not above 2, or ``prior_scale`` is not positive and finite.
    """

    df: float = 4.0
    prior_scale: float = 1.0

    def __post_init__(self) -> None:
        """Check the hyper-parameters."""
        if not 2 < self.df < float("inf"):
            raise ValueError(f"df must be above 2 and finite, got {self.df}")
        check_positive("prior_scale", self.prior_scale)

    def prior(self, *, like: Tensor | None = None) -> Tensor:
        """Sample the scale of the noise.

        Args:
            like: Floating-point tensor whose dtype and device the site gets; torch's defaults if None.
        """
        like = torch.empty(()) if like is None else like
        scale: Tensor = pyro.sample(
            NOISE_SITE, dist.HalfCauchy(like.new_full((), self.prior_scale), validate_args=False)
        )
        return scale

    def distribution(self, output: Tensor, latent: Tensor | None = None) -> Targets:
        """Return ``StudentT(df, output, scale)``.

        Args:
            output: Locations, ``(*batch, 1)``.
            latent: The scale, of a shape that broadcasts with the batch.
        """
        loc = output.squeeze(-1)
        scale = needed(latent, NOISE_SITE).expand_as(loc)
        return Targets(dist.StudentT(torch.full_like(loc, self.df), loc, scale, validate_args=False), 0)

    def check(self, output: Tensor, y: Tensor | None = None) -> None:
        """Check locations ``(rows, 1)`` and real targets ``(rows,)``.

        Args:
            output: Locations.
            y: Targets.

        Raises:
            ValueError: If a shape, dtype or value is another.
        """
        check_column(output, "the location")
        if y is not None:
            check_rows(y, len(output))
            check_real(y)

    def predict(self, output: Tensor, latent: Tensor | None = None) -> Mixture:
        """Return the distribution of the targets in each draw.

        Args:
            output: Locations, ``(draws, rows, 1)``.
            latent: Scales, ``(draws,)``.
        """
        draws = self.distribution(output, needed(latent, NOISE_SITE).reshape(-1, 1))
        return Mixture(draws, real_metrics, expected=output.squeeze(-1), is_real=True)
