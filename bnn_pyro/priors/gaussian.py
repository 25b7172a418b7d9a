"""The Gaussian slab (SS-IG): independent normals of one fixed standard deviation."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bnn_pyro.priors.checks import check_positive
from bnn_pyro.priors.slab import slab


@dataclass(frozen=True)
class Gaussian:
    r"""Hyper-parameters of the Gaussian slab, :math:`w \sim N(0, \sigma_0^2)`.

    Args:
        sigma: Standard deviation :math:`\sigma_0 > 0` (not the variance).

    Raises:
        ValueError: If ``sigma`` is not positive.

    Source: Jantre, Bhattacharya, Maiti (2021), *Layer adaptive node selection in Bayesian neural networks*.
    """

    sigma: float = 1.0

    def __post_init__(self) -> None:
        check_positive("sigma", self.sigma)

    def shared(self, groups: Sequence[tuple[int, int]], like: Tensor) -> None:
        """Samples nothing: a Gaussian slab shares no latent scale."""

    def scale(self, name: str, size: int, group_size: int, shared: None, like: Tensor) -> Tensor:
        """Returns :math:`\\sigma_0`, the standard deviation of all weights."""
        return torch.full((), self.sigma, dtype=like.dtype, device=like.device)


def gaussian(name: str, shape: Sequence[int], *, sigma: float | Tensor = 1.0, like: Tensor | None = None) -> Tensor:
    r"""Samples weights without a spike, :math:`w \sim N(0, \sigma_0^2)`.

    Args:
        name: Name of the site.
        shape: Shape of the weights, ``(nodes, ...)``.
        sigma: Standard deviation :math:`\sigma_0`: a number, or a tensor of shape ``()``, ``(*batch, nodes)`` or
            ``(*batch, 1)``; its dtype and device are the weights'.
        like: A tensor, such as the inputs, whose dtype and device numbers take; torch's defaults if None.

    Returns:
        The weights, shape ``(*batch, *shape)``.

    Raises:
        ValueError: If ``shape`` is empty, or ``sigma`` is a number that is not positive or a tensor that does not fit
            it.
    """
    check_positive("sigma", sigma)
    return slab(name, shape, scale=sigma, like=like)
