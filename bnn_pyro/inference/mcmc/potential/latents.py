"""The latent sites of a model: which they are, and how they lie in one vector."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions.torch_distribution import MaskedDistribution
from pyro.poutine import Trace
from pyro.poutine.subsample_messenger import _Subsample
from torch import Size
from torch.distributions import AffineTransform, Transform, biject_to

from guides.sites import Site, base_distribution, sites_of


@dataclass(frozen=True)
class Latent:
    """A latent site.

    Attributes:
        transform: From unconstrained values to the site's.
        shape: Shape of the unconstrained values.
        dtype: That of the site's values.
    """

    transform: Transform
    shape: Size
    dtype: torch.dtype


def sample_sites(found: Trace) -> dict[str, Site]:
    """Return the sample sites of a trace, without those of plates.

    Args:
        found: The trace.

    Raises:
        ValueError: If a plate subsamples.
    """
    sites = {}
    for name, site in sites_of(found).items():
        if site["type"] != "sample":
            continue
        if not isinstance(site["fn"], _Subsample):
            sites[name] = site
        elif site["fn"].subsample_size is not None and site["fn"].subsample_size < site["fn"].size:
            raise ValueError(f"model must see all rows at once, got plate {name!r} with a subsample")
    return sites


def is_deterministic(site: Site) -> bool:
    """Return whether a site's value follows from other sites, as what a reparameterisation leaves behind does.

    Args:
        site: A sample site.
    """
    return bool(site["is_observed"] and isinstance(site["fn"], MaskedDistribution) and site["fn"]._mask is False)


def laid_out(sites: Mapping[str, Site], constants: Collection[str] = ()) -> dict[str, Latent]:
    """Return how each latent site lies in the vector.

    Args:
        sites: The latent sites, in the vector's order.
        constants: Normals whose location and scale are constants: they lie there less their location, in units of
            their scale where it is below 1, so that a start near 0 is one that the prior allows.

    Raises:
        ValueError: If there is none, or one is discrete.
    """
    latents: dict[str, Latent] = {}
    for name, site in sites.items():
        if site["fn"].support.is_discrete:
            raise ValueError(f"model must have continuous latents, got the discrete site {name!r}: sum it out")
        transform = _standardising(site) if name in constants else biject_to(site["fn"].support)
        latents[name] = Latent(transform, Size(transform.inverse_shape(site["value"].shape)), site["value"].dtype)
    if not latents:
        raise ValueError("model must have a latent site, got none")
    return latents


def _standardising(site: Site) -> Transform:
    """Return the transform to a Normal's values from those less its location, in units of its scale if it is small."""
    normal: Any = base_distribution(site["fn"])
    loc, unit = (part.detach().expand(site["value"].shape) for part in (normal.loc, normal.scale.clamp(max=1)))
    is_plain = bool((loc == 0).all()) and bool((unit == 1).all())
    return biject_to(site["fn"].support) if is_plain else AffineTransform(loc.clone(), unit.clone())
