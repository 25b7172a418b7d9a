"""Draws of a network's tensors, and calls of the network with all of them."""

import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from bnn_pyro.network import SparseNetwork

logger = logging.getLogger(__name__)


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
