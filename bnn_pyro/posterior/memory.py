"""How many draws and rows a network is called with at once, so that memory does not grow with either."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from bnn_pyro.network import SparseNetwork

# A call takes some five times the first, and drawing twice the second; 2**28 each took 3.2 GB for a ResNet-18.
_ACTIVATION_BYTES = 2**26  # of the largest output of a module, for all draws and rows of one call
_PARAMETER_BYTES = 2**27  # of the parameters of all draws that are held together
_HELD_BYTES = 2**30  # of those of all draws that a posterior keeps
_LEAST_ROWS = 16  # for which fewer draws are taken at once, as products of a few rows are slow


def at_once(model: SparseNetwork, example: Tensor, *, draws: int, rows: int) -> tuple[int, int]:
    """Return how many draws and rows to call a network with at once.

    Small networks are called with all of them. The largest output of a module, for one row, says how much memory a call
    takes; it is found by calling the network with an example.

    Args:
        model: The network.
        example: One row of inputs, on its device and of its dtype.
        draws: The most draws.
        rows: The most rows.

    Returns:
        Draws and rows, each at least 1.
    """
    cells = max(1, _largest_output(model, example)) * example.element_size()
    most = max(1, _ACTIVATION_BYTES // cells)
    draws = max(1, min(draws, most // min(rows, _LEAST_ROWS)))
    return draws, max(1, min(rows, most // draws))


def draws_at_once(model: SparseNetwork, draws: int) -> int:
    """Return how many draws of a network's parameters to hold together.

    Args:
        model: The network.
        draws: The most.

    Returns:
        A number from 1 to ``draws``.
    """
    return max(1, min(draws, _PARAMETER_BYTES // max(1, _draw_bytes(model))))


def draws_held(model: SparseNetwork, draws: int) -> int:
    """Return how many draws of a network's parameters to keep for good.

    Args:
        model: The network.
        draws: The most.

    Returns:
        A number from 1 to ``draws``.
    """
    return max(1, min(draws, _HELD_BYTES // max(1, _draw_bytes(model))))


def _draw_bytes(model: SparseNetwork) -> int:
    return sum(math.prod(p.shape) for p in model.bayesian) * next(model.net.parameters()).element_size()


def joined(parts: Iterable[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor | None]:
    """Return outputs and latents of parts of the draws as those of all draws.

    Args:
        parts: Of each part outputs, shape ``(draws, rows, out)``, and latents, shape ``(draws, ...)``, or None.
    """
    outputs, latents = zip(*parts, strict=True)
    return torch.cat(outputs), None if latents[0] is None else torch.cat(latents)


@torch.no_grad()
def _largest_output(model: SparseNetwork, example: Tensor) -> int:
    """Return how many numbers the largest output of a module of the net has."""
    found = [example.numel()]

    def see(_: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            found.append(output.numel())

    handles = [module.register_forward_hook(see) for module in model.net.modules()]
    try:
        model.call_net({}, example)
    finally:
        for handle in handles:
            handle.remove()
    return max(found)
