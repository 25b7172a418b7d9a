"""The group-lasso slab (SS-GL): a Gamma scale a node makes the group's marginal a multivariate Laplace."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyro
import torch
from pyro.distributions import Gamma
from torch import Tensor

from bnn_pyro.priors.checks import check_positive, check_size
from bnn_pyro.priors.numbers import as_tensor
from bnn_pyro.priors.slab import guide_hints


@dataclass(frozen=True)
class GroupLasso:
    r"""Hyper-parameters of the group-lasso slab.

    .. math::
        \varsigma^2 &\sim \mathrm{Gamma}(c, d), \qquad
        \tau_j^2 \sim \mathrm{Gamma}(\tfrac{m+1}{2}, \tfrac{\varsigma^2}{2}), \\
        w_j &\sim N(0, \sigma_0^2 \tau_j^2 I_m), \qquad
        \text{so that } p(w_j) \propto \exp(-\varsigma \|w_j\|_2 / \sigma_0).

    Args:
        sigma: :math:`\sigma_0 > 0`.
        rate_shape: Shape c > 0 of the rate's Gamma.
        rate_rate: Rate d > 0 of the rate's Gamma.

    Raises:
        ValueError: If one of them is not positive.

    Source: Jantre, Bhattacharya, Maiti (2023); Kyung, Gill, Ghosh, Casella (2010), *Penalized regression, standard
    errors, and Bayesian lassos*.
    """

    sigma: float = 1.0
    rate_shape: float = 4.0
    rate_rate: float = 2.0

    def __post_init__(self) -> None:
        for name in ("sigma", "rate_shape", "rate_rate"):
            check_positive(name, getattr(self, name))

    def shared(self, groups: Sequence[tuple[int, int]], like: Tensor) -> Tensor:
        """Samples the network's rate; guides start it where it is best given that every node's scale is 1."""
        shapes = sum(size * (group_size + 1) / 2 for size, group_size in groups)
        nodes = sum(size for size, _ in groups)
        best = (shapes + self.rate_shape) / (nodes / 2 + self.rate_rate)
        return group_lasso_rate("rate", shape=self.rate_shape, rate=self.rate_rate, like=like, init=best)

    def scale(self, name: str, size: int, group_size: int, shared: Tensor, like: Tensor) -> Tensor:
        """Returns :math:`\\sigma_0 \\tau_j` of each node."""
        return self.sigma * group_lasso_scale(name, size, group_size=group_size, rate=shared, init=1.0)


def group_lasso_rate(
    name: str, *, shape: float = 4.0, rate: float = 2.0, like: Tensor | None = None, init: float | None = None
) -> Tensor:
    r"""Samples the rate that all nodes share, :math:`\varsigma^2 \sim \mathrm{Gamma}(c, d)`.

    Args:
        name: Name of the site.
        shape: c > 0.
        rate: d > 0.
        like: A tensor whose dtype and device the rate takes.
        init: A value for guides to start at; None leaves it to the guide.

    Returns:
        The rate :math:`\varsigma^2`, shape ``()``.

    Raises:
        ValueError: If ``shape`` or ``rate`` is not positive.
    """
    check_positive("shape", shape)
    check_positive("rate", rate)
    c, d = (as_tensor(value, like) for value in (shape, rate))
    value: Tensor = pyro.sample(name, Gamma(c, d), infer=guide_hints(init=init))
    return value


def group_lasso_scale(
    name: str,
    size: int,
    *,
    group_size: int,
    rate: Tensor | float,
    init: float | None = None,
    like: Tensor | None = None,
) -> Tensor:
    r"""Samples each node's scale :math:`\tau_j`, with :math:`\tau_j^2 \sim \mathrm{Gamma}((m+1)/2, \varsigma^2/2)`.

    Args:
        name: Prefix of the site ``<name>.tau_squared``.
        size: Number of nodes.
        group_size: Weights a node, m (bias included).
        rate: :math:`\varsigma^2`, shape ``(*batch,)``; its dtype and device are the scales'.
        init: A value of :math:`\tau_j^2` for guides to start at.
        like: A tensor, such as the inputs, whose dtype and device numbers take; torch's defaults if None.

    Returns:
        The scales :math:`\tau_j`, shape ``(*batch, size)``.

    Raises:
        ValueError: If ``size`` or ``group_size`` is below 1, or ``rate`` is a number that is not positive.
    """
    check_size("size", size)
    check_size("group_size", group_size)
    check_positive("rate", rate)
    rate = as_tensor(rate, like)
    concentration = torch.full_like(rate, (group_size + 1) / 2)
    prior = Gamma(concentration.unsqueeze(-1), rate.unsqueeze(-1) / 2).expand((*rate.shape, size)).to_event(1)
    squared: Tensor = pyro.sample(f"{name}.tau_squared", prior, infer=guide_hints(init=init))
    return squared.sqrt()
