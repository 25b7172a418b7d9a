"""Answer: what a method says of the test rows, and how far the answers of two methods are apart."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from bnn_pyro.evaluation.agreement import (
    at_least,
    mixture_points,
    mixture_total_variation,
    total_variation,
    wasserstein,
)
from bnn_pyro.evaluation.spacing import evenly_spaced
from bnn_pyro.likelihoods import Classes, Normals
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.diagnostics import ess_bulk, r_hat
from bnn_pyro.posterior.scores import known, scores

Gates = Literal["exact", "relaxed", "none"]
"""Whether gates are exactly 0 or 1, or relaxed to numbers in between, which is another model; none without a spike."""

COMPARED_ROWS, COMPARED_DRAWS = 50, 500
HELD_DRAWS, FRESH_DRAWS = 1000, 250  # to score: of those that a posterior holds, or that it makes one by one


@dataclass(frozen=True, eq=False)
class Sample:
    """Draws of what is predicted for the compared rows, chain after chain.

    Attributes:
        predicted: What each draw predicts.
        values: The function at each row, `(draws, rows)`: the mean of a regression, the probability of a row's label.
        chains: How many chains the draws are of; 1 where they are independent.
    """

    predicted: Classes | Normals
    values: Tensor
    chains: int = 1

    @property
    def by_chain(self) -> Tensor:
        """The values, `(chains, draws, rows)`."""
        found: Tensor = self.values.unflatten(0, (self.chains, -1))
        return found

    def halves(self) -> "tuple[Sample, Sample]":
        """Return one half of the chains and the other, or of the draws where there is one chain."""
        size = len(self.values)
        middle = size // self.chains * (self.chains // 2) if self.chains > 1 else size // 2
        return self._part(torch.arange(middle, device="cpu")), self._part(torch.arange(middle, size, device="cpu"))

    def thinned(self, draws: int = COMPARED_DRAWS) -> "Sample":
        """Return so many of the draws, evenly spaced over all chains.

        Args:
            draws: How many at most.
        """
        size = len(self.values)
        return self._part(evenly_spaced(size, draws))

    def _part(self, chosen: Tensor) -> "Sample":
        chosen = chosen.to(self.values.device)
        predicted: Classes | Normals
        if isinstance(self.predicted, Classes):
            draws = self.predicted.draws[chosen]
            predicted = Classes(draws.mean(0), draws)
        else:
            predicted = Normals(self.predicted.mean[chosen], self.predicted.sd[chosen])
        return Sample(predicted, self.values[chosen])


@dataclass(frozen=True, eq=False)
class Answer:
    """What a method says.

    Attributes:
        gates: Which model it is an answer for.
        scores: Scores on all test rows by name, errors on the original scale.
        sample: Its draws for the compared rows.
        inclusion: Group -> inclusion probability of each node, `(size,)`.
        at_least: Group -> probability that at least k nodes are open, k = 1, ..., size.
        seconds: What the method took.
        details: How it went, as JSON values.
    """

    gates: Gates
    scores: Mapping[str, float]
    sample: Sample
    inclusion: Mapping[str, Tensor]
    at_least: Mapping[str, Tensor]
    seconds: float
    details: Mapping[str, object] = field(default_factory=dict)

    def nodes_open(self) -> dict[str, float]:
        """Return the expected number of open nodes of each group."""
        return {name: float(tail.sum()) for name, tail in self.at_least.items()}

    def convergence(self) -> dict[str, float]:
        """Return what the chains say of the function at the compared rows; nothing where draws are independent.

        Returns:
            `r_hat`, the largest over the rows, `ess`, the smallest, and `ess_per_second`.
        """
        if self.sample.chains == 1:
            return {}
        draws = self.sample.by_chain
        ess = float(ess_bulk(draws).min())
        return {"r_hat": float(r_hat(draws).max()), "ess": ess, "ess_per_second": ess / self.seconds}


def compared_rows(rows: int) -> Tensor:
    """Return the numbers of the rows that answers are compared by, evenly spread.

    Args:
        rows: How many there are.
    """
    return evenly_spaced(rows, COMPARED_ROWS)


@torch.no_grad()
def answer(
    posterior: Posterior,
    test: tuple[Tensor, Tensor],
    *,
    y_std: float = 1.0,
    gates: Gates = "exact",
    seconds: float = 0.0,
    details: Mapping[str, object] | None = None,
) -> Answer:
    """Ask a posterior, which draws from the global random state where it holds no draws.

    Args:
        posterior: The posterior.
        test: (x, y): the test rows.
        y_std: Factor by which the targets were divided.
        gates: Which model it is of.
        seconds: What the method took.
        details: How it went.

    Raises:
        ValueError: If what it predicts is not finite.
    """
    x, y = test
    chosen = compared_rows(len(y)).to(y.device)
    holds_draws = posterior.num_draws is not None
    found = known(posterior.predict(x, num_samples=HELD_DRAWS if holds_draws else FRESH_DRAWS, return_draws=True))
    is_open = posterior.gate_draws()
    compared = known(posterior.predict(x[chosen], return_draws=True)) if holds_draws else _of_rows(found, chosen)
    return Answer(
        gates,
        scores(found, y, y_std=y_std),
        Sample(compared, _values(compared, y[chosen]), posterior.chains),
        {name: gate.double().mean(0) for name, gate in is_open.items()},
        {name: at_least(gate) for name, gate in is_open.items()},
        seconds,
        details or {},
    )


def distances(a: Sample, b: Sample, *, y_std: float = 1.0) -> dict[str, float]:
    """Return how far two samples are apart, over the compared rows.

    Args:
        a: The one.
        b: The other.
        y_std: Factor by which the targets were divided.

    Returns:
        `total_variation` of the predictive distributions, mean over the rows; `wasserstein`, their 1-Wasserstein
        distance in the target's units, or that of the draws of the label's probability, mean over the rows; `r_hat`
        of the function with the two samples as chains, the largest over the rows.
    """
    a, b = a.thinned(), b.thinned()
    if isinstance(a.predicted, Normals) and isinstance(b.predicted, Normals):
        varied = mixture_total_variation(a.predicted, b.predicted)
        moved = y_std * wasserstein(mixture_points(*a.predicted), mixture_points(*b.predicted))
    elif isinstance(a.predicted, Classes) and isinstance(b.predicted, Classes):
        varied = total_variation(a.predicted.probabilities, b.predicted.probabilities)
        moved = wasserstein(a.values, b.values)
    else:
        raise ValueError("a and b must both be of classes or both of a regression, got one of each.")
    size = min(len(a.values), len(b.values))
    chains = torch.stack([a.thinned(size).values, b.thinned(size).values])
    return {
        "total_variation": float(varied.mean()),
        "wasserstein": float(moved.mean()),
        "r_hat": float(r_hat(chains).max()),
    }


def _values(predicted: Classes | Normals, y: Tensor) -> Tensor:
    """Return the function's values at the rows, shape `(draws, rows)`."""
    if isinstance(predicted, Normals):
        return predicted.mean
    return predicted.draws[:, torch.arange(len(y), device=y.device), y]


def _of_rows(predicted: Classes | Normals, rows: Tensor) -> Classes | Normals:
    """Return what is predicted for some of the rows."""
    if isinstance(predicted, Normals):
        return Normals(predicted.mean[:, rows], predicted.sd[:, rows])
    return Classes(predicted.probabilities[rows], predicted.draws[:, rows])
