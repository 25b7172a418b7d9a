"""Moments: running means and squared deviations of what many chains draw, of those draws alone that count."""

import torch
from torch import Tensor

STRENGTH = 5.0  # draws that the moments so far count as, against those of a stretch of the warm-up


class Moments:
    """Running means and squared deviations of entries, of those draws alone that count.

    Args:
        like: An entry for each, shape ``(entries,)``.

    Attributes:
        count: Draws that counted, shape ``(entries,)``.
        mean: Shape ``(entries,)``.
        squares: Sums of squared deviations from the mean, shape ``(entries,)``.
    """

    def __init__(self, like: Tensor) -> None:
        self.count, self.mean, self.squares = (torch.zeros_like(like) for _ in range(3))

    def add(self, values: Tensor, counts: Tensor) -> None:
        """Takes draws.

        Args:
            values: Shape ``(chains, entries)``.
            counts: Which of them count, bool, of the same shape.
        """
        number = counts.sum(0)
        mean = torch.where(counts, values, torch.zeros_like(values)).sum(0) / number.clamp(min=1)
        deviation = torch.where(counts, values - mean, torch.zeros_like(values))
        total = (self.count + number).clamp(min=1)
        self.squares = (
            self.squares + deviation.square().sum(0) + (mean - self.mean).square() * self.count * number / total
        )
        self.mean = self.mean + (mean - self.mean) * number / total
        self.count = self.count + number

    def scale(self, before: Tensor) -> Tensor:
        """Returns standard deviations, drawn a little to what they were.

        Args:
            before: What they were, shape ``(entries,)``.
        """
        return ((self.squares + STRENGTH * before.square()) / (self.count + STRENGTH)).sqrt()
