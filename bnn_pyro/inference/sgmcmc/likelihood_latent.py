"""Latent: a likelihood's own latent, such as a learned noise, as one more parameter."""

from typing import Any

from pyro import poutine
from torch import Tensor, nn
from torch.distributions import biject_to

from bnn_pyro.likelihoods import Likelihood


class Latent:
    r"""A latent that the likelihood samples from a fixed prior, in its unconstrained coordinates u; it starts at 1.

    Args:
        prior: The distribution that it is drawn from.
        like: Floating-point tensor whose dtype and device it gets.
    """

    def __init__(self, prior: Any, like: Tensor) -> None:
        self.prior, self.transform = prior, biject_to(prior.support)
        self.unconstrained = nn.Parameter(self.transform.inv(like.new_ones(prior.shape())))

    @classmethod
    def of(cls, likelihood: Likelihood, like: Tensor) -> "Latent | None":
        """Returns the latent of a likelihood; None if it has none.

        Args:
            likelihood: The likelihood.
            like: Floating-point tensor whose dtype and device it gets.
        """
        trace = poutine.trace(likelihood.prior).get_trace(like=like)
        sites = trace.stochastic_nodes
        return cls(trace.nodes[sites[0]]["fn"], like) if sites else None

    def value(self) -> Tensor:
        """Returns the latent itself."""
        value: Tensor = self.transform(self.unconstrained)
        return value

    def log_prior(self) -> Tensor:
        """Returns the log-density of the unconstrained coordinate under the prior."""
        value = self.value()
        density: Tensor = self.prior.log_prob(value) + self.transform.log_abs_det_jacobian(self.unconstrained, value)
        return density
