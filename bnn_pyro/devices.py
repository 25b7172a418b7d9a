"""The device that a run is asked for, checked before anything is read or trained, and what a device cannot do."""

from functools import cache

import torch
from torch import Tensor

COMPUTING = ("cpu", "cuda", "mps", "xpu")  # kinds of devices that torch's own kernels run on


def checked_device(device: str | torch.device) -> torch.device:
    """Return a device that is there.

    Args:
        device: The device, or its name, such as ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises:
        ValueError: If torch has no such kind of device, this machine has none of it, or fewer than its number says.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device must be cpu or cuda, got {device!r}") from error
    if found.type not in COMPUTING:
        raise ValueError(
            f"device must be one of {', '.join(COMPUTING)}, with its number after a colon, got {str(device)!r}"
        )
    if found.type == "cpu":
        return found
    count = device_count(found.type)
    if not count:
        raise ValueError(f"device must be cpu where torch finds no {found.type.upper()} device, got {str(device)!r}")
    if found.index is not None and found.index >= count:
        names = ", ".join(f"{found.type}:{number}" for number in range(count))
        raise ValueError(f"device must be one of those that are there ({names}), got {str(device)!r}")
    return found


def device_count(kind: str) -> int:
    """Return how many devices of a kind this machine has.

    Args:
        kind: ``"cuda"``, ``"mps"`` or ``"xpu"``.
    """
    module = torch.get_device_module(kind)
    is_there = torch.backends.mps.is_available() if kind == "mps" else module.is_available()
    return int(module.device_count()) if is_there else 0


@cache
def has_double(device: torch.device) -> bool:
    """Return whether a device computes in double precision; Apple's MPS does not.

    Args:
        device: The device.
    """
    try:
        torch.empty(0, dtype=torch.float64, device=device)
    except TypeError:
        return False
    return True


def with_double(tensor: Tensor) -> Tensor:
    """Return a tensor where double precision is: where it is already, or else on the CPU.

    Args:
        tensor: The tensor, of any dtype, which stays.
    """
    return tensor if has_double(tensor.device) else tensor.cpu()
