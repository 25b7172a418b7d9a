"""Likelihoods: the distribution of a target given what the network puts out.

A likelihood is asked four things: `check` once at the door, `prior` once in each run of the model and outside the data
plate, `distribution` inside it, `predict` on the draws of a posterior. In a Pyro model:

    latent = likelihood.prior(like=x)
    with pyro.plate("data", N, subsample_size=B):
        pyro.sample("y", likelihood.distribution(net(x), latent), obs=y)

`distribution` never waits for the device: it validates nothing, whatever Pyro's setting, because `check` has done so.
"""

from typing import NamedTuple, Protocol

import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from bnn_pyro.likelihoods.mixture import Mixture

NOISE_SITE = "noise_scale"


class Likelihood(Protocol):
    """What a network's output is given to; implement these four methods to add a likelihood.

    Targets may have any shape ``(rows, ...)``: what follows the rows are event dimensions of `distribution`.
    """

    def prior(self, *, like: Tensor | None = None) -> Tensor | None:
        """Sample the likelihood's own latent, one site of any name, outside the data plate; None if there is none.

        Args:
            like: Floating-point tensor whose dtype and device the latent gets; torch's defaults if None.
        """

    def distribution(self, output: Tensor, latent: Tensor | None = None) -> TorchDistribution:
        """Return the distribution of the targets, one batch element a datum.

        Args:
            output: The network's output, `(*batch, out)`.
            latent: What `prior` returned, of a shape that broadcasts with `batch`; of several draws at once, with a
                dimension of 1 for the rows behind the first.
        """

    def check(self, output: Tensor, y: Tensor | None = None) -> None:
        """Check an output and its targets; it reads values and so waits for the device: not for a training step.

        Args:
            output: The network's output, `(rows, out)`.
            y: Targets, `(rows,)`; None checks the output alone.

        Raises:
            ValueError: If a shape, dtype or value cannot belong to this likelihood.
        """

    def predict(self, output: Tensor, latent: Tensor | None = None) -> "Prediction":
        """Return the predictive distribution of each draw of a posterior; a `Mixture` suits any likelihood.

        Args:
            output: The network's outputs, `(draws, rows, out)`.
            latent: The draws of what `prior` samples, `(draws, *its shape)`; None if it samples nothing.

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


Prediction = Classes | Normals | Mixture
"""What each draw of a posterior predicts."""


def targets_alone(likelihood: Likelihood, y: Tensor) -> Tensor:
    """Return targets without what a likelihood takes beside them, such as weights, by its method ``targets``.

    Args:
        likelihood: The likelihood; one without such a method takes nothing else.
        y: Targets as it takes them.
    """
    targets = getattr(likelihood, "targets", None)
    return targets(y) if callable(targets) else y


def weights_of(likelihood: Likelihood, y: Tensor) -> Tensor | None:
    """Return the weights of rows that targets hold, by a likelihood's method ``weights``; None where they hold none.

    Args:
        likelihood: The likelihood.
        y: Targets as it takes them.
    """
    weights = getattr(likelihood, "weights", None)
    return weights(y) if callable(weights) else None


def latent_site(likelihood: Likelihood) -> str | None:
    """Return the name of the site that a likelihood's prior samples; None if there is none.

    Args:
        likelihood: The likelihood.

    Raises:
        ValueError: If it samples several.
    """
    with torch.random.fork_rng([]):
        sites = poutine.trace(likelihood.prior).get_trace().stochastic_nodes
    if len(sites) > 1:
        raise ValueError(f"likelihood must sample one latent at most, got {', '.join(sites)}: stack them in one site")
    return sites[0] if sites else None
