"""What a guide needs to know of a latent site: its kind, its initial value, the gates that multiply it."""

from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from pyro.infer.autoguide.initialization import init_to_median
from pyro.poutine import Trace
from pyro.poutine.runtime import Message
from pyro.poutine.util import site_is_subsample
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, Normal, RelaxedBernoulli, constraints

Kind = Literal["gate", "slab", "scale", "other"]
Site = dict[str, Any]  # a message or a node of Pyro, whose own type does not know that ``fn`` is a distribution
Hints = Mapping[str, Any]  # what a site has in ``infer``
GateHint = int | tuple[int, Tensor]


def sites_of(trace: Trace) -> dict[str, Site]:
    """Returns the nodes of a trace by name, the trace's own dictionary."""
    return cast("dict[str, Site]", trace.nodes)


def is_subsample(site: Site) -> bool:
    """Whether a site is the rows that a plate subsamples."""
    return site_is_subsample(cast("Message[..., object]", site))


def base_distribution(distribution: Distribution) -> Distribution:
    """Returns the distribution inside any number of ``Independent`` wrappers."""
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution


def site_kind(name: str, prior: Distribution) -> Kind:
    """Tells how a latent site is answered: a gate, a slab (Normal), a positive scale, or another continuous site.

    Args:
        name: The site's name, for the message.
        prior: The site's distribution in the model.

    Returns:
        The kind of the site.

    Raises:
        ValueError: If the site is discrete.
    """
    base = base_distribution(prior)
    if isinstance(base, RelaxedBernoulli):
        return "gate"
    if isinstance(base, Normal):
        return "slab"
    support = base.support
    if support is not None and support.is_discrete:
        raise ValueError(
            f"site {name!r} must be continuous, got {type(base).__name__}; draw gates from a RelaxedBernoulli"
        )
    if support in (constraints.positive, constraints.nonnegative) and not base.event_shape:
        return "scale"
    return "other"


def initial_value(site: Site) -> Tensor:
    r"""Returns a good value to start a site's posterior at; usable as ``init_loc_fn`` of Pyro's own guides too.

    A site may bring its own in ``infer={"init": value}``. Otherwise a gate starts at the prior's inclusion probability,
    a slab of two or more dimensions by Kaiming's rule, :math:`U(\pm\sqrt{6/\text{fan-in}})` around the prior's mean,
    any other slab at the prior's mean, and everything else at the prior's median.

    Args:
        site: A site as Pyro gives it to an ``init_loc_fn``: with ``"name"``, ``"fn"`` and perhaps ``"infer"``.

    Returns:
        A value of the site's shape, detached.

    Raises:
        ValueError: If the site's own value does not broadcast to its shape, or the site is discrete.
    """
    prior: Distribution = site["fn"]
    base = base_distribution(prior)
    shape = prior.batch_shape + prior.event_shape
    hint = site.get("infer", {}).get("init")
    if hint is not None:
        value = torch.as_tensor(hint, dtype=site_dtype(base), device=site_device(base)).detach()
        if not _broadcasts(value.shape, shape):
            got, needed = tuple(value.shape), tuple(shape)
            raise ValueError(f"infer['init'] of site {site['name']!r} must broadcast to shape {needed}, got {got}")
        return value.expand(shape).clone()
    if isinstance(base, RelaxedBernoulli):
        return _full(base.probs, shape)
    if isinstance(base, Normal):
        value = _full(base.loc, shape)
        if len(prior.event_shape) > 1:
            bound = (6 / prior.event_shape[1:].numel()) ** 0.5
            value += torch.empty_like(value).uniform_(-bound, bound)
        return value
    site_kind(site["name"], prior)  # refuses a discrete one
    median: Tensor = init_to_median(site, num_samples=101)
    return median.detach()


def _full(value: Tensor, shape: Size) -> Tensor:
    return value.detach().expand(shape).clone()


def _broadcasts(shape: Size, to: Size) -> bool:
    """Whether a tensor of one shape broadcasts to another without making that larger."""
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(reversed(shape), reversed(to), strict=False))


