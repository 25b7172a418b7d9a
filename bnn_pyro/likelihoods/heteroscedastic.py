"""HeteroscedasticNoise: real targets whose normal noise the network predicts too."""

from dataclasses import dataclass

import pyro.distributions as dist
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.nn.functional import softplus

from bnn_pyro.likelihoods.base import Normals
from bnn_pyro.likelihoods.checks import check_draws, check_finite, check_positive, check_real, check_rows


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
        check_positive("min_scale", self.min_scale)

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
        check_finite("output", output)
        if y is not None:
            check_rows(y, output.shape[0])
            check_real(y)

    def predict(self, output: Tensor, latent: Tensor | None = None) -> Normals:
        """Return the mean and the noise of each draw.

        Args:
            output: Means and raw scales, `(draws, rows, 2)`.
            latent: Not used.

        Raises:
            ValueError: If output has another shape.
        """
        check_draws(output, 2)
        mean, raw = output.unbind(-1)
        return Normals(mean, softplus(raw) + self.min_scale)
