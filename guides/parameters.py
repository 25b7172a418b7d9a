"""The parameters of a guide, by role and site: ``locs``, ``scales`` and ``logits`` hold one for each site."""

from collections.abc import Sequence
from operator import attrgetter

import torch
from pyro.nn import PyroModule, PyroParam
from pyro.poutine.indep_messenger import CondIndepStackFrame
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

_REAL: Constraint = constraints.real


def store_parameter(
    guide: nn.Module,
    role: str,
    site: str,
    value: Tensor,
    event_dim: int,
    frames: Sequence[CondIndepStackFrame],
    *,
    constraint: Constraint = _REAL,
) -> None:
    """Registers one parameter of a guide, repeated to the full size of every plate that subsamples.

    Args:
        guide: The guide, a PyroModule.
        role: ``"locs"``, ``"scales"`` or ``"logits"``.
        site: The site's name; dots in it make modules inside one another.
        value: Initial value.
        event_dim: Number of event dimensions of the parameter.
        frames: The plates around the site.
        constraint: Where the parameter's values lie.

    Raises:
        ValueError: If the value is not finite, or the site cannot stand beside the others by name.
    """
    if not torch.isfinite(value).all():
        raise ValueError(f"the initial value of site {site!r} must lie inside its support, not on its border")
    for frame in frames:
        full = frame.full_size or frame.size
        dim = frame.dim - event_dim if frame.dim is not None else 0
        if frame.size != full and -value.dim() <= dim < 0:
            repeats = -(-full // value.shape[dim])
            value = torch.cat([value] * repeats, dim).narrow(dim, 0, full)
    owner: object = guide
    *path, last = f"{role}.{site}".split(".")
    for part in path:
        _check_name(site, part != "")
        if not hasattr(owner, part):
            setattr(owner, part, PyroModule())
        owner = getattr(owner, part)
        _check_name(site, isinstance(owner, PyroModule))
    _check_name(site, last != "" and not hasattr(owner, last))
    setattr(owner, last, PyroParam(value.contiguous(), constraint=constraint, event_dim=event_dim))


def stored_parameter(guide: nn.Module, role: str, site: str) -> Tensor:
    """Returns the value of one parameter of a guide.

    Args:
        guide: The guide.
        role: ``"locs"``, ``"scales"`` or ``"logits"``.
        site: The site's name.
    """
    value: Tensor = attrgetter(f"{role}.{site}")(guide)
    return value


def _check_name(name: str, free: bool) -> None:
    if not free:
        raise ValueError(
            f"site names must not begin with one another up to a dot, nor have a module's attribute between dots, "
            f"got {name!r}: rename it"
        )
