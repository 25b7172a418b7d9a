"""Three programs for Pyro's NUTS, as they are and with one changed import.

    python benchmarks/drop_in.py
    python benchmarks/drop_in.py --quick --programs schools

The programs are of the kinds of Pyro's examples, written anew: eight schools, batting averages with partial pooling,
and a logistic regression. Each runs by ``pyro.infer.MCMC`` and by ``bnn_pyro.inference.MCMC``, which is given the same
kernel object, with the same numbers of draws. Seconds are the processor's, all of the run, tracing included. ``apart``
is the largest distance of the two means of an entry, in standard errors of both together, ``apart_in_sd`` in posterior
standard deviations; the entries are those of all sites that both give.
"""

import warnings
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import timing
import torch
from pyro.infer import NUTS
from sampler_contestants import clock
from torch import Tensor

from bnn_pyro.inference import MCMC
from bnn_pyro.posterior.diagnostics import ess_bulk, r_hat

SETTINGS = {"num_samples": 200, "warmup_steps": 200, "num_chains": 2}
Data = tuple[Tensor, ...]


# ---- programs --------------------------------------------------------------------------------------------------------


def schools(sigma: Tensor, y: Tensor) -> None:
    """Eight effects about a common mean.

    Args:
        sigma: Errors of the measurements.
        y: The measurements.
    """
    mean = pyro.sample("mean", dist.Normal(0.0, 10.0))
    spread = pyro.sample("spread", dist.HalfCauchy(25.0))
    with pyro.plate("schools", len(y)):
        unit = pyro.sample("unit", dist.Normal(0.0, 1.0))
        effect = pyro.deterministic("effect", mean + spread * unit)
        pyro.sample("y", dist.Normal(effect, sigma), obs=y)


def batting(at_bats: Tensor, hits: Tensor) -> None:
    """Chances of players to hit, about a common chance.

    Args:
        at_bats: How often each was at bat.
        hits: How often he hit.
    """
    chance = pyro.sample("chance", dist.Uniform(0.0, 1.0))
    kappa = pyro.sample("kappa", dist.Pareto(1.0, 1.5))
    with pyro.plate("players", len(hits)):
        own = pyro.sample("own", dist.Beta(chance * kappa, (1 - chance) * kappa))
        pyro.sample("hits", dist.Binomial(at_bats, own), obs=hits)


def logistic(x: Tensor, y: Tensor) -> None:
    """A logistic regression.

    Args:
        x: Columns.
        y: 0 or 1.
    """
    intercept = pyro.sample("intercept", dist.Normal(0.0, 3.0))
    weight = pyro.sample("weight", dist.Normal(0.0, 1.0).expand(x.shape[1:]).to_event(1))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Bernoulli(logits=x @ weight + intercept), obs=y)


def _schools() -> Data:
    y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    return torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]), y


def _batting() -> Data:
    chance = torch.Generator().manual_seed(0)
    at_bats = torch.full((18,), 45.0)
    own = 0.2 + 0.15 * torch.rand(18, generator=chance)
    return at_bats, torch.binomial(at_bats, own, generator=chance)


def _logistic() -> Data:
    chance = torch.Generator().manual_seed(0)
    x = torch.randn(200, 6, generator=chance)
    truth = torch.tensor([1.0, -1.0, 0.5, 0.0, 0.0, 0.0])
    return x, torch.bernoulli(torch.sigmoid(x @ truth + 0.5), generator=chance)


PROGRAMS: dict[str, tuple[Callable[..., None], Callable[[], Data]]] = {
    "schools": (schools, _schools),
    "batting": (batting, _batting),
    "logistic": (logistic, _logistic),
}
CLASSES: dict[str, Any] = {"pyro.infer.MCMC": pyro.infer.MCMC, "bnn_pyro.inference.MCMC": MCMC}


# ---- rows ------------------------------------------------------------------------------------------------------------


def run(name: str, which: str, settings: dict[str, int]) -> tuple[dict[str, Tensor], float]:
    """Run a program.

    Args:
        name: Name of the program.
        which: Name of the class.
        settings: Draws, warm-up and chains.

    Returns:
        Site -> draws, shape ``(chains, draws, entries)``, and the seconds.
    """
    model, data = PROGRAMS[name]
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    spent: dict[str, float] = {}
    args = data()
    chains: list[dict[str, Tensor]] = []
    with clock(spent, "all"):
        # Pyro runs several chains in processes, whose seconds are not this one's: it gets them one by one
        calls = settings["num_chains"] if which.startswith("pyro") else 1
        for _ in range(calls):
            options = settings | {"num_chains": settings["num_chains"] // calls, "disable_progbar": True}
            mcmc = CLASSES[which](NUTS(model), **options)
            mcmc.run(*args)
            chains.append(mcmc.get_samples(group_by_chain=True))
    joined = {site: torch.cat([part[site] for part in chains]) for site in chains[0]}
    return {site: value.reshape(*value.shape[:2], -1) for site, value in joined.items()}, spent["all"]


def rows_of(name: str, settings: dict[str, int]) -> list[timing.Row]:
    """Return the rows of a program, Pyro's first.

    Args:
        name: Name of the program.
        settings: Draws, warm-up and chains.
    """
    found = {which: run(name, which, settings) for which in CLASSES}
    (theirs, before), (ours, after) = found.values()
    rows = []
    for which, (draws, seconds) in found.items():
        every = torch.cat([draws[site] for site in sorted(theirs.keys() & ours.keys())], -1)
        ess, hat = float(ess_bulk(every).min()), float(r_hat(every).max())
        rows.append({"program": name, "class": which, **settings, "seconds": seconds, "ess": ess, "r_hat": hat})
    first, second = (
        torch.cat([part[site] for site in sorted(theirs.keys() & ours.keys())], -1) for part in (theirs, ours)
    )
    error = sum((part.var((0, 1)) / ess_bulk(part) for part in (first, second)), torch.zeros(())).sqrt()
    distance = (first.mean((0, 1)) - second.mean((0, 1))).abs()
    rows[1] |= {"apart": float((distance / error).max()), "apart_in_sd": float((distance / first.std((0, 1))).max())}
    rows[1] |= {"times_as_fast": before / after}
    return rows


def _options() -> Namespace:
    parser = timing.parser(__doc__, "drop_in")
    parser.add_argument("--programs", nargs="*", default=list(PROGRAMS), choices=list(PROGRAMS))
    return parser.parse_args()


def main() -> None:
    """Run the programs; print the rows and write the JSON."""
    options = _options()
    timing.prepare(options.threads)
    warnings.filterwarnings("ignore")
    settings = SETTINGS | ({"num_samples": 20, "warmup_steps": 20} if options.quick else {})
    rows: list[timing.Row] = []
    for name in options.programs:
        rows += [timing.origin() | row for row in rows_of(name, settings)]
        print(
            *({key: row[key] for key in row if key not in ("versions", "settings")} for row in rows[-2:]),
            sep="\n",
            flush=True,
        )
        ratios = {row["program"]: row["times_as_fast"] for row in rows if "times_as_fast" in row}
        timing.write(options.out, rows, ratios)


if __name__ == "__main__":
    main()
