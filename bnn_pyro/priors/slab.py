"""The slab: what a group of weights is drawn from when its gate is open."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import pyro
import torch
from pyro.distributions import Normal
from pyro.poutine.runtime import InferDict
from torch import Size, Tensor

from bnn_pyro.priors.checks import check_positive, check_shape
from bnn_pyro.priors.numbers import as_tensor

GateHint = int | tuple[int, Tensor]
GateHints = Mapping[str, GateHint | list[GateHint]]


class Slab(Protocol):
    """What a network asks of a slab: the network's shared latent scales, and the scale of each node."""

    def shared(self, groups: Sequence[tuple[int, int]], like: Tensor) -> object:
        """Samples what all groups share.

        Args:
            groups: (number of nodes, weights a node) of every layer.
            like: A tensor whose dtype and device the samples take.

        Returns:
            Whatever ``scale`` needs; None where nothing is shared.
        """

    def scale(self, name: str, size: int, group_size: int, shared: Any, like: Tensor) -> Tensor:
        """Samples the standard deviation of each node's weights.

        Args:
            name: Prefix of the sites' names.
            size: Number of nodes.
            group_size: Weights a node (bias included).
            shared: What ``shared`` returned.
            like: A tensor whose dtype and device the samples take.

        Returns:
            Standard deviations, shape ``(size,)`` or ``()``.
        """


def slab(
    name: str,
    shape: Sequence[int],
    *,
    scale: float | Tensor = 1.0,
    gates: GateHints | None = None,
    init: Tensor | None = None,
    like: Tensor | None = None,
) -> Tensor:
    r"""Samples a group-wise Normal, :math:`w_{j\cdot} \sim N(0, r_j^2 I)`.

    Args:
        name: Name of the site.
        shape: Shape of the weights, ``(nodes, ...)``.
        scale: Standard deviation r of each node's weights: a number, or a tensor of shape ``()``, ``(*batch, nodes)``
            or ``(*batch, 1)``; its dtype and device are the weights'.
        gates: Which gates multiply the weights: gate site -> the dimension (negative) along which its gates lie, or
            ``(dimension, index)`` with ``index[i]`` the gate of position i, -1 for none; or a list of two of these
            where one gate stands at both ends. A guide weights the slab's divergence by their inclusion probabilities.
        init: A value for guides to start at, of shape ``shape``.
        like: A tensor, such as the inputs, whose dtype and device numbers take; torch's defaults if None.

    Returns:
        The weights, shape ``(*batch, *shape)``.

    Raises:
        ValueError: If ``shape`` is empty or has a negative size, or ``scale`` is a number that is not positive or a
            tensor whose last axis is not one a node.
    """
    check_shape(shape, 0, "have at least one dimension and no negative size")
    check_positive("scale", scale)
    scale = as_tensor(scale, like)
    if scale.dim() and scale.shape[-1] not in (1, shape[0]):
        raise ValueError(f"scale must have one entry a node ({shape[0]}), got shape {tuple(scale.shape)}")
    if scale.dim():
        scale = scale.reshape(*scale.shape, *[1] * (len(shape) - 1))
    batch = scale.shape[: -len(shape)] if scale.dim() else Size()
    zero = torch.zeros((), dtype=scale.dtype, device=scale.device)
    normal = Normal(zero, scale).expand((*batch, *shape)).to_event(len(shape))
    value: Tensor = pyro.sample(name, normal, infer=guide_hints(gates=gates, init=init))
    return value


def guide_hints(*, gates: GateHints | None = None, init: float | Tensor | None = None) -> InferDict:
    """Returns what a site tells guides in ``infer``, for whose type Pyro knows its own keys only.

    Args:
        gates: Which gates multiply the site, as for :func:`slab`; None for no hint.
        init: A value to start at; None for no hint.
    """
    hints = {"gates": None if gates is None else dict(gates), "init": init}
    return cast(InferDict, {name: hint for name, hint in hints.items() if hint is not None})
