"""Mini-batches that stay on the device."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from bnn_pyro.data.mapped import gathered

Change = Callable[[Tensor], Tensor]
"""What changes a batch of inputs at random and leaves what they show as it is, such as an ``Augmentation``."""


def check_augmentation(augmentation: object) -> None:
    """Checks what is to change inputs at random.

    Args:
        augmentation: The function, or None for none.

    Raises:
        ValueError: If it cannot be called.
    """
    if augmentation is not None and (isinstance(augmentation, type) or not callable(augmentation)):
        raise ValueError(
            f"augmentation must be a function from inputs to inputs, such as an Augmentation, got {augmentation!r}"
        )


def batches(x: Tensor, y: Tensor, size: int, augmentation: Change | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the rows in random order, ``size`` at a time, the rest in a last smaller batch; all on the data's device.

    Args:
        x: Inputs, shape ``(rows, ...)``.
        y: Observations, shape ``(rows,)``.
        size: Rows a batch.
        augmentation: What changes a batch's inputs at random; None leaves them as they are.

    Yields:
        Inputs and observations of a batch.

    Raises:
        ValueError: If ``augmentation`` gives inputs of another shape, dtype or device.
    """
    order = torch.randperm(len(x), device=x.device)
    for rows in order.split(size):
        some = gathered(x, rows)
        yield some if augmentation is None else _changed(some, augmentation), y[rows]


@torch.no_grad()
def _changed(x: Tensor, augmentation: Change) -> Tensor:
    changed = augmentation(x)
    if not isinstance(changed, Tensor) or (changed.shape, changed.dtype, changed.device) != (
        x.shape,
        x.dtype,
        x.device,
    ):
        got = (
            f"shape {tuple(changed.shape)}, {changed.dtype}, {changed.device}"
            if isinstance(changed, Tensor)
            else type(changed).__name__
        )
        raise ValueError(
            f"augmentation must return inputs of shape {tuple(x.shape)}, {x.dtype}, on {x.device}, like those it is "
            f"given, got {got}"
        )
    return changed
