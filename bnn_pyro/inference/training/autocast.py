"""Lower precision where it is safe: inside the network, and nowhere else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

Precision = Literal["bf16"]
PRECISIONS: tuple[Precision | None, ...] = (None, "bf16")


@contextmanager
def computing(net: nn.Module, precision: Precision | None) -> Iterator[None]:
    """Lets a network run in a precision, whoever calls it; what it puts out is in that of its parameters again.

    ``"bf16"`` is torch's autocast: products and convolutions round their operands to bfloat16, what needs range or many
    digits stays in float32. Draws, divergences, gates, scales and likelihood happen outside the network.

    Args:
        net: The network; it is as it was afterwards.
        precision: The precision; None is that of its parameters.

    Yields:
        Nothing.
    """
    if precision is None:
        yield
        return
    like = next(net.parameters())
    entered: list[torch.autocast] = []

    def enter(module: nn.Module, args: object) -> None:
        # without the cache, in which weights that were drawn for one call would stay for the next
        entered.append(torch.autocast(like.device.type, dtype=torch.bfloat16, cache_enabled=False))
        entered[-1].__enter__()

    def leave(module: nn.Module, args: object, output: Tensor) -> Tensor:
        entered.pop().__exit__(None, None, None)
        return output.to(like.dtype)

    hooks = (net.register_forward_pre_hook(enter), net.register_forward_hook(leave))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        while entered:  # the network raised an error
            entered.pop().__exit__(None, None, None)
