"""StudentT: real targets with outliers."""

import math
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from bnn_pyro.arguments import check_reals
from bnn_pyro.likelihoods.base import NOISE_SITE
from bnn_pyro.likelihoods.checks import check_column, check_positive, check_real, check_rows, needed
from bnn_pyro.likelihoods.half_cauchy import HalfCauchy
from bnn_pyro.likelihoods.mixture import Mixture
from bnn_pyro.likelihoods.target_metrics import real_metrics
from bnn_pyro.likelihoods.targets import Targets


class HeavyTailed(TorchDistribution):
    r"""Student's t distribution with one known number of degrees of freedom, which reads no values when it is made.

    .. math::
        \log p(y) = \log\Gamma(\tfrac{\nu + 1}{2}) - \log\Gamma(\tfrac{\nu}{2}) - \tfrac12 \log(\nu\pi) - \log s
            - \tfrac{\nu + 1}{2} \log\left(1 + \frac{(y - m)^2}{\nu s^2}\right)

    Args:
        df: Degrees of freedom :math:`\nu > 2`.
        loc: Locations m.
        scale: Scales s, of the same shape.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own form)
    support = dist.constraints.real
    has_rsample = True

    def __init__(self, df: float, loc: Tensor, scale: Tensor) -> None:
        self.df, self.loc, self.scale = df, loc, scale
        super().__init__(loc.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Means."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """Variances."""
        return self.scale.square() * (self.df / (self.df - 2))

    def expand(self, batch_shape: Any, _instance: object = None) -> "HeavyTailed":
        """Return the same distribution over a larger batch.

        Args:
            batch_shape: The new batch shape.
        """
        return HeavyTailed(self.df, self.loc.expand(batch_shape), self.scale.expand(batch_shape))

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008  (torch's own form)
        """Return draws with gradients: a Normal's over the root of a chi-square's, per degree of freedom.

        Args:
            sample_shape: How many.
        """
        shape = self._extended_shape(sample_shape)
        chi_square = 2 * torch._standard_gamma(self.loc.new_full(shape, self.df / 2))
        normal = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + self.scale * normal * (self.df / chi_square).sqrt()

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density.

        Args:
            value: Targets.
        """
        nu = self.df
        constant = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - 0.5 * math.log(nu * math.pi)
        error = (value - self.loc) / self.scale
        return constant - self.scale.log() - 0.5 * (nu + 1) * torch.log1p(error.square() / nu)


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
        check_reals({"df": self.df})
        if not 2 < self.df < float("inf"):
            raise ValueError(f"df must be above 2 and finite, got {self.df}")
        check_positive("prior_scale", self.prior_scale)

    def prior(self, *, like: Tensor | None = None) -> Tensor:
        """Sample the scale of the noise.

        Args:
            like: Floating-point tensor whose dtype and device the site gets; torch's defaults if None.
        """
        like = torch.empty(()) if like is None else like
        scale: Tensor = pyro.sample(NOISE_SITE, HalfCauchy(like.new_full((), self.prior_scale)))
        return scale

    def distribution(self, output: Tensor, latent: Tensor | None = None) -> Targets:
        """Return ``StudentT(df, output, scale)``.

        Args:
            output: Locations, ``(*batch, 1)``.
            latent: The scale, of a shape that broadcasts with the batch.
        """
        loc = output.squeeze(-1)
        return Targets(HeavyTailed(self.df, loc, needed(latent, NOISE_SITE).expand_as(loc)), 0)

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
        return Mixture(draws, real_metrics, is_real=True)
