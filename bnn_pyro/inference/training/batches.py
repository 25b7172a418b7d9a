"""Mini-batches on the device, of rows that are there already, or that lie in a file."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnn_pyro.data.mapped import prefetched

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


def normalises(net: nn.Module) -> bool:
    """Return whether a net has a BatchNorm, which cannot be trained on one row alone.

    Args:
        net: The net.
    """
    return any(isinstance(module, _BatchNorm) for module in net.modules())


def sizes_of_batches(rows: int, size: int, *, join: bool = False) -> list[int]:
    """Return how many rows the batches of an epoch have.

    Args:
        rows: Number of rows.
        size: Rows a batch.
        join: Whether one row that is left over joins the batch before.
    """
    sizes = [size] * (rows // size) + ([rows % size] if rows % size else [])
    if join and len(sizes) > 1 and sizes[-1] == 1:
        sizes[-2:] = [sizes[-2] + 1]
    return sizes


def batches(
    x: Tensor, y: Tensor, size: int, augmentation: Change | None = None, *, join: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the rows in random order, ``size`` at a time, the rest in a last smaller batch.

    Inputs that lie in a file are read by a thread, a batch ahead. For a CUDA device they go to pinned memory first,
    from which they are copied without a wait of the host.

    Args:
        x: Inputs, shape ``(rows, ...)``, on the device of ``y``, or in a file.
        y: Observations, shape ``(rows,)``.
        size: Rows a batch.
        augmentation: What changes a batch's inputs at random; None leaves them as they are.
        join: Whether one row that is left over joins the batch before, as a net with a BatchNorm needs it.

    Yields:
        Inputs and observations of a batch, on the device of ``y``.

    Raises:
        ValueError: If ``augmentation`` gives inputs of another shape, dtype or device.
    """
    sizes = sizes_of_batches(len(x), size, join=join)
    order = torch.randperm(len(x), device=y.device)
    inputs = prefetched(x, order.to(x.device).split(sizes), is_pinned=y.is_cuda)
    for some, rows in zip(inputs, order.split(sizes), strict=True):
        some = some.to(y.device, non_blocking=True)
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
