"""Effective draws a second: our NUTS and batch of chains against Pyro's and NumPyro's NUTS, on the same posteriors.

    python benchmarks/samplers.py --data-dir DATA
    python benchmarks/samplers.py --data-dir DATA --quick --cases yacht-10

What is not run again stays in the results.

The posterior is that of a perceptron with one hidden layer (SiLU), a spike-and-slab prior with a Gaussian slab (SS-IG,
relaxed gates of temperature 1/2, inclusion 1/2) and a noise of known standard deviation 1/2 on standardised targets.
Learned, the noise falls to .03 on yacht, and chains of no sampler meet within minutes. As the slab's scale is known
too, what is looked at is the network's function at 20 test points and the sum of the gates, none of which depends on
the order of the nodes; a contestant's effective sample size is the smallest of those 21, in the bulk. Pyro takes hours
to show its own: with ``--short`` its leapfrog steps are timed, in trees of at most 128, and the effective draws a step
are those of our NUTS, which is Pyro's with the same trees.

``ours-batch`` is ChEES; ``ours-mams`` and ``ours-mclmc`` are the microcanonical kernels, the latter with a bias that
``microcanonical.py`` measures. A step of theirs has two gradients, which are counted as leapfrog steps here.

Each runs on one thread, in single precision, at its own defaults. Seconds are those of the processor that the process
had, as others use the machine; the ratios are of sampling alone, warm-up and compiling are given separately. NumPyro
compiles at each run, so that its sampling is timed by the difference of two lengths. ``leapfrog_rates.py`` has them
turn by turn.
"""

import json
import os
import warnings
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import timing
import torch
from sampler_contestants import Case, Found, numpyros_nuts, ours_batch, ours_nuts, pyros_nuts
from torch import Tensor

from bnn_pyro.posterior.diagnostics import ess_bulk, r_hat

RATIOS = {"nuts-vs-pyro": ("ours-nuts", "pyro"), "batch-vs-pyro": ("ours-batch", "pyro")}
CONTESTANTS: dict[str, tuple[Callable[..., Found], dict[str, int]]] = {
    "ours-batch": (ours_batch, {"chains": 64, "warmup": 300, "draws": 400}),
    "ours-mams": (partial(ours_batch, kernel="mams"), {"chains": 64, "warmup": 300, "draws": 400}),
    "ours-mclmc": (
        partial(ours_batch, kernel="mclmc"),
        {"chains": 64, "warmup": 3000, "draws": 400, "thinning": 20},
    ),
    "ours-nuts": (ours_nuts, {"chains": 8, "warmup": 300, "draws": 200}),
    "pyro": (partial(pyros_nuts, jit=False), {"chains": 2, "warmup": 150, "draws": 100}),
    "pyro-jit": (partial(pyros_nuts, jit=True), {"chains": 2, "warmup": 150, "draws": 100}),
    "numpyro-sequential": (partial(numpyros_nuts, method="sequential"), {"chains": 2, "warmup": 150, "draws": 100}),
    "numpyro-vectorized": (partial(numpyros_nuts, method="vectorized"), {"chains": 8, "warmup": 150, "draws": 100}),
}
FEWER = {  # of all cases but the first, whose leapfrog steps and trajectories take several times as long
    "ours-batch": {"draws": 300},
    "ours-mams": {"draws": 300},
    "ours-mclmc": {"draws": 300},
    "ours-nuts": {"chains": 4, "warmup": 100, "draws": 100},
    "pyro": {"warmup": 100, "draws": 50},
    "pyro-jit": {"warmup": 100, "draws": 50},
    "numpyro-sequential": {"warmup": 100, "draws": 50},
    "numpyro-vectorized": {"chains": 4, "warmup": 100, "draws": 100},
}
SHORT = {"chains": 1, "warmup": 10, "draws": 10, "depth": 7}
CASES = {
    f"{short}-{width}": (data, width)
    for width in (10, 50)
    for short, data in (("yacht", "yacht"), ("boston", "boston-housing"))
}
SCALING, SCALED = (4, 16, 64, 256), {"warmup": 300, "draws": 200}


