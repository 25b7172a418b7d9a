"""A batch in parts, one after the other and side by side in several processes, and the noise that each part gets."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from bnn_pyro.inference.generators import random_state, seeded, set_random_state
from bnn_pyro.inference.training.processes import Processes

Gradients = list[Tensor | None]
LossAndGradients = Callable[[Tensor, Tensor], tuple[Tensor, Gradients]]


@dataclass(frozen=True)
class Part:
    """Rows ``start`` to ``end`` of a batch, the weight of their mean in that of the batch, and the part's number."""

    start: int
    end: int
    weight: float
    number: int


def divide(rows: int, accumulate: int, processes: Processes) -> list[Part]:
    """Returns the parts of a batch that this process computes.

    All parts have the same size; rows that are left over are one more part, which every process computes, at a weight
    that counts it once. So all processes run the same programs. No part has one row alone unless the batch has, as a
    BatchNorm cannot be trained on it.

    Args:
        rows: Rows of the batch.
        accumulate: Parts of equal size for each process.
        processes: The processes.
    """
    count = accumulate * processes.count
    size = rows // count
    size -= rows - size * count == 1
    size = 0 if size < 2 else size
    numbers = range(processes.rank, count if size else 0, processes.count)
    parts = [Part(i * size, (i + 1) * size, size / rows, i) for i in numbers]
    left = rows - size * count
    if left:
        parts.append(Part(rows - left, rows, left / rows / processes.count, count))
    return parts


@dataclass(frozen=True)
class Shares:
    """How the loss and gradients of a step are computed in parts.

    The loss is the mean of the parts' losses, each weighted by its rows. So is the gradient, as every part has the
    whole divergence and a log-likelihood that is scaled to all N rows. The sums are the same in all processes.

    Args:
        accumulate: Parts that a process computes one after the other.
        processes: The processes among which the batch is shared.
        own_noise: Whether every part draws all of its noise itself, the same in whatever process it is computed. Else
            the generators are in the same state before each part, so that all have the same draw of weights, gates and
            scales, and the whole step is that of the undivided batch; what else a network draws (dropout) repeats
            itself.
    """

    accumulate: int = 1
    processes: Processes = Processes()
    own_noise: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether a batch is one part."""
        return self.accumulate == 1 and self.processes.count == 1

    def compute(self, function: LossAndGradients, x: Tensor, y: Tensor) -> tuple[Tensor, Gradients]:
        """Returns the loss and gradients of a batch.

        Args:
            function: From rows to their loss, a mean over them, and its gradients; the same of these are None for all
                rows.
            x: Inputs, shape ``(rows, ...)``.
            y: Observations, shape ``(rows,)``.
        """
        if self.is_whole:
            return function(x, y)
        total: Gradients = []
        with self._noise(x.device) as noise:
            for part in divide(len(x), self.accumulate, self.processes):
                with noise(part.number):
                    loss, gradients = function(x[part.start : part.end], y[part.start : part.end])
                total = _added(total, [loss, *gradients], part.weight)  # now, as the next part may use their memory
        self.processes.add_up(tensor for tensor in total if tensor is not None)
        summed, *rest = total
        return summed if summed is not None else x.new_zeros(()), rest

    @contextmanager
    def _noise(self, device: torch.device) -> Iterator[Callable[[int], AbstractContextManager[None]]]:
        """Yields what surrounds a part, given its number."""
        if self.own_noise:
            seed = int(torch.randint(2**62, (), device="cpu"))
            yield lambda number: seeded(seed + number, device)
            return
        state = random_state(device)

        @contextmanager
        def repeated(number: int) -> Iterator[None]:
            set_random_state(state, device)
            yield

        yield repeated


def _added(total: Gradients, terms: Sequence[Tensor | None], weight: float) -> Gradients:
    """Returns the sum so far with further terms."""
    if not total:
        return [None if term is None else term.mul(weight).contiguous() for term in terms]
    for sum_, term in zip(total, terms, strict=True):
        if sum_ is not None and term is not None:
            sum_.add_(term, alpha=weight)
    return total
