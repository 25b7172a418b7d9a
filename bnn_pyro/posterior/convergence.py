"""Whether chains have converged, by all that is asked of them, and which quantity is the worst."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Size, Tensor

from bnn_pyro.posterior.diagnostics import ess_bulk, ess_tail, r_hat

LARGEST_R_HAT, LEAST_ESS = 1.01, 400.0
"""The usual limits: up to which R-hat, and from which effective sample size on, chains are taken at their word."""

_CHAIN_ESS = 100.0  # of each chain, where they are few
_ENTRIES = 512  # judged at a time, so that memory does not grow with a site's size


@dataclass
class _Worst:
    """The worst of many quantities, and how many are beyond the limit.

    Args:
        what: What is measured.
        limit: What is still good.
        is_good: Whether one number is at least as good as another one.
    """

    what: str
    limit: float
    is_good: Callable[[float, float], bool]
    label: str = ""
    value: float = math.nan
    bad: int = 0

    def add(self, labels: list[str], values: Tensor) -> None:
        """Take account of some quantities; of those that are not a number nothing can be said."""
        for label, value in zip(labels, values.tolist(), strict=True):
            if math.isnan(value) or self.is_good(value, self.limit):
                continue
            self.bad += 1
            if not self.label or not self.is_good(value, self.value):
                self.label, self.value = label, value


def convergence_problems(quantities: Iterable[tuple[str, Tensor]], *, chains: int, indexed: bool = True) -> list[str]:
    """Return what says that chains have not converged, a sentence for each diagnostic, with the worst quantity's name.

    R-hat is rank-normalised and folded, and should be at most 1.01; the effective sample sizes of bulk and tails should
    be at least 400, or 100 per chain where that is less. A quantity that is the same in all draws is not judged.

    Args:
        quantities: Names and draws, shape ``(chains, draws, *shape)`` with at least 4 draws.
        chains: How many chains there are.
        indexed: Whether entries are named by their places; if not, by the name alone.

    Source: Vehtari, Gelman, Simpson, Carpenter, Bürkner (2021), *Rank-normalization, folding, and localization: An
    improved R-hat for assessing convergence of MCMC*.
    """
    least = min(LEAST_ESS, _CHAIN_ESS * chains)
    ratio = _Worst("R-hat", LARGEST_R_HAT, lambda one, two: one <= two)
    sizes = [_Worst(f"{kind} ESS", least, lambda one, two: one >= two) for kind in ("bulk", "tail")]
    total, infinite = 0, ""
    for name, draws in quantities:
        for labels, part in _parts(name, draws, indexed):
            total += len(labels)
            finite = torch.isfinite(part).flatten(0, 1).all(0)
            if not bool(finite.all()):
                infinite = infinite or labels[int(finite.logical_not().nonzero()[0])]
            ratio.add(labels, r_hat(part))
            for size, function in zip(sizes, (ess_bulk, ess_tail), strict=True):
                size.add(labels, function(part))
    found = [f"draws of {infinite} are not finite"] if infinite else []
    if ratio.bad:
        found.append(f"{_told(ratio, total, '.3f')}, above {LARGEST_R_HAT}: the chains have not mixed")
    for size in sizes:
        if size.bad:
            found.append(f"{_told(size, total, '.0f')}, below {least:.0f}: draw more")
    return found


def _told(worst: _Worst, total: int, form: str) -> str:
    others = f", the worst of {worst.bad} in {total}" if worst.bad > 1 else ""
    return f"{worst.what} of {worst.label} is {worst.value:{form}}{others}"


def _parts(name: str, draws: Tensor, indexed: bool) -> Iterator[tuple[list[str], Tensor]]:
    """Yield the names and draws of some entries at a time."""
    names = entry_names(name, draws.shape[2:]) if indexed else [name] * draws.shape[2:].numel()
    flat = draws.reshape(*draws.shape[:2], -1)
    for begin in range(0, len(names), _ENTRIES):
        yield names[begin : begin + _ENTRIES], flat[..., begin : begin + _ENTRIES]


def entry_names(name: str, shape: Size) -> list[str]:
    """Return the name of each entry of a site, ``w[0,2]``, in the order of its flattened values.

    Args:
        name: The site's name.
        shape: The site's shape.
    """
    if not shape:
        return [name]
    places = torch.cartesian_prod(*map(torch.arange, shape)).reshape(-1, len(shape)).tolist()
    return [f"{name}[{','.join(map(str, place))}]" for place in places]


def of_sites(energy: Tensor, values: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield what is asked of the chains of a model: the potential energy, and each entry of its sites.

    Args:
        energy: The potential energy, shape ``(chains, draws)``.
        values: Site -> values, shape ``(chains, draws, *shape)``.
    """
    yield "the energy", energy
    yield from ((name, value) for name, value in values.items() if value.is_floating_point())