def site_dtype(base: Distribution) -> torch.dtype:
    """Returns the dtype of a distribution's draws."""
    return _a_parameter(base).dtype


def site_device(base: Distribution) -> torch.device:
    """Returns the device of a distribution's draws."""
    return _a_parameter(base).device


def _a_parameter(base: Distribution) -> Tensor:
    values = (getattr(base, name, None) for name in base.arg_constraints)
    return next((v for v in values if isinstance(v, Tensor)), torch.empty(()))


def gate_product(
    hints: Mapping[str, GateHint | list[GateHint]], probabilities: Mapping[str, Tensor], slab: Distribution
) -> Tensor | None:
    r"""Returns the probability :math:`\prod_g \gamma_g` that all gates of a slab are open, to broadcast against it.

    Args:
        hints: Gate site -> the slab's dimension (negative) along which its last axis lies, or ``(dimension, index)``
            where ``index[i]`` is the gate of position i, -1 for none; or a list of two of these where one gate stands
            at both ends.
        probabilities: Gate site -> inclusion probabilities, shape ``(*batch, gates)``.
        slab: The slab's prior.

    Returns:
        The product, or None where no gate is named.

    Raises:
        ValueError: If a hint names a site that is not a gate drawn earlier, or its gates do not fit the slab's shape.
    """
    product: Tensor | None = None
    for name, hint in hints.items():
        if name not in probabilities:
            known = ", ".join(sorted(probabilities)) or "none"
            raise ValueError(f"infer['gates'] must name gate sites drawn before the slab, got {name!r}; known: {known}")
        factor = _joint(probabilities[name], hint if isinstance(hint, list) else [hint], len(slab.event_shape))
        if not _broadcasts(factor.shape, slab.batch_shape + slab.event_shape):
            got, needed = tuple(factor.shape), tuple(slab.batch_shape + slab.event_shape)
            raise ValueError(f"infer['gates'][{name!r}] must lay its gates along a slab of shape {needed}, got {got}")
        product = factor if product is None else product * factor
    return product


def _joint(probability: Tensor, hints: list[GateHint], event_dim: int) -> Tensor:
    """Returns the probability that a site's gates at given places are open: a gate that meets itself counts once."""
    aligned = [align_gate(probability, hint, event_dim=event_dim) for hint in hints]
    if len(hints) == 1 or probability.dim() == 0:
        return aligned[0]
    if len(hints) != 2:
        raise ValueError(f"a gate site may stand at one or two places of a slab, got {len(hints)}")
    positions = torch.arange(probability.shape[-1], device=probability.device)
    first, second = (align_gate(positions, hint, absent=-1 - i) for i, hint in enumerate(hints))
    return torch.where(first == second, aligned[0], aligned[0] * aligned[1])


def align_gate(value: Tensor, hint: GateHint, *, event_dim: int = 0, absent: int = 1) -> Tensor:
    """Lays a gate's last axis along a dimension of the weight that it multiplies.

    Args:
        value: Gates or their probabilities, shape ``(*batch, gates)``; a scalar multiplies everything.
        hint: A negative dimension of the weight, or ``(dimension, index)`` with -1 in ``index`` for positions without a
            gate.
        event_dim: Number of event dimensions of the weight; those of ``batch`` come to stand left of them.
        absent: The value at positions without a gate.

    Returns:
        A tensor that broadcasts against the weight.

    Raises:
        ValueError: If the dimension is not negative.
    """
    dim, index = (hint, None) if isinstance(hint, int) else hint
    if dim >= 0:
        raise ValueError(f"a gate's dimension must be negative (counted from the right), got {dim}")
    if index is not None:
        none = torch.full((*value.shape[:-1], 1), absent, dtype=value.dtype, device=value.device)
        value = torch.cat([value, none], -1)[..., index.to(value.device)]
    if value.dim() == 0:
        return value
    return value.reshape(*value.shape[:-1], *[1] * (event_dim + dim), value.shape[-1], *[1] * (-dim - 1))
