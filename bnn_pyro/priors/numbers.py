"""Numbers of a prior as tensors where the model's tensors are."""

import torch
from torch import Tensor


def as_tensor(value: float | Tensor, like: Tensor | None) -> Tensor:
    """Return a number as a tensor of shape ``()``, filled in on its device, for which nothing waits; tensors as is.

    Args:
        value: The number, or a tensor.
        like: A floating-point tensor whose dtype and device it takes; torch's defaults if None.

    Raises:
        ValueError: If ``like`` is a tensor of whole numbers.
    """
    if isinstance(value, Tensor):
        return value
    if like is None:
        return torch.full((), float(value))
    if not like.is_floating_point():
        raise ValueError(f"like must be a floating-point tensor, such as the inputs, got one of {like.dtype}")
    return torch.full((), float(value), dtype=like.dtype, device=like.device)