# ---- rows and ratios -------------------------------------------------------------------------------------------------


def row_of(case: Case, name: str, settings: dict[str, int]) -> tuple[timing.Row, Tensor]:
    """Run a contestant.

    Args:
        case: The case.
        name: The contestant.
        settings: Chains, warm-up and draws.

    Returns:
        Its row, and the draws of what is looked at.
    """
    torch.manual_seed(0)
    pyro.clear_param_store()
    found = CONTESTANTS[name][0](case, **settings)
    looked_at = case.looked_at(found.values)
    ess, hat = float(ess_bulk(looked_at).min()), float(r_hat(looked_at).max())
    row = {
        "case": case.name,
        "contestant": name,
        **settings,
        "ess": ess,
        "r_hat": hat,
        "ess_per_second": ess / found.sampling,
        "ess_per_second_with_all": ess / (found.sampling + found.before),
        "ess_per_leapfrog": ess / found.leapfrogs,
        "leapfrogs": found.leapfrogs,
        "leapfrogs_per_second": found.leapfrogs / found.sampling,
        "sampling_seconds": found.sampling,
        "before_seconds": found.before,
        "load": os.getloadavg()[0],
        **found.how,
    }
    print(_line(row), flush=True)
    return row, looked_at


def _line(row: timing.Row) -> str:
    keys = ("ess", "r_hat", "ess_per_second", "ess_per_second_with_all", "ess_per_leapfrog", "leapfrogs_per_second")
    keys += ("sampling_seconds", "before_seconds", "load")
    cells = [row["case"], row["contestant"], str(row["chains"]), *(f"{row[key]:.3g}" for key in keys)]
    return "| " + " | ".join(cells) + " |"


def _borrowed(row: timing.Row, rows: list[timing.Row]) -> timing.Row:
    """Return a row of too few draws with the effective draws a step of our NUTS, which grows the same trees."""
    for other in rows:
        if (other["case"], other["contestant"]) == (row["case"], "ours-nuts"):
            rate = other["ess_per_leapfrog"] * row["leapfrogs_per_second"]
            unknown = dict.fromkeys(("ess", "r_hat", "ess_per_second_with_all"))
            rates = {"ess_per_leapfrog": other["ess_per_leapfrog"], "ess_per_second": rate}
            return row | unknown | rates | {"borrowed": True}
    return row


def ratios_of(rows: list[timing.Row], key: str = "ess_per_second") -> dict[str, float]:
    """Return how many times as many effective draws a second ours makes.

    Args:
        rows: Those of all contestants.
        key: Which measure; rows that do not have it are left out.
    """
    by = {(row["case"], row["contestant"]): row[key] for row in rows if row[key] is not None}
    found = {}
    for case in dict.fromkeys(case for case, _ in by):
        for ratio, (ours, baseline) in RATIOS.items():
            if {(case, ours), (case, baseline)} <= by.keys():
                found[f"{case}/{ratio}"] = by[case, ours] / by[case, baseline]
        rivals = [value for (name, rival), value in by.items() if name == case and rival.startswith("numpyro")]
        if rivals and (case, "ours-batch") in by:
            found[f"{case}/batch-vs-numpyro"] = by[case, "ours-batch"] / max(rivals)
        if rivals and (case, "ours-nuts") in by:
            found[f"{case}/nuts-vs-numpyro"] = by[case, "ours-nuts"] / max(rivals)
    return found


def disagreement(looked_at: dict[str, Tensor]) -> dict[str, float]:
    """Return how far each contestant's means lie from the batch's, at most, in standard deviations of the posterior.

    Args:
        looked_at: Contestant -> draws.
    """
    if "ours-batch" not in looked_at:
        return {}
    reference = looked_at["ours-batch"].flatten(0, 1)
    sd, mean = torch.std_mean(reference, 0)
    return {name: float(((draws.flatten(0, 1).mean(0) - mean) / sd).abs().max()) for name, draws in looked_at.items()}


