"""What the hyper-parameters of priors must be; of torch and Python alone, as the priors are."""

import sys
from collections.abc import Sequence
from numbers import Real

from torch import Tensor


def check_real(name: str, value: object) -> None:
    """Check that a hyper-parameter is a number, of whatever size.

    Args:
        name: Its name, for the message.
        value: Its value; True and False are none.

    Raises:
        TypeError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")


def check_positive(name: str, value: float | Tensor) -> None:
    """Check that a hyper-parameter is positive and finite; a tensor is left to what uses it.

    Args:
        name: Its name, for the message.
        value: Its value.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not positive and finite.
    """
    if isinstance(value, Tensor):
        return
    check_real(name, value)
    if not 0 < value <= sys.float_info.max:  # 10**400 is below infinity
        raise ValueError(f"{name} must be positive, got {value} (it must be finite too)")


def check_shape(shape: object, least: int, words: str) -> None:
    """Check the shape of weights.

    Args:
        shape: The shape.
        least: The smallest size.
        words: What a shape must be, for the message.

    Raises:
        TypeError: If it is no sequence of whole numbers.
        ValueError: If it is empty, or a size is below the smallest one.
    """
    sizes = tuple(shape) if isinstance(shape, Sequence) and not isinstance(shape, str) else None
    if sizes is None or not all(isinstance(size, int) and not isinstance(size, bool) for size in sizes):
        raise TypeError(f"shape must {words}: a sequence of whole numbers, got {shape!r}")
    if not sizes or min(sizes) < least:
        raise ValueError(f"shape must {words}, got {sizes}")


def check_size(name: str, value: object) -> None:
    """Check that a number of nodes is a whole number of 1 or more.

    Args:
        name: Its name, for the message.
        value: Its value.

    Raises:
        TypeError: If it is no whole number.
        ValueError: If it is below 1.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
