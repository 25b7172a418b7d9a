"""Answer: what a method says of the test rows, and how far the answers of two methods are apart."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from bnn_pyro.evaluation.agreement import (
    at_least,
    mixture_points,
    mixture_total_variation,
    total_variation,
    wasserstein,
)
from bnn_pyro.evaluation.metrics import classification_metrics, regression_metrics
from bnn_pyro.likelihoods import Classes, Normals
from bnn_pyro.network import gate_site
from bnn_pyro.posterior.diagnostics import ess_bulk, r_hat
from bnn_pyro.posterior.guide import Posterior
from bnn_pyro.posterior.sampled import SampledPosterior

Gates = Literal["exact", "relaxed", "none"]
"""Whether gates are exactly 0 or 1, or relaxed to numbers in between, which is another model; none without a spike."""

COMPARED_ROWS, COMPARED_DRAWS, SCORED_DRAWS = 50, 500, 1000
GUIDE_DRAWS, GATE_DRAWS = 250, 4000  # of a guide, whose draws are made one by one; of its gates, which are independent


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
        return self._part(torch.arange(middle)), self._part(torch.arange(middle, size))

    def thinned(self, draws: int = COMPARED_DRAWS) -> "Sample":
        """Return so many of the draws, evenly spaced over all chains.

        Args:
            draws: How many at most.
        """
        size = len(self.values)
        return self._part(torch.linspace(0, size - 1, min(draws, size)).round().long())

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
    details: Mapping[str, Any] = field(default_factory=dict)

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
    return torch.linspace(0, rows - 1, min(rows, COMPARED_ROWS)).round().long()


@torch.no_grad()
def answer(
    posterior: Posterior,
    test: tuple[Tensor, Tensor],
    *,
    y_std: float = 1.0,
    gates: Gates = "exact",
    seconds: float = 0.0,
    details: Mapping[str, Any] | None = None,
) -> Answer:
    """Ask a posterior, drawing from the global random state where it is a guide.

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
    if isinstance(posterior, SampledPosterior):
        chains, scored, compared = len(posterior.draws.energy), SCORED_DRAWS, posterior.num_draws
    else:
        chains, scored, compared = 1, GUIDE_DRAWS, GUIDE_DRAWS
    found: Any = posterior.predict(x, num_samples=scored, return_draws=True)
    is_open = _open_gates(posterior)
    return Answer(
        gates,
        _scores(found, y, y_std),
        Sample(*_read(_of_rows(posterior, x, found, chosen, compared), y[chosen]), chains),
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


def _read(predicted: Any, y: Tensor) -> tuple[Classes | Normals, Tensor]:
    """Return the predictions, and the function's values at the rows."""
    if isinstance(predicted, Normals):
        return predicted, predicted.mean
    classes = Classes(*predicted)
    return classes, classes.draws[:, torch.arange(len(y), device=y.device), y]


def _scores(predicted: Any, y: Tensor, y_std: float) -> dict[str, float]:
    if isinstance(predicted, Normals):
        return regression_metrics(predicted.mean, predicted.sd, y, y_std=y_std)
    return classification_metrics(predicted.probabilities, y)


def _of_rows(posterior: Posterior, x: Tensor, found: Any, rows: Tensor, size: int) -> Any:
    """Return what so many draws predict for some rows: of those that there are already, where these are enough."""
    if isinstance(posterior, SampledPosterior):
        return posterior.predict(x[rows], num_samples=size, return_draws=True)
    if isinstance(found, Normals):
        return Normals(found.mean[:, rows], found.sd[:, rows])
    return Classes(found.probabilities[rows], found.draws[:, rows])


def _open_gates(posterior: Posterior) -> dict[str, Tensor]:
    """Return whether each gate is open, bool, `(draws, size)`; a guide's gates are independent of each other."""
    if isinstance(posterior, SampledPosterior):
        return {name: posterior.draws.values[gate_site(name)].flatten(0, 1) > 0.5 for name in posterior.model.groups}
    drawn = posterior.inclusion(num_samples=GUIDE_DRAWS).items()
    return {name: torch.rand(GATE_DRAWS, len(gamma), device=gamma.device) < gamma for name, gamma in drawn}