def plot(rows: list[timing.Row], out: Path) -> None:
    """Draw how effective draws a second grow with the number of chains.

    Args:
        rows: Those of the batch with different numbers of chains, case by case.
        out: The picture.
    """
    figure, (left, right) = timing.figure("One batch of chains, on one core", panels=2)
    for axes, key, label in (
        (left, "ess_per_second", "effective draws a second"),
        (right, "leapfrogs_per_second", "leapfrog steps a second"),
    ):
        lines = {}
        for case in dict.fromkeys(row["case"] for row in rows):
            some = [row for row in rows if row["case"] == case]
            lines[case] = ([row["chains"] for row in some], [row[key] for row in some])
        timing.curves(axes, lines, "chains")
        axes.set_ylabel(label)
    left.legend(frameon=False, fontsize="small")
    figure.savefig(out)


def _options() -> Namespace:
    parser = timing.parser(__doc__, "samplers")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with uci/yacht.npz and the like")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=list(CONTESTANTS))
    parser.add_argument(
        "--short", action="store_true", help="few draws of Pyro's, whose effective draws a leapfrog step are ours-nuts'"
    )
    parser.add_argument("--scaling", nargs="*", default=["yacht-10"], choices=list(CASES), help="cases to plot")
    return parser.parse_args()


def main() -> None:
    """Run all contestants on all cases; print the rows, write the JSON and the picture."""
    options = _options()
    timing.prepare(options.threads)
    warnings.filterwarnings("ignore")
    origin = timing.origin()
    rows, scaling, apart = _kept(options)
    print("| case | contestant | chains | ESS | R-hat | ESS/s | with all | ESS/step | steps/s | s | before | load |")
    for name in options.cases:
        case = Case(name, *CASES[name], options.data_dir)
        looked_at = {}
        for contestant in options.contestants:
            settings = _settings(contestant, name, options.quick)
            is_short = options.short and contestant.startswith("pyro")
            row, draws = row_of(case, contestant, SHORT if is_short else settings)
            rows.append(origin | (_borrowed(row, rows) if is_short else row))
            if not is_short:
                looked_at[contestant] = draws
            before = {other: value for other, value in apart.get(name, {}).items() if other not in looked_at}
            apart[name] = before | disagreement(looked_at)
            _write(options, rows, scaling, apart)
        print(apart[name], {k: round(v, 2) for k, v in ratios_of(rows).items() if k.startswith(name)}, flush=True)
    for name in options.scaling:
        case = Case(name, *CASES[name], options.data_dir)
        for chains in SCALING[:2] if options.quick else SCALING:
            settings = _settings("ours-batch", name, options.quick) | ({} if options.quick else SCALED)
            scaling.append(origin | row_of(case, "ours-batch", {**settings, "chains": chains})[0])
        plot(scaling, options.out.with_suffix(".png"))
        _write(options, rows, scaling, apart)


def _kept(options: Namespace) -> tuple[list[timing.Row], list[timing.Row], dict[str, dict[str, float]]]:
    """Return what the results have of what is not run again: rows, those of more chains, distances of means."""
    if not options.out.exists():
        return [], [], {}
    found = json.loads(options.out.read_text(encoding="utf-8"))
    again = {(case, contestant) for case in options.cases for contestant in options.contestants}
    rows = [row for row in found["rows"] if (row["case"], row["contestant"]) not in again]
    return rows, [row for row in found["scaling"] if row["case"] not in options.scaling], found["means_apart_in_sd"]


def _settings(contestant: str, case: str, quick: bool) -> dict[str, int]:
    settings = CONTESTANTS[contestant][1] | ({} if case == next(iter(CASES)) else FEWER[contestant])
    return {**settings, "warmup": 20, "draws": 10} if quick else settings


def _write(options: Namespace, rows: list[timing.Row], scaling: list[timing.Row], apart: Any) -> None:
    everything = ratios_of(rows, "ess_per_second_with_all")
    more = {"ratios_with_warmup_and_compiling": everything, "means_apart_in_sd": apart, "scaling": scaling}
    timing.write(options.out, rows, ratios_of(rows), **more)


if __name__ == "__main__":
    main()
