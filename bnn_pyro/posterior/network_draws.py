"""NetworkDraws: draws of a network's tensors, and what the network gives with each of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bnn_pyro.likelihoods.base import latent_site
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.memory import at_once
from bnn_pyro.posterior.threads import HANDLERS

_DRAWS_AT_ONCE = 64  # so that memory does not grow with the draws


@dataclass(frozen=True, eq=False)
class NetworkDraws:
    """Draws of a network's tensors, all of the same shapes.

    Args:
        model: The network; tensors that are not named below have their values in ``model.net`` in every draw.
        tensors: Name of a parameter or buffer of ``model.net`` -> its value in each draw, gates multiplied in, shape
            ``(draws, *shape)``.
        latent: The likelihood's own latent in each draw, shape ``(draws, *its shape)``; None if it has none.
    """

    model: SparseNetwork
    tensors: Mapping[str, Tensor]
    latent: Tensor | None

    def __len__(self) -> int:
        """Return how many draws there are."""
        return len(next(iter(self.tensors.values())))

    def first(self, count: int) -> "NetworkDraws":
        """Return the first draws, or all if there are fewer.

        Args:
            count: How many.
        """
        tensors = {name: tensor[:count] for name, tensor in self.tensors.items()}
        return replace(self, tensors=tensors, latent=None if self.latent is None else self.latent[:count])

    @torch.no_grad()
    def outputs(self, x: Tensor, batch_size: int) -> Tensor:
        """Return what the network gives, in evaluation mode.

        Args:
            x: Inputs, shape ``(rows, *input_shape)``.
            batch_size: Most rows at a time; there are fewer where activations are large.

        Returns:
            Outputs, shape ``(draws, rows, out)``.
        """
        model, like = self.model, next(self.model.net.parameters())
        with HANDLERS, model.evaluating():
            draws, size = at_once(model, x[:1].to(like), draws=min(len(self), _DRAWS_AT_ONCE), rows=batch_size)
            call = torch.vmap(model.call_net, in_dims=(0, None), randomness="different", chunk_size=draws)
            return torch.cat([call(self.tensors, rows.to(like)) for rows in x.split(size)], 1)


def latent_of(model: SparseNetwork, values: Mapping[str, Tensor]) -> Tensor | None:
    """Return the value of the likelihood's own site among the values of sites; None if it has none.

    Args:
        model: The network.
        values: Latent site -> value.
    """
    with HANDLERS:
        site = latent_site(model.likelihood)
    return None if site is None else values[site]
