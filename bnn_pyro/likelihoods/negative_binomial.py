"""NegativeBinomial: counts that vary more than a Poisson's."""

from dataclasses import dataclass

import pyro
import torch
from torch import Tensor

from bnn_pyro.likelihoods.checks import check_column, check_counts, check_positive, needed
from bnn_pyro.likelihoods.counts import OverdispersedCounts
from bnn_pyro.likelihoods.half_cauchy import HalfCauchy
from bnn_pyro.likelihoods.mixture import Mixture
from bnn_pyro.likelihoods.target_metrics import count_metrics
from bnn_pyro.likelihoods.targets import Targets

_LEAST = 1e-7  # of the dispersion, at which counts are a Poisson's to the last digit


@dataclass(frozen=True)
class NegativeBinomial:
    r"""Counts with mean ``m = exp(f(x))`` and variance ``m + d m²``; the dispersion d is learned.

    .. math::
        p(y) = \binom{y + 1/d - 1}{y} \left(\frac{dm}{1 + dm}\right)^y \left(\frac{1}{1 + dm}\right)^{1/d},
        \qquad d \sim \mathrm{HalfCauchy}(\mathrm{prior\_scale})

    As d goes to 0 it is `Poisson`. Source: Hilbe (2011), Negative binomial regression (NB2).

    Args:
        prior_scale: Median of the dispersion under its prior.

    Raises:
        ValueError: If ``prior_scale`` is not positive and finite.
    """

    prior_scale: float = 1.0

    def __post_init__(self) -> None:
        """Check the hyper-parameter."""
        check_positive("prior_scale", self.prior_scale)

    def prior(self, *, like: Tensor | None = None) -> Tensor:
        """Sample the dispersion, the site ``dispersion``.

        Args:
            like: Floating-point tensor whose dtype and device the site gets; torch's defaults if None.
        """
        like = torch.empty(()) if like is None else like
        half_cauchy = HalfCauchy(like.new_full((), self.prior_scale))
        dispersion: Tensor = pyro.sample("dispersion", half_cauchy)
        return dispersion

    def distribution(self, output: Tensor, latent: Tensor | None = None) -> Targets:
        """Return the distribution of the counts.

        Args:
            output: Logarithms of the means, ``(*batch, 1)``.
            latent: The dispersion, of a shape that broadcasts with the batch.
        """
        log_mean = output.squeeze(-1)
        dispersion = needed(latent, "dispersion").clamp(min=_LEAST).expand_as(log_mean)
        return Targets(OverdispersedCounts(log_mean, dispersion), 0)

    def check(self, output: Tensor, y: Tensor | None = None) -> None:
        """Check outputs ``(rows, 1)`` and counts ``(rows,)``, whole numbers from 0 of any dtype.

        Args:
            output: Logarithms of the means.
            y: Counts.

        Raises:
            ValueError: If a shape or value is another.
        """
        check_column(output, "the logarithm of the mean")
        if y is not None:
            check_counts(y, len(output))

    def predict(self, output: Tensor, latent: Tensor | None = None) -> Mixture:
        """Return the distribution of the counts in each draw.

        Args:
            output: Logarithms of the means, ``(draws, rows, 1)``.
            latent: Dispersions, ``(draws,)``.
        """
        return Mixture(self.distribution(output, needed(latent, "dispersion").reshape(-1, 1)), count_metrics)
