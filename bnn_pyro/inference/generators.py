"""Seeds of torch's generators and their state, on the CPU and on one device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

RandomState = dict[str, Tensor]


def random_state(device: torch.device) -> RandomState:
    """Returns the state of the generators that a run on a device draws from; nothing waits for the device.

    Args:
        device: The device.
    """
    state = {"cpu": torch.get_rng_state()}
    return state if device.type == "cpu" else state | {device.type: _of_device(device, "get_rng_state")}


def set_random_state(state: RandomState, device: torch.device) -> None:
    """Sets the generators.

    Args:
        state: What :func:`random_state` returned; of a device of another kind only the part of the CPU is used.
        device: The device.
    """
    torch.set_rng_state(state["cpu"])
    if device.type != "cpu" and device.type in state:
        _of_device(device, "set_rng_state", state[device.type])


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """Leaves the generators of the CPU and of one device as they were; those of other devices are not touched.

    Args:
        device: The device.

    Yields:
        Nothing.
    """
    state = random_state(device)
    try:
        yield
    finally:
        set_random_state(state, device)


@contextmanager
def seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Draws random numbers from a seed, on the CPU and one device; afterwards their generators are as they were.

    Args:
        seed: The seed; None draws on from the global random state.
        device: The device.

    Yields:
        Nothing.
    """
    if seed is None:
        yield
        return
    with random_state_kept(device):
        reseed(seed, device)
        yield


def reseed(seed: int, device: torch.device) -> None:
    """Seeds the generators of the CPU and of one device.

    Args:
        seed: The seed.
        device: The device.
    """
    torch.default_generator.manual_seed(seed)  # manual_seed of torch itself would seed every other device too
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def _of_device(device: torch.device, name: str, *arguments: Tensor) -> Any:
    """Return what a function of a device's module gives: of that device, or the only one there is (MPS)."""
    function = getattr(torch.get_device_module(device), name)
    return function(*arguments) if device.type == "mps" else function(*arguments, device)
