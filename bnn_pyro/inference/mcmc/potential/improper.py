"""A value for sites whose distribution has none: improper priors, which cannot be drawn from."""

import torch
from pyro.distributions import ImproperUniform
from pyro.poutine.messenger import Messenger
from torch import Size, Tensor
from torch.distributions import biject_to

from guides.sites import Site, base_distribution


class ImproperValues(Messenger):
    """Gives latent sites with an ``ImproperUniform`` prior the value that unconstrained zeros stand for.

    Args:
        device: Where the values are to be, as the distribution has no parameter that tells.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        super().__init__()
        self.device = device

    def _pyro_sample(self, message: Site) -> None:
        if message["value"] is None and is_improper(message):
            message["value"] = improper_value(message, self.device)


def is_improper(site: Site) -> bool:
    """Return whether a site's distribution is an ``ImproperUniform``.

    Args:
        site: A sample site.
    """
    return isinstance(base_distribution(site["fn"]), ImproperUniform)


def improper_value(site: Site, device: torch.device | None = None) -> Tensor:
    """Return the value that unconstrained zeros stand for: 0 of a real number, 1 of a positive one.

    Args:
        site: A site whose distribution is an ``ImproperUniform``.
        device: Where the value is to be.
    """
    prior = site["fn"]
    transform = biject_to(prior.support)
    shape = Size(transform.inverse_shape(prior.batch_shape + prior.event_shape))
    value: Tensor = transform(torch.zeros(shape, device=device))
    return value
