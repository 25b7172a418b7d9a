"""Whether the microcanonical samplers are right: moments of small posteriors that are known otherwise.

    python benchmarks/microcanonical.py --data-dir DATA
    python benchmarks/microcanonical.py --data-dir DATA --targets schools --contestants mams nuts
    python benchmarks/microcanonical.py --data-dir DATA --quick
    python benchmarks/microcanonical.py --data-dir DATA --contestants "blackjax mclmc" "blackjax nuts"
    python benchmarks/microcanonical.py --data-dir DATA --targets    # the table and the picture of what is there

What is not run again stays in the results.

The posteriors are those of ``reference_posteriors.py``. ``mams`` has a Metropolis test, so that its means and second
moments (about the reference mean) are to lie within 4 Monte Carlo errors, those of the draws and of the reference
together. ``mclmc`` has none; its bias is measured over the energy error that its step size is adapted to, with one
scale for each coordinate and with ``dense_mass``. NUTS and ChEES are there for the gradients that an effective draw
costs: all gradients after the warm-up over the smallest effective sample size, in the bulk, of the quantities.
``blackjax mclmc`` and ``blackjax nuts`` are BlackJAX's (``blackjax_contestants.py``), on all targets but ``network``;
blackjax has to be installed, and runs only when asked for.

A bias is in standard deviations of the posterior: of a mean the distance, of a standard deviation the ratio less 1. No
bias can be seen that is smaller than the Monte Carlo error beside it.
"""

import dataclasses
import time
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import pyro
import timing
import torch
from reference_posteriors import TARGETS, Reference, Target, monte_carlo_errors
from torch import Tensor

from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.runs import begin
from bnn_pyro.posterior.diagnostics import ess_bulk, r_hat
from bnn_pyro.reports.figures import COLORS, MARKERS, style_axes
from bnn_pyro.reports.markdown import markdown_table

LIMIT = 4.0  # Monte Carlo errors
SEED = 0
ERRORS = (5e-5, 5e-4, 5e-3, 2e-2, 1e-1)
BATCH = SamplingPlan(kernel="mams", chains=64, warmup=200, draws=300)
STEPS = SamplingPlan(kernel="mclmc", chains=64, warmup=1000, draws=2000, thinning=2)
CONTESTANTS = {
    "mams": BATCH,
    "chees": dataclasses.replace(BATCH, kernel="chees"),
    "nuts": SamplingPlan(kernel="nuts", chains=4, warmup=300, draws=500),
    **{
        f"mclmc{' dense' if dense else ''} {error:g}": dataclasses.replace(STEPS, target_error=error, dense_mass=dense)
        for dense in (False, True)
        for error in ERRORS
    },
    "blackjax mclmc": dataclasses.replace(STEPS, target_error=5e-4),
    "blackjax nuts": SamplingPlan(kernel="nuts", chains=4, warmup=300, draws=500, target_accept=0.8),
}
OURS = tuple(name for name in CONTESTANTS if not name.startswith("blackjax"))
COLUMNS = ("mean_median", "mean_largest", "sd_median", "sd_signed", "sd_largest", "sd_noise", "z_largest")


# ---- rows ------------------------------------------------------------------------------------------------------------


def drawn(plan: SamplingPlan, potential: Potential) -> tuple[dict[str, Tensor], float]:
    """Return what a run of a plan has kept, and its seconds.

    Args:
        plan: The plan.
        potential: The potential energy.
    """
    torch.manual_seed(SEED)
    start = time.perf_counter()
    run = begin(plan, potential, None)
    while run.done < run.total:
        run.advance()
    return run.result(), time.perf_counter() - start


def drawn_by_blackjax(
    plan: SamplingPlan, name: str, target: Target, potential: Potential
) -> tuple[dict[str, Tensor], float, dict[str, str]]:
    """Return what a run of BlackJAX has kept, its seconds, and the versions; blackjax and jax have to be installed.

    Args:
        plan: The plan.
        name: The target's name.
        target: The target.
        potential: Its potential energy.
    """
    import blackjax_contestants

    torch.manual_seed(SEED)
    start = time.perf_counter()
    kept = blackjax_contestants.drawn(plan, name, target.args, potential, SEED)
    return kept, time.perf_counter() - start, blackjax_contestants.VERSIONS


def compared(quantities: Tensor, reference: Reference) -> dict[str, float]:
    """Return how far the moments of draws are from those of a reference.

    Args:
        quantities: Shape ``(chains, draws, quantities)``.
        reference: The moments.
    """
    scaled = (quantities - reference.mean) / reference.sd
    mean, square = scaled.mean((0, 1)), scaled.square().mean((0, 1))
    ratio = (square - mean.square()).sqrt() - 1
    mean_error, square_error = monte_carlo_errors(scaled)
    mean_error, square_error = mean_error.hypot(reference.mean_error), square_error.hypot(reference.square_error)
    z = torch.cat([mean / mean_error, (square - 1) / square_error]).abs()
    return {
        "mean_median": float(mean.abs().median()),
        "mean_largest": float(mean.abs().max()),
        "mean_noise": float(mean_error.median()),
        "sd_median": float(ratio.abs().median()),
        "sd_signed": float(ratio.median()),
        "sd_largest": float(ratio[ratio.abs().argmax()]),
        "sd_noise": float(square_error.median()) / 2,
        "z_largest": float(z.max()),
        "z_beyond": int((z > LIMIT).sum()),
        "moments": len(z),
        "r_hat": float(r_hat(quantities).max()),
        "ess": float(ess_bulk(quantities).min()),
    }


