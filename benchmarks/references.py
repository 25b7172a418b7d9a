"""Every kernel with its defaults on posteriors whose moments somebody else has published.

    python benchmarks/references.py
    python benchmarks/references.py --posteriors schools horseshoe --kernels nuts mams
    python benchmarks/references.py --quick

What is not run again stays in the results.

The posteriors are those of ``tests/references``, its README says where their data and moments are from; the tests
``pytest -m reference`` run the same. A moment's z is its distance from the published one in Monte Carlo errors of both
together. A right sampler has one of 16,000 beyond 4, and one of 1.7 million beyond 5. ``mclmc`` makes an error that
longer runs do not reduce. The effective sample size is the smallest of the published quantities, in the bulk; gradients
are those after the warm-up.
"""

import dataclasses
import sys
from argparse import Namespace
from pathlib import Path

import timing
import torch

sys.path.append(str(Path(__file__).parents[1]))  # of the tests, which are no package that is installed

from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.reports.markdown import markdown_table
from tests.references.catalogue import NAMES
from tests.references.kernels import PLANS, Outcome, run
from tests.references.posterior import LIMIT

CLOSE = 4.0
HEAD = ("posterior", "kernel", "z", "of", "beyond 4", "R-hat", "ESS", "ESS/gradient", "diverged", "warnings", "s")


def row_of(name: str, kernel: str, outcome: Outcome) -> timing.Row:
    """Return the row of a kernel on a posterior.

    Args:
        name: Name of the posterior.
        kernel: Name of the kernel.
        outcome: What came of it.
    """
    found, draws = outcome.comparison, outcome.draws
    moment, z = found.largest
    gradients = int(draws.leapfrogs.sum())
    plan = {key: value for key, value in dataclasses.asdict(outcome.plan).items() if value is not None}
    row = {
        "posterior": name,
        "kernel": kernel,
        "coordinates": draws.vectors.shape[-1],
        "z_largest": abs(z),
        "moment": moment,
        "moments": len(found.z),
        "beyond_4": sum(not abs(value) <= CLOSE for value in found.z.values()),
        f"beyond_{LIMIT:g}": sum(not abs(value) <= LIMIT for value in found.z.values()),
        "bias_largest": found.bias,
        "r_hat": found.r_hat,
        "ess": found.ess,
        "gradients": gradients,
        "ess_per_gradient": found.ess / gradients,
        "divergences": int(draws.diverged.sum()),
        "seconds": outcome.seconds,
        "warnings": outcome.warnings,
        "settings": plan,
    }
    return {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in row.items()}


def table(rows: list[timing.Row]) -> str:
    """Return rows as a Markdown table.

    Args:
        rows: The rows.
    """
    lines = []
    for row in rows:
        cells = [f"{row['z_largest']:.2f}", row["moment"], f"{row['beyond_4']} of {row['moments']}"]
        cells += [f"{row['r_hat']:.3f}", f"{row['ess']:.0f}", f"{row['ess_per_gradient']:.2g}"]
        cells += [str(row["divergences"]), str(len(row["warnings"])), f"{row['seconds']:.0f}"]
        lines.append((row["posterior"], row["kernel"], *cells))
    return markdown_table(HEAD, lines)


def _options() -> Namespace:
    parser = timing.parser(__doc__, "references")
    parser.add_argument("--posteriors", nargs="*", default=list(NAMES), choices=list(NAMES), metavar="NAME")
    parser.add_argument("--kernels", nargs="*", default=list(PLANS), choices=list(PLANS))
    return parser.parse_args()


def _plan(kernel: str, quick: bool) -> SamplingPlan:
    plan = PLANS[kernel]
    return dataclasses.replace(plan, chains=4, warmup=20, draws=10) if quick else plan


def main() -> None:
    """Run the kernels on the posteriors; print the table and write the JSON."""
    options = _options()
    timing.prepare(options.threads)
    origin = timing.origin()
    kept = timing.read(options.out)
    again = {(name, kernel) for name in options.posteriors for kernel in options.kernels}
    rows = [row for row in kept if (row["posterior"], row["kernel"]) not in again]
    for name in options.posteriors:
        for kernel in options.kernels:
            torch.manual_seed(0)
            rows.append(origin | row_of(name, kernel, run(name, kernel, plan=_plan(kernel, options.quick))))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
            _write(rows, options.out)
    print(table(rows))


def _write(rows: list[timing.Row], out: Path) -> None:
    rows.sort(key=lambda row: (NAMES.index(row["posterior"]), list(PLANS).index(row["kernel"])))
    timing.write(out, rows, {}, close=CLOSE, limit=LIMIT)


if __name__ == "__main__":
    main()
