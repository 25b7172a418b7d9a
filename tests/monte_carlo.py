"""Statistical comparisons whose rate of false alarms is known.

An estimate lies more than 5 standard errors off in one of 1.7 million cases, so a test of a few dozen comparisons fails
by chance less than once in 50,000 runs; and as every test starts from the same seed, it fails always or never.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def assert_mean(draws: Tensor, expected: Tensor | float, *, errors: float = 5.0) -> None:
    """Compares the mean of independent draws along the first axis with its exact value.

    Args:
        draws: Independent draws, shape ``(draws, ...)``.
        expected: The exact mean, broadcastable to ``(...)``.
        errors: Standard errors by which an entry may be off.
    """
    mean, error = draws.mean(0), draws.std(0) / len(draws) ** 0.5
    distance = (mean - torch.as_tensor(expected)).abs()
    assert (distance <= errors * error + 1e-12).all(), f"{mean} +- {error} must be {expected}"


def assert_distribution(draws: Tensor, cdf: Callable[[Tensor], Tensor]) -> None:
    """Compares draws with a continuous distribution (Kolmogorov); a false alarm in one of 50,000 cases.

    Args:
        draws: Independent draws, shape ``(draws,)``.
        cdf: Cumulative distribution function.
    """
    count = len(draws)
    expected, steps = cdf(draws.sort().values), torch.arange(count + 1, dtype=draws.dtype) / count
    largest = torch.maximum((steps[1:] - expected).abs(), (expected - steps[:-1]).abs()).max()
    assert largest * count**0.5 < 2.4, f"the largest distance of the two is {float(largest)} for {count} draws"
