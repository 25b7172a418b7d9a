"""Draws: what Markov chains leave behind."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from bnn_pyro.devices import with_double
from bnn_pyro.posterior.convergence import convergence_problems, entry_names, of_sites
from bnn_pyro.posterior.diagnostics import LEAST_DRAWS, e_bfmi, ess_bulk, ess_tail, r_hat

LEAST_E_BFMI = 0.3  # the usual limit
_COLUMNS = ("mean", "sd", "5 %", "95 %", "R-hat", "ESS bulk", "ESS tail")


@dataclass(frozen=True, eq=False, repr=False)
class Draws:
    """Draws of a model's latents by several Markov chains, and how the chains went.

    Printed, they are a table of all entries with the largest R-hat.

    Attributes:
        values: Site -> values, shape ``(chains, draws, *shape)``: latents, and sites that they determine.
        vectors: The same in the flat unconstrained coordinates of the sampler, shape ``(chains, draws, n)``.
        energy: The potential energy, shape ``(chains, draws)``.
        total_energy: With the kinetic energy that the draw's transition had, shape ``(chains, draws)``.
        acceptance: Acceptance probability, the mean of a draw's transitions, shape ``(chains, draws)``.
        diverged: Number of a draw's transitions whose energy error was beyond all bounds, shape ``(chains, draws)``.
        leapfrogs: Leapfrog steps of a draw's transitions together, shape ``(chains, draws)``.
        step_size: After warm-up, shape ``(chains,)``.
        inverse_mass: After warm-up: the variances, shape ``(chains, n)``, or covariances, ``(chains, n, n)``.
        kernel: Name of the kernel.
        thinning: Transitions a draw.
        seconds: What the run took.
        judged: The sites by which convergence is judged, besides the energy; None for all. Of a network it is none of
            them, as its weights have symmetries that chains need not share: there the predictions tell.
    """

    values: Mapping[str, Tensor]
    vectors: Tensor
    energy: Tensor
    total_energy: Tensor
    acceptance: Tensor
    diverged: Tensor
    leapfrogs: Tensor
    step_size: Tensor
    inverse_mass: Tensor
    kernel: str
    thinning: int
    seconds: float
    judged: tuple[str, ...] | None = None

    @property
    def e_bfmi(self) -> Tensor:
        """Energy Bayesian fraction of missing information, shape ``(chains,)``; below 0.3 it is a warning."""
        return e_bfmi(self.total_energy)

    def stacked(self) -> dict[str, Tensor]:
        """Returns the values of all chains, shape ``(chains * draws, *shape)``, as Pyro's ``Predictive`` takes them."""
        return {name: value.flatten(0, 1) for name, value in self.values.items()}

    def chain(self, number: int) -> "Draws":
        """Returns the draws of one chain, which is still the first dimension.

        Args:
            number: The chain's, from 0.

        Raises:
            ValueError: If there is no such chain.
        """
        if not 0 <= number < len(self.energy):
            raise ValueError(f"number must be that of one of {len(self.energy)} chains, from 0, got {number}")
        own = slice(number, number + 1)
        parts: dict[str, Any] = {name: value[own] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, values={name: value[own] for name, value in self.values.items()}, **parts)

    def summary(self) -> dict[str, dict[str, Tensor]]:
        """Returns mean, standard deviation, R-hat and effective sample sizes.

        Returns:
            Site -> ``mean``, ``sd``, ``r_hat``, ``ess_bulk`` and ``ess_tail``, each of the site's shape.
        """
        return {name: _summary(value) for name, value in self.values.items()}

    def problems(self, *, convergence: bool = True) -> list[str]:
        """Returns what says that the chains are not to be trusted, a sentence each; none is good news.

        Convergence is judged by the energy and by each entry of the sites that are judged
        (:func:`~bnn_pyro.posterior.convergence.convergence_problems`).

        Args:
            convergence: Whether convergence is judged at all.
        """
        found = []
        size = self.energy.shape[0] * self.energy.shape[1]
        if diverged := int(self.diverged.sum()):
            found.append(
                f"{diverged} of {size * self.thinning} transitions diverged: the draws may miss a part of the "
                "posterior; try a larger target_accept (of mclmc a smaller target_error), or another parameterisation"
            )
        if float(least := self.e_bfmi.min()) < LEAST_E_BFMI:
            found.append(f"E-BFMI is {least:.2f}, below {LEAST_E_BFMI}: the chains are slow to reach the tails")
        if not convergence or self.energy.shape[1] < LEAST_DRAWS:
            return found
        values = {name: self.values[name] for name in (self.values if self.judged is None else self.judged)}
        return found + convergence_problems(of_sites(self.energy, values), chains=len(self.energy))

    def table(self, sites: Sequence[str] | None = None, *, rows: int = 40) -> str:
        """Returns mean, sd, quantiles, R-hat and ESS of each entry, and how the chains went, as text.

        Args:
            sites: The sites; None for all.
            rows: Most entries to show: those with the largest R-hat, in the sites' order.

        Returns:
            Lines, the last one without an end.

        Raises:
            ValueError: If a site is unknown, there are fewer than 4 draws, or ``rows`` is below 1.
        """
        for name in sites or ():
            if name not in self.values:
                raise ValueError(f"sites must be of {', '.join(self.values)}, got {name!r}")
        if rows < 1:
            raise ValueError(f"rows must be at least 1, got {rows}")
        entries = [entry for name in sites or self.values for entry in _entries(name, self.values[name])]
        worst = sorted(range(len(entries)), key=lambda number: -_rank(entries[number][1][4]))[:rows]
        shown = [entries[number] for number in sorted(worst)]
        width = max(len(label) for label, _ in shown)
        lines = [" " * width + "".join(f"{name:>11}" for name in _COLUMNS)]
        lines += [label.ljust(width) + "".join(map(_cell, numbers, _COLUMNS)) for label, numbers in shown]
        if len(entries) > rows:
            lines.append(f"... and {len(entries) - rows} entries with a smaller R-hat")
        return "\n".join([*lines, "", self._line(), *(f"! {problem}" for problem in self.problems())])

    def _line(self) -> str:
        chains, draws = self.energy.shape
        least = float(self.e_bfmi.min())
        bfmi = "" if math.isnan(least) else f", E-BFMI {least:.2f}"  # of kernels without a momentum there is none
        return (
            f"{self.kernel}: {chains} chains of {draws} draws in {self.seconds:.1f} s; acceptance "
            f"{self.acceptance.mean():.2f}, step size {self.step_size.mean():.3g}, "
            f"{with_double(self.leapfrogs).double().mean() / self.thinning:.1f} leapfrogs a transition, "
            f"{int(self.diverged.sum())} divergences{bfmi}"
        )

    def __str__(self) -> str:
        return self.table() if self.energy.shape[1] >= LEAST_DRAWS else repr(self)

    def __repr__(self) -> str:
        chains, draws = self.energy.shape
        return f"Draws(of {', '.join(self.values)} by {chains} chains of {draws})"


