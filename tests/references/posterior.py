"""Posteriors with published moments, and how far the moments of draws are from those."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.posterior.diagnostics import ess_bulk, r_hat
from bnn_pyro.posterior.draws import Draws

DATA = Path(__file__).parent / "data"
DOUBLE = torch.float64
Values = Mapping[str, Tensor]

LIMIT = 5.0
"""Monte Carlo errors that a moment may be off; of one that is right it is by chance in one of 1.7 million."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """A posterior whose moments somebody else has published.

    Args:
        model: A Pyro model.
        args: Its arguments, in double precision.
        quantities: From the values of its sites, shape ``(chains, draws, ...)``, to what the summary names, shape
            ``(chains, draws, quantities)``, in its order.
        summary: Its name in ``data/summaries.json``.
        noncentered: As in a :class:`~bnn_pyro.inference.mcmc.plan.SamplingPlan`.
    """

    model: Callable[..., object]
    args: tuple[Any, ...]
    quantities: Callable[[Values], Tensor]
    summary: str
    noncentered: bool = True

    def sampled(self, plan: SamplingPlan, *, seed: int, engine: Any = "auto") -> Draws:
        """Return draws of it.

        Args:
            plan: How to sample.
            seed: The seed.
            engine: As for :func:`~bnn_pyro.inference.mcmc.sample.sample`.
        """
        return sample(self.model, self.args, plan, seed=seed, progress=False, engine=engine)


@dataclass(frozen=True, eq=False)
class Comparison:
    """How far the moments of draws are from the published ones.

    Attributes:
        z: Moment -> the difference, in standard errors of both together.
        bias: Largest distance of a mean from the published one, in published standard deviations.
        r_hat: The largest of the quantities.
        ess: The smallest in the bulk.
    """

    z: dict[str, float]
    bias: float
    r_hat: float
    ess: float

    @property
    def largest(self) -> tuple[str, float]:
        """The moment that is farthest off, and how far."""
        return max(self.z.items(), key=lambda item: abs(item[1]))


def load(name: str) -> dict[str, Any]:
    """Return what a data file holds.

    Args:
        name: Its name, without the ending.
    """
    found: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    return found


def bits(text: str) -> Tensor:
    """Return the digits 0 and 1 of a text as numbers.

    Args:
        text: The text.
    """
    return torch.tensor([float(digit) for digit in text], dtype=DOUBLE)


@cache
def _summaries() -> dict[str, Any]:
    return load("summaries")


def compare(name: str, quantities: Tensor) -> Comparison:
    r"""Compare the moments of draws with published ones.

    Where mean squares are published they are compared, and else standard deviations: the logarithm of one from N
    independent draws with the kurtosis k has the variance :math:`(k - 1) / (4 N)`.

    Args:
        name: Name of the summary.
        quantities: Draws of what it names, shape ``(chains, draws, quantities)``.

    Raises:
        ValueError: If there are not as many quantities as the summary names.
    """
    summary = _summaries()[name]
    names = summary["names"]
    if quantities.shape[-1] != len(names):
        raise ValueError(f"quantities must be those of {name}, {len(names)}, got {quantities.shape[-1]}")
    mean, mean_error = (torch.tensor(summary[key], dtype=DOUBLE) for key in ("mean", "mean_error"))
    found, error = _mean_and_error(quantities)
    z = _named(names, "mean", (found - mean) / error.hypot(mean_error))
    if "square" in summary:
        square, square_error = (torch.tensor(summary[key], dtype=DOUBLE) for key in ("square", "square_error"))
        sd = (square - mean.square()).sqrt()
        found_square, error = _mean_and_error(quantities.square())
        z |= _named(names, "mean square", (found_square - square) / error.hypot(square_error))
    else:
        sd = torch.tensor(summary["sd"], dtype=DOUBLE)
        squares = (quantities - found).square()
        variance, error = _mean_and_error(squares)
        published = squares.std((0, 1)) * mean_error / sd  # as if of so many draws as its mean has the error of
        z |= _named(names, "sd", (variance.sqrt() / sd).log() * 2 * variance / error.hypot(published))
    return Comparison(
        z=z,
        bias=float(((found - mean) / sd).abs().max()),
        r_hat=float(r_hat(quantities).max()),
        ess=float(ess_bulk(quantities).min()),
    )


def _mean_and_error(draws: Tensor) -> tuple[Tensor, Tensor]:
    return draws.mean((0, 1)), draws.std((0, 1)) / ess_bulk(draws).sqrt()


def _named(names: list[str], moment: str, values: Tensor) -> dict[str, float]:
    return {f"{moment} of {name}": float(value) for name, value in zip(names, values, strict=True)}


def joined(*sites: str) -> Callable[[Values], Tensor]:
    """Return what takes the entries of sites, one site after another.

    Args:
        *sites: Their names.
    """

    def quantities(values: Values) -> Tensor:
        return torch.cat(
            [values[site].flatten(2) if values[site].dim() > 2 else values[site][..., None] for site in sites], -1
        )

    return quantities
