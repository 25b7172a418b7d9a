"""The group-horseshoe slab (SS-GHS): half-Cauchy scales a node, regularised by a slab width."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyro
import torch
from pyro.distributions import Gamma, InverseGamma
from torch import Tensor


@dataclass(frozen=True)
class GroupHorseshoe:
    r"""Hyper-parameters of the (regularised) group-horseshoe slab.

    .. math::
        s \sim C^+(0, s_0), \qquad \tau_j \sim C^+(0, t_0), \qquad
        \tilde\tau_j^2 = \frac{c^2 s^2 \tau_j^2}{c^2 + s^2 \tau_j^2}, \qquad w_j \sim N(0, \sigma_0^2 \tilde\tau_j^2 I).

    Args:
        sigma: :math:`\sigma_0 > 0`.
        global_scale: Scale :math:`s_0 > 0` of the network's half-Cauchy.
        node_scale: Scale :math:`t_0 > 0` of the nodes' half-Cauchys.
        slab_width: c > 0; None leaves the horseshoe unregularised (:math:`c = \infty`).
        learn_slab_width: Whether :math:`c^2 \sim \mathrm{InvGamma}(2, 6)` instead of a constant.

    Raises:
        ValueError: If one of the numbers is not positive, or a width is to be learned of an unregularised horseshoe.

    Source: Jantre, Bhattacharya, Maiti (2023); Piironen, Vehtari (2017), *Sparsity information and regularization in the horseshoe and other
    shrinkage priors*.
    """

    sigma: float = 1.0
    global_scale: float = 1.0
    node_scale: float = 1.0
    slab_width: float | None = 1.0
    learn_slab_width: bool = False

    def __post_init__(self) -> None:
        for name in ("sigma", "global_scale", "node_scale", "slab_width"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if self.learn_slab_width and self.slab_width is None:
            raise ValueError("learn_slab_width needs a slab width to start from, got slab_width=None")

    def shared(self, groups: Sequence[tuple[int, int]], like: Tensor) -> tuple[Tensor, Tensor | None]:
        """Samples the network's scale s, and its slab width where that is learned."""
        s = half_cauchy("global_scale", self._like(self.global_scale, like), init=1.0)
        if self.slab_width is None:
            return s, None
        if not self.learn_slab_width:
            return s, self._like(self.slab_width, like)
        prior = InverseGamma(self._like(2.0, like), self._like(6.0, like))
        return s, pyro.sample("slab_width_squared", prior, infer={"init": self.slab_width**2}).sqrt()

    def scale(
        self, name: str, size: int, group_size: int, shared: tuple[Tensor, Tensor | None], like: Tensor
    ) -> Tensor:
        """Returns :math:`\\sigma_0 \\tilde\\tau_j` of each node."""
        s, c = shared
        node_scale = self._like(self.node_scale, like)
        return self.sigma * group_horseshoe_scale(name, size, global_scale=s, node_scale=node_scale, slab_width=c, init=1.0)

    @staticmethod
    def _like(value: float, like: Tensor) -> Tensor:
        return torch.full((), value, dtype=like.dtype, device=like.device)


def half_cauchy(name: str, scale: float | Tensor = 1.0, *, size: int | None = None, init: float | None = None) -> Tensor:
    r"""Samples :math:`x \sim C^+(0, k)` as :math:`x^2 = \alpha\beta`, two latents that a LogNormal fits well.

    .. math:: \alpha \sim \mathrm{Gamma}(\tfrac12, \text{scale } k^2), \qquad \beta \sim \mathrm{InvGamma}(\tfrac12, \text{scale } 1).

    Args:
        name: Prefix of the sites ``<name>.alpha`` and ``<name>.beta``.
        scale: k > 0; its dtype and device are the draws'.
        size: Number of draws; None for a scalar.
        init: A value of both factors for guides to start at.

    Returns:
        x, shape ``(*batch, size)`` or ``(*batch,)``.

    Raises:
        ValueError: If ``scale`` is a number that is not positive.

    Source: Wand, Ormerod, Padoan, Fruhwirth (2011), *Mean field variational Bayes for elaborate distributions*.
    """
    if not isinstance(scale, Tensor) and not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}")
    scale = torch.as_tensor(scale)
    half, one = torch.full_like(scale, 0.5), torch.ones_like(scale)
    infer = {} if init is None else {"init": init}
    alpha, beta = Gamma(half, scale.pow(-2)), InverseGamma(half, one)
    if size is not None:
        alpha, beta = (
            d.expand((*scale.shape[:-1], size) if scale.dim() else (size,)).to_event(1) for d in (alpha, beta)
        )
    a: Tensor = pyro.sample(f"{name}.alpha", alpha, infer=dict(infer))
    b: Tensor = pyro.sample(f"{name}.beta", beta, infer=dict(infer))
    return a.sqrt() * b.sqrt()


def regularized_scale(scale: Tensor, slab_width: Tensor | float | None) -> Tensor:
    r"""Returns :math:`c\,t/\sqrt{c^2 + t^2}`: t where it is small, never more than c.

    Args:
        scale: :math:`t = s\tau_j`, shape ``(*batch, nodes)``.
        slab_width: c; None leaves the scale as it is.

    Returns:
        The regularised scale, of the same shape.
    """
    if slab_width is None:
        return scale
    return scale * (1 + (scale / slab_width).square()).rsqrt()


def group_horseshoe_scale(
    name: str,
    size: int,
    *,
    global_scale: Tensor | float = 1.0,
    node_scale: Tensor | float = 1.0,
    slab_width: Tensor | float | None = 1.0,
    init: float | None = None,
) -> Tensor:
    r"""Samples each node's scale :math:`\tilde\tau_j = c s \tau_j / \sqrt{c^2 + s^2 \tau_j^2}`, with :math:`\tau_j \sim C^+(0, t_0)`.

    Args:
        name: Prefix of the sites ``<name>.tau.alpha`` and ``<name>.tau.beta``.
        size: Number of nodes.
        global_scale: s, shape ``(*batch,)``.
        node_scale: :math:`t_0`; its dtype and device are the scales'.
        slab_width: c; None for the unregularised horseshoe.
        init: A value of both factors for guides to start at.

    Returns:
        The scales, shape ``(*batch, size)``.

    Raises:
        ValueError: If ``size`` is below 1.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if not isinstance(node_scale, Tensor) and isinstance(global_scale, Tensor):
        node_scale = torch.full((), node_scale, dtype=global_scale.dtype, device=global_scale.device)
    tau = half_cauchy(f"{name}.tau", node_scale, size=size, init=init)
    s = global_scale.unsqueeze(-1) if isinstance(global_scale, Tensor) and global_scale.dim() else global_scale
    c = slab_width.unsqueeze(-1) if isinstance(slab_width, Tensor) and slab_width.dim() else slab_width
    return regularized_scale(s * tau, c)
