"""evenly_spaced: some of many rows or draws."""

import torch
from torch import Tensor


def evenly_spaced(size: int, most: int) -> Tensor:
    """Return the numbers of some rows or draws, the first and the last among them, evenly spaced.

    Args:
        size: How many there are.
        most: How many to take; all where there are no more.

    Returns:
        int64, shape ``(min(size, most),)``, on the CPU.
    """
    return torch.linspace(0, size - 1, min(most, size), device="cpu").round().long()
