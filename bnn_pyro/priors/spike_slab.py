"""Spike and slab: the prior a network is given, and the composed model functions for one's own model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bnn_pyro.priors.checks import check_positive, check_shape
from bnn_pyro.priors.gates import check_inclusion, gate
from bnn_pyro.priors.group_horseshoe import GroupHorseshoe, group_horseshoe_scale
from bnn_pyro.priors.group_lasso import group_lasso_scale
from bnn_pyro.priors.numbers import as_tensor
from bnn_pyro.priors.slab import GateHint, Slab, slab


@dataclass(frozen=True)
class SpikeSlab:
    r"""A spike-and-slab group prior.

    .. math:: z_j \sim \mathrm{Bern}(\lambda), \qquad w_j \mid z_j \sim z_j \cdot \text{slab} + (1 - z_j)\,\delta_0.

    Args:
        slab: The slab's hyper-parameters: Gaussian, GroupLasso, GroupHorseshoe, or a custom one with the interface
            of :class:`~bnn_pyro.priors.slab.Slab`.
        inclusion: Prior inclusion probability :math:`\lambda` in (0, 1): one for all groups of nodes, or one a group by
            name; None takes the theory's (:func:`~bnn_pyro.priors.gates.inclusion_probability`).
        temperature: Temperature of the relaxed gates.

    Raises:
        ValueError: If an inclusion probability lies outside (0, 1) or the temperature is not positive.
    """

    slab: Slab = field(default_factory=GroupHorseshoe)
    inclusion: float | Mapping[str, float] | None = None
    temperature: float = 0.5

    def __post_init__(self) -> None:
        values = self.inclusion if isinstance(self.inclusion, Mapping) else {"": self.inclusion}
        for name, value in values.items():
            if value is not None:
                check_inclusion(value, name=f"inclusion[{name!r}]" if name else "inclusion")
        check_positive("temperature", self.temperature)
        if isinstance(self.slab, type) or not all(hasattr(self.slab, name) for name in ("shared", "scale")):
            raise TypeError(f"slab must be a slab such as Gaussian(), got {self.slab!r}")


def spike_slab_gaussian(
    name: str,
    shape: Sequence[int],
    *,
    inclusion: float | Tensor,
    sigma: float | Tensor = 1.0,
    temperature: float | Tensor = 0.5,
    gates: Mapping[str, GateHint | list[GateHint]] | None = None,
    like: Tensor | None = None,
) -> Tensor:
    r"""Samples gated Gaussian weights (SS-IG), :math:`z_j \cdot N(0, \sigma_0^2 I)`.

    Args:
        name: Prefix of the sites ``<name>.gate`` and ``<name>.weight``.
        shape: ``(nodes, weights a node)``; a one-dimensional shape has one weight a node.
        inclusion: Prior inclusion probability: a number, or a tensor of shape ``()``, ``(*batch, nodes)`` or
            ``(*batch, 1)``.
        sigma: :math:`\sigma_0`, likewise; its dtype and device are the weights', or those of ``inclusion`` where it is
            a number.
        temperature: Temperature of the gates.
        gates: Further gates that multiply the weights afterwards, as in :func:`~bnn_pyro.priors.slab.slab`.
        like: A tensor, such as the inputs, whose dtype and device numbers take; torch's defaults if None.

    Returns:
        The gated weights, shape ``(*batch, *shape)``.

    Raises:
        ValueError: If ``shape`` is empty or has a size below 1, or a number is out of range.
    """
    _sizes(shape)
    check_positive("sigma", sigma)
    like = inclusion if isinstance(inclusion, Tensor) else like
    return _gated(name, shape, as_tensor(sigma, like), inclusion, temperature, gates)


def spike_slab_group_lasso(
    name: str,
    shape: Sequence[int],
    *,
    rate: Tensor | float,
    inclusion: float | Tensor,
    sigma: float | Tensor = 1.0,
    temperature: float | Tensor = 0.5,
    gates: Mapping[str, GateHint | list[GateHint]] | None = None,
    like: Tensor | None = None,
) -> Tensor:
    r"""Samples gated group-lasso weights (SS-GL), :math:`z_j \cdot N(0, \sigma_0^2 \tau_j^2 I)`.

    Args:
        name: Prefix of the sites ``<name>.gate``, ``<name>.tau_squared`` and ``<name>.weight``.
        shape: ``(nodes, weights a node)``; a one-dimensional shape has one weight a node.
        rate: :math:`\varsigma^2`, from :func:`~bnn_pyro.priors.group_lasso.group_lasso_rate`; its dtype and device are
            the weights'.
        inclusion: Prior inclusion probability: a number, or a tensor of shape ``()``, ``(*batch, nodes)`` or
            ``(*batch, 1)``.
        sigma: :math:`\sigma_0`, likewise.
        temperature: Temperature of the gates.
        gates: Further gates that multiply the weights afterwards, as in :func:`~bnn_pyro.priors.slab.slab`.
        like: A tensor, such as the inputs, whose dtype and device numbers take; torch's defaults if None.

    Returns:
        The gated weights, shape ``(*batch, *shape)``.

    Raises:
        ValueError: If ``shape`` is empty or has a size below 1, or a number is out of range.
    """
    size, group_size = _sizes(shape)
    check_positive("sigma", sigma)
    scale = sigma * group_lasso_scale(name, size, group_size=group_size, rate=rate, like=like)
    return _gated(name, shape, scale, inclusion, temperature, gates)


def spike_slab_group_horseshoe(
    name: str,
    shape: Sequence[int],
    *,
    global_scale: Tensor | float = 1.0,
    inclusion: float | Tensor,
    sigma: float | Tensor = 1.0,
    slab_width: Tensor | float | None = 1.0,
    temperature: float | Tensor = 0.5,
    gates: Mapping[str, GateHint | list[GateHint]] | None = None,
    like: Tensor | None = None,
) -> Tensor:
    r"""Samples gated group-horseshoe weights (SS-GHS), :math:`z_j \cdot N(0, \sigma_0^2 \tilde\tau_j^2 I)`.

    Args:
        name: Prefix of the sites ``<name>.gate``, ``<name>.tau.alpha``, ``<name>.tau.beta`` and ``<name>.weight``.
        shape: ``(nodes, weights a node)``; a one-dimensional shape has one weight a node.
        global_scale: s, from :func:`~bnn_pyro.priors.group_horseshoe.half_cauchy`; its dtype and device are the
            weights'.
        inclusion: Prior inclusion probability: a number, or a tensor of shape ``()``, ``(*batch, nodes)`` or
            ``(*batch, 1)``.
        sigma: :math:`\sigma_0`, likewise.
        slab_width: c; None for the unregularised horseshoe.
        temperature: Temperature of the gates.
        gates: Further gates that multiply the weights afterwards, as in :func:`~bnn_pyro.priors.slab.slab`.
        like: A tensor, such as the inputs, whose dtype and device numbers take; torch's defaults if None.

    Returns:
        The gated weights, shape ``(*batch, *shape)``.

    Raises:
        ValueError: If ``shape`` is empty or has a size below 1, or a number is out of range.
    """
    size, _ = _sizes(shape)
    check_positive("sigma", sigma)
    scale = sigma * group_horseshoe_scale(name, size, global_scale=global_scale, slab_width=slab_width, like=like)
    return _gated(name, shape, scale, inclusion, temperature, gates)


def _sizes(shape: Sequence[int]) -> tuple[int, int]:
    check_shape(shape, 1, "be (nodes, weights a node) with positive sizes")
    return shape[0], torch.Size(shape[1:]).numel()


def _gated(
    name: str,
    shape: Sequence[int],
    scale: Tensor,
    inclusion: float | Tensor,
    temperature: float | Tensor,
    gates: Mapping[str, GateHint | list[GateHint]] | None,
) -> Tensor:
    size, _ = _sizes(shape)
    if not isinstance(inclusion, Tensor):
        check_inclusion(inclusion)
    probability = as_tensor(inclusion, scale).to(scale)
    z = gate(f"{name}.gate", probability, size=size, temperature=temperature)
    w = slab(f"{name}.weight", shape, scale=scale, gates={f"{name}.gate": -len(shape), **(gates or {})})
    return z.reshape(*z.shape, *[1] * (len(shape) - 1)) * w