def row_of(name: str, contestant: str, plan: SamplingPlan, target: Target, reference: Reference, it: Potential) -> Any:
    """Run a contestant and return its row.

    Args:
        name: The target's name.
        contestant: The contestant's.
        plan: Its plan.
        target: The target.
        reference: Its moments.
        it: Its potential energy.
    """
    settings: dict[str, Any] = {"seed": SEED, **dataclasses.asdict(plan)}
    if contestant in OURS:
        kept, seconds = drawn(plan, it)
    else:
        kept, seconds, versions = drawn_by_blackjax(plan, name, target, it)
        settings |= {"kernel": contestant, **versions}
    found = compared(target.quantities(it.unflatten(kept["vectors"])), reference)
    gradients = int(kept["leapfrogs"].sum())
    row = {"target": name, "contestant": contestant, "coordinates": it.size, **found}
    row |= {"gradients": gradients, "gradients_per_ess": gradients / found["ess"], "seconds": seconds}
    row |= {"step_size": float(kept["step_size"].mean()), "acceptance": float(kept["acceptance"].mean())}
    row |= {"divergences": int(kept["diverged"].sum()), "reference": reference.how, "reference_r_hat": reference.r_hat}
    row = {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in row.items()}
    return row | {"settings": settings}


def table(rows: list[timing.Row]) -> str:
    """Return rows as a Markdown table.

    Args:
        rows: The rows.
    """
    lines = []
    for row in rows:
        cells = [f"{row[key]:.2g}" for key in COLUMNS] + [f"{row['z_beyond']} of {row['moments']}"]
        cells += [f"{row['gradients_per_ess']:.3g}", f"{row['r_hat']:.3f}"]
        lines.append((row["target"], row["contestant"], *cells))
    head = ("mean, median", "largest", "sd, median", "with its sign", "largest", "noise", "z", f"beyond {LIMIT:g}")
    return markdown_table(("target", "contestant", *head, "gradients/ESS", "R-hat"), lines)


# ---- the picture -----------------------------------------------------------------------------------------------------


def plot(rows: list[timing.Row], out: Path) -> None:
    """Draw the bias of the standard deviations over the energy error, and the Monte Carlo error below it.

    Args:
        rows: The rows.
        out: The picture.
    """
    figure, panels = timing.figure("MCLMC: bias of the standard deviations, median over quantities", panels=2)
    names = list(dict.fromkeys(row["target"] for row in rows))
    for axes, dense in zip(panels, (False, True), strict=True):
        for name, color, marker in zip(names, COLORS, MARKERS, strict=False):
            some = [row for row in rows if row["target"] == name and row["settings"]["kernel"] == "mclmc"]
            some = [row for row in some if row["settings"]["dense_mass"] == dense]
            some.sort(key=lambda row: row["settings"]["target_error"])
            x = [row["settings"]["target_error"] for row in some]
            bias, noise = ([row[key] for row in some] for key in ("sd_median", "sd_noise"))
            axes.plot(x, bias, color=color, marker=marker, markersize=4, linewidth=1.4, label=name)
            axes.plot(x, noise, color=color, linewidth=0.8, linestyle=":")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(1e-4, 1)
        axes.set_xlabel("target_error")
        title = "dense_mass" if dense else "a scale for each coordinate"
        axes.set_title(f"{title}; dotted: Monte Carlo error", loc="left", fontsize="small")
        style_axes(axes)
    panels[0].set_ylabel("ratio to the reference, less 1")
    panels[0].legend(frameon=False, fontsize="small")
    figure.savefig(out)


# ---- the script ------------------------------------------------------------------------------------------------------


def _options() -> Namespace:
    parser = timing.parser(__doc__, "microcanonical")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with uci/yacht.npz, tables/ionosphere.npz")
    parser.add_argument("--targets", nargs="*", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--contestants", nargs="*", default=list(OURS), choices=list(CONTESTANTS))
    parser.add_argument("--traced", action="store_true", help="compile nothing")
    return parser.parse_args()


def _plan(contestant: str, quick: bool) -> SamplingPlan:
    plan = CONTESTANTS[contestant]
    return dataclasses.replace(plan, chains=4, warmup=20, draws=10) if quick else plan


def main() -> None:
    """Run all contestants on all targets; print the table, write the JSON and the picture."""
    options = _options()
    timing.prepare(options.threads)
    pyro.enable_validation(False)
    warnings.filterwarnings("ignore")
    origin = timing.origin()
    kept = timing.read(options.out)
    again = {(target, contestant) for target in options.targets for contestant in options.contestants}
    rows = [row for row in kept if (row["target"], row["contestant"]) not in again]
    for name in options.targets:
        target = TARGETS[name](options.data_dir)
        reference = target.reference(target, 50 if options.quick else 1)
        print(f"{name}: {reference.how}, R-hat {reference.r_hat:.3f}", flush=True)
        compiled = not (options.traced or options.quick)
        potential = Potential(noncentered(target.model), *target.args, compiled=compiled)
        for contestant in options.contestants:
            plan = _plan(contestant, options.quick)
            rows.append(origin | row_of(name, contestant, plan, target, reference, potential))
            print(table(rows[-1:]).splitlines()[-1], f"{rows[-1]['seconds']:.0f} s", flush=True)
            _write(rows, options.out)
    _write(rows, options.out)
    print(table(rows))


def _write(rows: list[timing.Row], out: Path) -> None:
    """Write the JSON and the picture, the rows in the order of targets and contestants."""
    targets, contestants = list(TARGETS), list(CONTESTANTS)
    rows = sorted(rows, key=lambda row: (targets.index(row["target"]), contestants.index(row["contestant"])))
    timing.write(out, rows, {}, limit=LIMIT)
    plot(rows, out.with_suffix(".png"))


if __name__ == "__main__":
    main()
