"""MeanDependentNoise: real targets whose normal noise grows or falls with what is predicted."""

from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from bnn_pyro.likelihoods.base import NOISE_SITE, Normals
from bnn_pyro.likelihoods.checks import check_draws, check_means, check_positive, needed
from bnn_pyro.likelihoods.half_cauchy import HalfCauchy

_FARTHEST = 3.0  # from 0, of a mean that the noise follows; so that it stays within bounds where nothing was seen


@dataclass(frozen=True)
class MeanDependentNoise:
    r"""Real targets whose normal noise depends on the prediction: ``y ~ N(f(x), s(f(x))²)``.

    .. math:: \log s(f) = \frac{1 - t}{2} \log s_- + \frac{1 + t}{2} \log s_+, \qquad t = \max(-3, \min(3, f)).

    The two scales are learned, each ``~ HalfCauchy(prior_scale)``, at the site ``noise_scale`` of shape ``(2,)``:
    ``s_-`` is the noise where -1 is predicted, and ``s_+`` where 1 is, which of standardised targets is one standard
    deviation below their mean and one above. With ``s_- = s_+`` it is `GaussianNoise`. The network has one output, so
    that its means are fitted about as well as with a constant noise; `HeteroscedasticNoise` can follow a noise that
    depends on the inputs in other ways, and is harder to fit.

    Source: Harvey (1976), Estimating regression models with multiplicative heteroscedasticity.

    Args:
        prior_scale: Median of each scale under its prior; the default suits standardised targets.

    Raises:
        ValueError: If ``prior_scale`` is not positive and finite.
    """

    prior_scale: float = 1.0

    def __post_init__(self) -> None:
        """Check the hyper-parameter."""
        check_positive("prior_scale", self.prior_scale)

    def prior(self, *, like: Tensor | None = None) -> Tensor:
        """Sample the two scales, shape ``(2,)``.

        Args:
            like: Floating-point tensor whose dtype and device the site gets; torch's defaults if None.
        """
        like = torch.empty(()) if like is None else like
        half_cauchy = HalfCauchy(like.new_full((2,), self.prior_scale))
        scales: Tensor = pyro.sample(NOISE_SITE, half_cauchy.to_event(1))
        return scales

    def distribution(self, output: Tensor, latent: Tensor | None = None) -> TorchDistribution:
        """Return ``Normal(output, s(output))``.

        Args:
            output: Means, ``(*batch, 1)`` or ``(rows,)``.
            latent: The scales, ``(2,)``, or of a shape ``(*, 2)`` whose first part broadcasts with the batch; a single
                number is both of them.
        """
        mean = output if output.ndim == 1 else output.squeeze(-1)
        return dist.Normal(mean, self._noise(mean, needed(latent, NOISE_SITE)), validate_args=False)

    def check(self, output: Tensor, y: Tensor | None = None) -> None:
        """Check means ``(rows, 1)`` or ``(rows,)`` and real targets ``(rows,)``.

        Args:
            output: Means.
            y: Targets.

        Raises:
            ValueError: If a shape, dtype or value is another.
        """
        check_means(output, y, "the mean, which the noise follows")

    def predict(self, output: Tensor, latent: Tensor | None = None) -> Normals:
        """Return the mean and the noise of each draw.

        Args:
            output: Means, ``(draws, rows, 1)`` or ``(draws, rows)``.
            latent: Draws of the scales, ``(draws, 2)``, or ``(2,)`` and ``(1, 2)`` for all.

        Raises:
            ValueError: If a shape is another, or latent is missing.
        """
        column = output.unsqueeze(-1) if output.ndim == 2 else output
        check_draws(column, 1)
        mean, scales = column.squeeze(-1), needed(latent, NOISE_SITE)
        if scales.shape not in {(2,), (1, 2), (len(mean), 2)}:
            raise ValueError(
                f"latent must hold two scales for each of the {len(mean)} draws, or two for all, "
                f"got shape {tuple(scales.shape)}: give the draws of {NOISE_SITE} from the same posterior."
            )
        return Normals(mean, self._noise(mean, scales.to(mean).reshape(-1, 1, 2)))

    def position(self, mean: Tensor) -> Tensor:
        """Return ``t``, between the means at which the two scales hold: -1 at the first and 1 at the second.

        Args:
            mean: Means, of any shape.
        """
        return mean.clamp(-_FARTHEST, _FARTHEST)

    def _noise(self, mean: Tensor, scales: Tensor) -> Tensor:
        low, high = (scales if scales.ndim else scales.expand(2)).log().unbind(-1)
        t = self.position(mean)
        return (0.5 * ((1 - t) * low + (1 + t) * high)).exp()
