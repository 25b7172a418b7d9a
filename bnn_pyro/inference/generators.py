"""Seeds of torch's generators and their state, on the CPU and on one device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

RandomState = dict[str, Tensor]


def random_state(device: torch.device) -> RandomState:
    """Returns the state of the generators that a run on a device draws from; nothing waits for the device.

    Args:
        device: The device.
    """
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def set_random_state(state: RandomState, device: torch.device) -> None:
    """Sets the generators.

    Args:
        state: What :func:`random_state` returned; of a device of another kind only the part of the CPU is used.
        device: The device.
    """
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Draws random numbers from a seed, on the CPU and one device; afterwards their generators are as they were.

    Args:
        seed: The seed; None draws on from the global random state.
        device: The device.

    Yields:
        Nothing.
    """
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(cuda, enabled=seed is not None):
        if seed is not None:
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
