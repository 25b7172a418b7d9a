"""The state of torch's generators, on the CPU and on one device."""

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