_T = TypeVar("_T")

_OLD_NAMES = {"steps": "leapfrogs", "acceptances": "acceptance"}


def current_names(content: Mapping[str, _T]) -> dict[str, _T]:
    """Return the fields of saved draws under the names that they have now.

    Args:
        content: The fields as they were saved, by this version or by an older one.
    """
    return {_OLD_NAMES.get(name, name): value for name, value in content.items()}


def _summary(value: Tensor) -> dict[str, Tensor]:
    sd, mean = torch.std_mean(value, (0, 1))
    return {"mean": mean, "sd": sd, "r_hat": r_hat(value), "ess_bulk": ess_bulk(value), "ess_tail": ess_tail(value)}


def _entries(name: str, value: Tensor) -> Iterator[tuple[str, list[float]]]:
    """Yields each entry of a site with its numbers."""
    value = with_double(value)
    summary = _summary(value)
    rows = value.flatten(0, 1).double()
    low, high = (rows.quantile(p, 0) for p in (0.05, 0.95))
    columns = [summary["mean"], summary["sd"], low, high, summary["r_hat"], summary["ess_bulk"], summary["ess_tail"]]
    numbers = torch.stack([column.double() for column in columns], -1).reshape(-1, len(columns)).tolist()
    yield from zip(entry_names(name, value.shape[2:]), numbers, strict=True)


def _rank(ratio: float) -> float:
    return math.inf if math.isnan(ratio) else ratio


def _cell(number: float, column: str) -> str:
    if column.startswith("ESS"):
        return f"{number:>11.0f}"
    return f"{number:>11.3f}" if column == "R-hat" else f"{number:>11.3g}"
