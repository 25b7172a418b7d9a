"""The group-horseshoe slab (SS-GHS): half-Cauchy scales a node, regularised by a slab width."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyro
import torch
from pyro.distributions import Gamma, InverseGamma
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from bnn_pyro.priors.checks import check_positive, check_size
from bnn_pyro.priors.numbers import as_tensor
from bnn_pyro.priors.slab import guide_hints


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

    Source: Jantre, Bhattacharya, Maiti (2023); Piironen, Vehtari (2017), *Sparsity information and regularization in
    the horseshoe and other shrinkage priors*.
    """

    sigma: float = 1.0
    global_scale: float = 1.0
    node_scale: float = 1.0
    slab_width: float | None = 1.0
    learn_slab_width: bool = False

    def __post_init__(self) -> None:
        for name in ("sigma", "global_scale", "node_scale", "slab_width"):
            if self.slab_width is not None or name != "slab_width":
                check_positive(name, getattr(self, name))
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
        return s, pyro.sample("slab_width_squared", prior, infer=guide_hints(init=self.slab_width**2)).sqrt()

    def scale(
        self, name: str, size: int, group_size: int, shared: tuple[Tensor, Tensor | None], like: Tensor
    ) -> Tensor:
        """Returns :math:`\\sigma_0 \\tilde\\tau_j` of each node."""
        s, c = shared
        node_scale = self._like(self.node_scale, like)
        scale = group_horseshoe_scale(name, size, global_scale=s, node_scale=node_scale, slab_width=c, init=1.0)
        return self.sigma * scale

    @staticmethod
    def _like(value: float, like: Tensor) -> Tensor:
        return torch.full((), value, dtype=like.dtype, device=like.device)


def half_cauchy(
    name: str,
    scale: float | Tensor = 1.0,
    *,
    size: int | None = None,
    init: float | None = None,
    like: Tensor | None = None,
) -> Tensor:
    r"""Samples :math:`x \sim C^+(0, k)` as :math:`x^2 = \alpha\beta`, two latents that a LogNormal fits well.

    .. math::
        \alpha \sim \mathrm{Gamma}(\tfrac12, \text{scale } k^2), \qquad
        \beta \sim \mathrm{InvGamma}(\tfrac12, \text{scale } 1).

    Args:
        name: Prefix of the sites ``<name>.alpha`` and ``<name>.beta``.
        scale: k > 0: a number, or a tensor of shape ``()``, ``(*batch, size)`` or ``(*batch, 1)``; its dtype and device
            are the draws'.
        size: Number of draws; None for one draw for each entry of ``scale``.
        init: A value of both factors for guides to start at.
        like: A tensor, such as the inputs, whose dtype and device numbers take; torch's defaults if None.

    Returns:
        x, shape ``(*batch, size)``, or that of ``scale``.

    Raises:
        ValueError: If ``scale`` is a number that is not positive, or ``size`` is below 1.

    Source: Wand, Ormerod, Padoan, Fruhwirth (2011), *Mean field variational Bayes for elaborate distributions*.
    """
    check_positive("scale", scale)
    if size is not None:
        check_size("size", size)
    scale = as_tensor(scale, like)
    half, one = torch.full_like(scale, 0.5), torch.ones_like(scale)
    factors: list[TorchDistributionMixin] = [Gamma(half, scale.pow(-2)), InverseGamma(half, one)]
    if size is not None:
        factors = [factor.expand((*scale.shape[:-1], size)).to_event(1) for factor in factors]
    alpha: Tensor = pyro.sample(f"{name}.alpha", factors[0], infer=guide_hints(init=init))
    beta: Tensor = pyro.sample(f"{name}.beta", factors[1], infer=guide_hints(init=init))
    return alpha.sqrt() * beta.sqrt()


def regularized_scale(scale: Tensor, slab_width: Tensor | float | None) -> Tensor:
    r"""Returns :math:`c\,t/\sqrt{c^2 + t^2}`: t where it is small, never more than c.

    Args:
        scale: :math:`t = s\tau_j`, shape ``(*batch, nodes)``.
        slab_width: c > 0, a number or of a shape that broadcasts with it; None leaves the scale as it is.

    Returns:
        The regularised scale, of the same shape.

    Raises:
        TypeError: If ``scale`` is no tensor, or ``slab_width`` neither a tensor nor a number.
        ValueError: If ``slab_width`` is a number that is not positive.
    """
    if not isinstance(scale, Tensor):
        raise TypeError(f"scale must be a tensor, got {type(scale).__name__}")
    if slab_width is None:
        return scale
    check_positive("slab_width", slab_width)
    # not sqrt(1 + square): a horseshoe's draw may be so large that its square is not finite
    return scale / torch.hypot(torch.ones_like(scale), scale / slab_width)


def group_horseshoe_scale(
    name: str,
    size: int,
    *,
    global_scale: Tensor | float = 1.0,
    node_scale: Tensor | float = 1.0,
    slab_width: Tensor | float | None = 1.0,
    init: float | None = None,
    like: Tensor | None = None,
) -> Tensor:
    r"""Samples each node's regularised scale.

    .. math:: \tilde\tau_j = \frac{c s \tau_j}{\sqrt{c^2 + s^2 \tau_j^2}}, \qquad \tau_j \sim C^+(0, t_0).

    Args:
        name: Prefix of the sites ``<name>.tau.alpha`` and ``<name>.tau.beta``.
        size: Number of nodes.
        global_scale: s, a number or of shape ``(*batch,)``; its dtype and device are the scales' where ``node_scale``
            is a number.
        node_scale: :math:`t_0`, a number or a tensor whose dtype and device are the scales'.
        slab_width: c, a number or of shape ``(*batch,)``; None for the unregularised horseshoe.
        init: A value of both factors for guides to start at.
        like: A tensor, such as the inputs, whose dtype and device numbers take; torch's defaults if None.

    Returns:
        The scales, shape ``(*batch, size)``.

    Raises:
        ValueError: If ``size`` is below 1, or one of the scales is a number that is not positive.
    """
    check_size("size", size)
    check_positive("global_scale", global_scale)
    check_positive("node_scale", node_scale)
    if slab_width is not None:
        check_positive("slab_width", slab_width)
    like = global_scale if isinstance(global_scale, Tensor) else like
    tau = half_cauchy(f"{name}.tau", node_scale, size=size, init=init, like=like)
    s = global_scale.unsqueeze(-1) if isinstance(global_scale, Tensor) and global_scale.dim() else global_scale
    c = slab_width.unsqueeze(-1) if isinstance(slab_width, Tensor) and slab_width.dim() else slab_width
    return regularized_scale(s * tau, c)
