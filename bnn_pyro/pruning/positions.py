"""Positions that stay when nodes are removed: cut by them, put back, composed."""

from collections.abc import Mapping

import torch
from torch import Tensor

Positions = dict[str, dict[int, Tensor]]


def select(value: Tensor, dims: Mapping[int, Tensor]) -> Tensor:
    """Returns the kept positions of a tensor along each dimension.

    Args:
        value: A tensor of the unshrunk shape.
        dims: Dimension -> positions.

    Returns:
        The smaller tensor, a copy where anything is removed.
    """
    for dim, kept in dims.items():
        value = value.index_select(dim, kept.to(value.device))
    return value


def put_back(whole: Tensor, part: Tensor, dims: Mapping[int, Tensor]) -> None:
    """Writes a shrunk tensor back to where it stood, in place.

    Args:
        whole: The tensor of the unshrunk shape.
        part: The smaller tensor.
        dims: Dimension -> positions in ``whole``.
    """
    with torch.no_grad():
        if not dims:
            whole.copy_(part)
            return
        everything = [torch.arange(size, device=whole.device) for size in whole.shape]
        places = [dims.get(d, every).to(whole.device) for d, every in enumerate(everything)]
        whole[torch.meshgrid(*places, indexing="ij")] = part


def compose(first: Positions, second: Positions) -> Positions:
    """Returns the positions in the original of what two shrinkings, one after the other, have kept."""
    composed: Positions = {name: dict(dims) for name, dims in first.items()}
    for name, dims in second.items():
        before = composed.setdefault(name, {})
        for dim, kept in dims.items():
            before[dim] = before[dim][kept.to(before[dim].device)] if dim in before else kept
    return composed
