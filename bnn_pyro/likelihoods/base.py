"""Likelihoods: the distribution of a target given what the network puts out.

A likelihood is asked four things: `check` once at the door, `prior` once in each run of the model and outside the data
plate, `distribution` inside it, `predict` on the draws of a posterior. In a Pyro model:

    latent = likelihood.prior(like=x)
    with pyro.plate("data", N, subsample_size=B):
        pyro.sample("y", likelihood.distribution(net(x), latent), obs=y)

`distribution` never waits for the device: it validates nothing, whatever Pyro's setting, because `check` has done so.
"""

from typing import NamedTuple, Protocol

from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

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

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the mixture of all draws, each `(rows,)`, noise included.

        By the laws of total expectation and total variance over the draws s,

            mean = E_s[m_s],    sd = sqrt(E_s[sd_s^2] + Var_s[m_s]).
        """
        variance = self.sd.square().mean(0) + self.mean.var(0, correction=0)
        return self.mean.mean(0), variance.sqrt()
