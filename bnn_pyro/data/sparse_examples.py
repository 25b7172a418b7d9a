"""Three made-up data sets with a thousand or more correlated inputs of which four or five matter."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

ROWS, TEST_ROWS = 10_240, 1_024
_BOUND = 10.0  # at which the normal draws are truncated
_SEEDS = 2**31  # torch's generator looks at 32 bits of its seed, and train and test rows take one each


@dataclass(frozen=True)
class SparseExample:
    """A data set whose true inputs are known.

    Args:
        name: Its name.
        task: What the targets are.
        inputs: Number of inputs P, of which all pairs have the correlation 1/2.
        relevant: How many of them matter: the first ones.
        truth: The function of the inputs: the mean of a regression's targets; the label is 1 where it is positive.
    """

    name: str
    task: Literal["regression", "classification"]
    inputs: int
    relevant: int
    truth: Callable[[Tensor], Tensor]

    def draw(self, rows: int, seed: int, *, test: bool = False) -> tuple[Tensor, Tensor]:
        r"""Draws rows.

        .. math:: x_{ij} = (r_{i0} + r_{ij}) / \sqrt 2, \qquad r \sim N(0, 1) \text{ truncated at} \pm 10

        and targets with N(0, 1) noise (regression) or without any (classification).

        Args:
            rows: How many.
            seed: Seed of the draw.
            test: Whether they are test rows, which have a random stream of their own.

        Returns:
            Inputs, shape ``(rows, inputs)``, and targets, shape ``(rows,)``: real numbers, or labels 0 and 1.

        Raises:
            ValueError: If rows is below 1 or the seed is negative.
        """
        if rows < 1 or not 0 <= seed < _SEEDS:
            raise ValueError(f"rows must be at least 1 and seed in [0, 2**31), got {rows} and {seed}")
        generator = torch.Generator("cpu").manual_seed(2 * seed + test)
        raw = torch.randn(rows, self.inputs + 1, generator=generator, device="cpu").clamp_(-_BOUND, _BOUND)
        x = (raw[:, :1] + raw[:, 1:]) / math.sqrt(2)
        signal = self.truth(x)
        if self.task == "classification":
            return x, (signal > 0).long()
        return x, signal + torch.randn(rows, generator=generator, device="cpu")


def _first(x: Tensor) -> Tensor:
    x1, x2, x3, x4, x5 = x[:, :5].unbind(1)
    return (2 * (2 * x1 - x2).tanh()).tanh() + 2 * ((x3 - 2 * x4).tanh()).tanh() - (2 * x5).tanh()


def _second(x: Tensor) -> Tensor:
    x1, x2, x3, x4, x5 = x[:, :5].unbind(1)
    return 5 * x2 / (1 + x1.square()) + 5 * (x3 * x4).sin() + 2 * x5


def _third(x: Tensor) -> Tensor:
    x1, x2, x3, x4 = x[:, :4].unbind(1)
    return x1.exp() + x2.square() + 5 * (x3 * x4).sin() - 3


SPARSE_EXAMPLES: Mapping[str, SparseExample] = {
    example.name: example
    for example in (
        SparseExample("example1", "regression", 1000, 5, _first),
        SparseExample("example2", "regression", 2000, 5, _second),
        SparseExample("example3", "classification", 1000, 4, _third),
    )
}
"""The three examples, by name.

Source: Ke and Fan (2022), "On the optimization and pruning for Bayesian deep learning"; the third after Liang, Li and
Zhou (2018), "Bayesian neural networks for selection of drug sensitive genes".
"""
