"""CorrelatedNoise: several real targets per row, with normal noise of a full covariance."""

from dataclasses import dataclass

import pyro
import torch
from torch import Tensor

from bnn_pyro.arguments import check_flags, check_whole
from bnn_pyro.likelihoods.base import NOISE_SITE
from bnn_pyro.likelihoods.checks import check_means_of_targets, check_positive, needed
from bnn_pyro.likelihoods.correlated_normal import CorrelatedNormal
from bnn_pyro.likelihoods.mixture import Mixture
from bnn_pyro.likelihoods.noise_prior import NoisePrior, cholesky_factor
from bnn_pyro.likelihoods.target_metrics import real_metrics


@dataclass(frozen=True)
class CorrelatedNoise:
    r"""Several real targets per row whose noise is correlated: ``y ~ N(f(x), S R S)``.

    .. math::
        S = \mathrm{diag}(s_1, \ldots, s_K), \qquad s_k \sim \mathrm{HalfCauchy}(\mathtt{prior\_scale}), \qquad
        p(R) \propto \det(R)^{\eta - 1}.

    Scales and correlations are learned, at the site ``noise_scale`` of shape ``(K (K + 1) / 2,)``: the scales, and the
    odds of partial correlations (`bnn_pyro.likelihoods.noise_prior.NoisePrior`); `covariance` makes the matrix of it.
    With independent noise it is `MultiOutputNoise`.

    Source of the prior: Lewandowski, Kurowicka, Joe (2009), Generating random correlation matrices based on vines and
    extended onion method.

    Args:
        targets: How many targets K a row has, at least 2.
        concentration: :math:`\eta`, positive: 1 is uniform over correlation matrices, more favours small correlations.
        missing: Whether a target may be NaN; the others of its row then count by their own covariance. It has to be
            missing at random.
        prior_scale: Median of each scale under its prior; the default suits standardised targets.

    Raises:
        ValueError: If there are fewer than 2 targets, or a number is not positive and finite.
    """

    targets: int
    concentration: float = 1.0
    missing: bool = False
    prior_scale: float = 1.0

    def __post_init__(self) -> None:
        """Check the hyper-parameters."""
        check_whole("targets", self.targets, 2)
        check_positive("concentration", self.concentration, "the concentration of the LKJ prior")
        check_positive("prior_scale", self.prior_scale)
        check_flags({"missing": self.missing})

    def prior(self, *, like: Tensor | None = None) -> Tensor:
        """Sample the scales and the odds of partial correlations, shape ``(K (K + 1) / 2,)``.

        Args:
            like: Floating-point tensor whose dtype and device the site gets; torch's defaults if None.
        """
        like = torch.empty(()) if like is None else like
        scale = like.new_full((self.targets,), self.prior_scale)
        noise: Tensor = pyro.sample(NOISE_SITE, NoisePrior(scale, self.concentration))
        return noise

    def covariance(self, latent: Tensor) -> Tensor:
        """Return the covariance of the noise.

        Args:
            latent: What `prior` samples, shape ``(*batch, K (K + 1) / 2)``, such as draws of a posterior.

        Returns:
            Shape ``(*batch, K, K)``, in the squared unit of the targets that the model saw.
        """
        factor = cholesky_factor(latent, self.targets)
        return factor @ factor.mT

    def distribution(self, output: Tensor, latent: Tensor | None = None) -> CorrelatedNormal:
        """Return the targets of each row as one observation.

        Args:
            output: Means, ``(*batch, K)``.
            latent: What `prior` returned, of a shape whose first part broadcasts with the batch; a single number is
                all of it, so that 1 is a noise of unit scale without correlations.
        """
        noise = needed(latent, NOISE_SITE)
        noise = noise if noise.ndim else noise.expand(self.targets * (self.targets + 1) // 2)
        factor = cholesky_factor(noise, self.targets)
        return CorrelatedNormal(output, factor, missing=self.missing)

    def check(self, output: Tensor, y: Tensor | None = None) -> None:
        """Check means and real targets, each of shape ``(rows, K)``.

        Args:
            output: Means.
            y: Targets.

        Raises:
            ValueError: If a shape, dtype or value is another.
        """
        check_means_of_targets(output, y, (self.targets,), missing=self.missing)

    def predict(self, output: Tensor, latent: Tensor | None = None) -> Mixture:
        """Return the distribution of the targets in each draw.

        Args:
            output: Means, ``(draws, rows, K)``.
            latent: Draws of what `prior` samples, ``(draws, K (K + 1) / 2)``.
        """
        draws = self.distribution(output, needed(latent, NOISE_SITE).unsqueeze(1))
        return Mixture(draws, real_metrics, is_real=True)
