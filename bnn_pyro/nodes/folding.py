"""Operations that make one channel of several: gated linear units and pixel shuffles.

A dependency graph takes each operation without parameters to keep channels one for one. These fold them: of n channels
they make n / 2, or n / r² for an upscaling by r.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

_IN_HALVES = ("GluBackward",)  # channel c of the result is made of c and c + n / 2
_IN_RUNS = ("PixelShuffleBackward",)  # channel c of the result is made of a run of channels


def is_folding(operation: str) -> bool:
    """Tell whether an operation makes one channel of several.

    Args:
        operation: Name of the class of its autograd function.
    """
    return operation.startswith((*_IN_HALVES, *_IN_RUNS))


def folded(operation: str, channels: Numbers, before: int, after: int) -> Numbers:
    """Return which channel of the result each channel of the input is part of.

    Args:
        operation: Name of the class of the operation's autograd function.
        channels: Numbers of channels of the input.
        before: How many channels the input has.
        after: How many the result has.
    """
    return channels % after if operation.startswith(_IN_HALVES) else channels // (before // after)


def unfolded(operation: str, channels: Numbers, before: int, after: int) -> tuple[Numbers, Numbers]:
    """Return the channels of the input that channels of the result are made of.

    Args:
        operation: Name of the class of the operation's autograd function.
        channels: Numbers of channels of the result.
        before: How many channels the input has.
        after: How many the result has.

    Returns:
        The channels of the result, each as often as it is made of channels, and these, one for one.
    """
    inputs = np.arange(before)
    results = folded(operation, inputs, before, after)
    is_wanted = np.isin(results, channels)
    return results[is_wanted], inputs[is_wanted]
