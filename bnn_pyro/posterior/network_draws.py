"""NetworkDraws: draws of a network's tensors, and what the network gives with each of them."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from bnn_pyro.likelihoods.base import latent_site
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.memory import at_once
from bnn_pyro.posterior.threads import HANDLERS

logger = logging.getLogger(__name__)

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
            parts = parts_like(like, x, size)
            return torch.cat([call_all(model.call_net, self.tensors, rows, at_once=draws) for rows in parts], 1)


def parts_like(like: Tensor, x: Tensor, size: int) -> Iterator[Tensor]:
    """Yield inputs some rows at a time, as they may lie in a file that is larger than a device's memory.

    Args:
        like: A tensor of the dtype and on the device wanted.
        x: Inputs, anywhere.
        size: Most rows at a time.
    """
    return (rows.to(like) for rows in x.split(size))


def latent_of(model: SparseNetwork, values: Mapping[str, Tensor]) -> Tensor | None:
    """Return the value of the likelihood's own site among the values of sites; None if it has none.

    Args:
        model: The network.
        values: Latent site -> value.
    """
    with HANDLERS:
        site = latent_site(model.likelihood)
    return None if site is None else values[site]


Call = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""Calls a network with its tensors, by name, and its inputs."""


def call_all(call: Call, tensors: Mapping[str, Tensor], x: Tensor, *, at_once: int) -> Tensor:
    """Call a network with each draw of its tensors: together by ``torch.vmap``, or one after the other.

    Nets that look at values of tensors on their way cannot be called together; a log line says so.

    Args:
        call: Calls the network.
        tensors: Name -> the draws, shape ``(draws, *shape)``.
        x: Inputs as one tensor, shape ``(rows, *input_shape)``.
        at_once: Most draws at a time.

    Returns:
        Outputs, shape ``(draws, rows, ...)``.
    """
    together = torch.vmap(call, in_dims=(0, None), randomness="different", chunk_size=at_once)
    try:
        with nullcontext() if x.is_cuda else sdpa_kernel(SDPBackend.MATH):  # the fused kernel of CPUs takes no draws
            return together(tensors, x)
    except RuntimeError as error:
        first = str(error).strip().partition("\n")[0]
        logger.info("draws are called one after the other, as the net cannot be called with several: %s", first)
    each = zip(*(tensor.unbind() for tensor in tensors.values()), strict=True)
    return torch.stack([call(dict(zip(tensors, draw, strict=True)), x) for draw in each])
