"""Threads that a small network is trained with."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from bnn_pyro.networks.named import is_narrow


@contextmanager
def threads_for(widths: Sequence[int]) -> Iterator[None]:
    """Let torch compute on one thread of the CPU where all layers are narrow; afterwards it has as many as before.

    Args:
        widths: Those of the hidden layers.

    Yields:
        Nothing.
    """
    before = torch.get_num_threads()
    if is_narrow(widths):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
