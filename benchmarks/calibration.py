"""Whether the samplers' posteriors are right: simulation-based calibration, and two kernels on one network.

    python benchmarks/calibration.py
    python benchmarks/calibration.py --quick
    python benchmarks/calibration.py --kernels exact --replicates 400 --draws 0    # the others stay as they are
    python benchmarks/calibration.py --kernels    # the two kernels on one network alone

A truth is drawn from the prior of a small spike-and-slab regression (two groups of two weights, and a slab without a
gate; relaxed gates for the relaxed kernels, hard ones for exact spikes), data from the truth, and a kernel samples the
posterior. If it is right, the rank of the truth among the draws is uniform over replicates, for every quantity. The
chi-square test of each histogram is at a level such that all of a run's together fail by chance once in 1,000 runs;
draws that are not independent fail it too, so that a kernel that passes is right and its draws are thinned enough.

Then NUTS and ChEES sample one network of one hidden layer, and R-hat is taken over the draws of both, of what the
network computes at test inputs.

Source: Talts, Betancourt, Simpson, Vehtari, Gelman (2018), *Validating Bayesian inference algorithms with
simulation-based calibration*.
"""

import json
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import timing
import torch
from pyro import poutine
from torch import Tensor

from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.exact_gate_potential import SpikePotential
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.runs import begin
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.diagnostics import ess_bulk, r_hat
from bnn_pyro.priors import GroupHorseshoe, SpikeSlab, slab, spike_slab_gaussian
from bnn_pyro.reports.figures import COLORS, SHADES, new_figure
from bnn_pyro.reports.markdown import markdown_table

ROWS, GROUPS, SIZE, NOISE, INCLUSION = 12, 2, 2, 0.7, 0.4
RANKS = 32
"""Ranks that a truth may have: one more than the draws that it is compared with."""
BINS = 8
FAILURES = 1e-3
PLANS = {
    "nuts": SamplingPlan(kernel="nuts", chains=1, warmup=60, draws=31, thinning=3, max_tree_depth=7),
    "hmc": SamplingPlan(
        kernel="hmc", chains=1, warmup=60, draws=31, thinning=4, max_tree_depth=7, trajectory_length=1.5
    ),
    "chees": SamplingPlan(kernel="chees", chains=16, warmup=60, draws=2, thinning=12, max_tree_depth=7),
    "mams": SamplingPlan(kernel="mams", chains=16, warmup=60, draws=2, thinning=12, max_tree_depth=7),
    "exact": SamplingPlan(kernel="chees", chains=16, warmup=60, draws=2, thinning=12, max_tree_depth=7, gates="exact"),
}


def model(x: Tensor, y: Tensor) -> None:
    """Regression with a spike and slab on each group of columns, an intercept, and known noise."""
    inclusion = torch.tensor(INCLUSION, dtype=x.dtype)
    w = spike_slab_gaussian("w", (GROUPS, SIZE), inclusion=inclusion, sigma=1.0)
    intercept = slab("intercept", (1,), scale=x.new_ones(()))
    pyro.sample("y", dist.Normal(x @ w.flatten() + intercept, NOISE).to_event(1), obs=y)


def main() -> None:
    """Calibrate the kernels and let two of them agree; print the table, write the JSON and the picture."""
    options = _options()
    timing.prepare(options.threads)
    pyro.enable_validation(False)
    kept = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {"rows": []}
    rows = [row for row in kept["rows"] if row["kernel"] not in options.kernels]
    for kernel in options.kernels:
        rows += _rows(kernel, *calibrated(kernel, options.replicates, options.seed))
    level = FAILURES / len(rows)
    lines = []
    for row in rows:
        row["uniform"] = row["p_value"] >= level
        cells = [f"{row['chi_square']:.1f}", f"{row['p_value']:.3f}", "yes" if row["uniform"] else "NO"]
        lines.append((row["kernel"], row["quantity"], str(row["replicates"]), *cells))
    print(markdown_table(("kernel", "quantity", "replicates", "chi-square", "p-value", "uniform"), lines))
    agreed = agreement(options.draws, options.seed) if options.draws else kept.get("agreement", {})
    print(agreed)
    timing.write(options.out, rows, {}, agreement=agreed, level=level)
    _plot(rows, options)


def _options() -> Namespace:
    parser = timing.parser(__doc__, "calibration")
    parser.add_argument("--kernels", nargs="*", choices=list(PLANS), default=list(PLANS))
    parser.add_argument("--replicates", type=int, default=256, help="truths")
    parser.add_argument("--draws", type=int, default=4000, help="of each of two kernels on a network; 0 for none")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.quick:
        options.replicates, options.draws = 2, 64
    return options


# ---- simulation-based calibration ------------------------------------------------------------------------------------


def calibrated(kernel: str, replicates: int, seed: int) -> tuple[dict[str, Tensor], float]:
    """Return the truth's ranks of each quantity, shape ``(replicates,)``, and the seconds that it took."""
    torch.manual_seed(seed)
    plan = PLANS[kernel]
    x, y = torch.randn(ROWS, GROUPS * SIZE, dtype=torch.float64), torch.zeros(ROWS, dtype=torch.float64)
    potential = SpikePotential(model, x, y) if kernel == "exact" else Potential(noncentered(model), x, y)
    start = time.perf_counter()
    ranks: dict[str, list[Tensor]] = {}
    for _ in range(replicates):
        truth = _truth(x, y, hard=kernel == "exact")
        draws = potential.unflatten(_vectors(plan, potential))
        for name, values in quantities({**draws, "y": y, "x": x}).items():
            own = quantities({**truth, "y": y, "x": x})[name]
            ranks.setdefault(name, []).append(_rank(values, own))
    return {name: torch.stack(found) for name, found in ranks.items()}, time.perf_counter() - start


def _truth(x: Tensor, y: Tensor, *, hard: bool) -> dict[str, Tensor]:
    """Draw a truth from the prior, as one draw, and write its data into y, where the potential reads them."""
    prior: Callable[..., Any] = poutine.uncondition(model)
    if hard:
        gates = (torch.rand(GROUPS) < INCLUSION).to(x)
        prior = poutine.condition(prior, {"w.gate": gates})
    sites = poutine.trace(prior).get_trace(x, y).nodes
    y.copy_(sites["y"]["value"])
    return {name: sites[name]["value"].unsqueeze(0) for name in ("w.gate", "w.weight", "intercept")}


def _vectors(plan: SamplingPlan, potential: Potential) -> Tensor:
    """Return draws of the posterior, shape ``(draws, n)``; as many as there are ranks but one."""
    run = begin(plan, potential, None)
    while run.done < run.total:
        run.advance()
    return run.result()["vectors"].flatten(0, 1)[1 - RANKS :]


def quantities(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what is ranked, each of shape ``(draws,)``: gates, used weights, and the log-likelihood."""
    gate, intercept = values["w.gate"], values["intercept"]
    used = gate.unsqueeze(-1) * values["w.weight"]
    mean = used.flatten(1) @ values["x"].T + intercept
    found = {f"gate {j + 1}": gate[:, j] for j in range(GROUPS)}
    found |= {f"weight {j + 1}": used[:, j, 0] for j in range(GROUPS)}
    likelihood = dist.Normal(mean, NOISE).log_prob(values["y"]).sum(-1)
    return {**found, "intercept": intercept[:, 0], "log-likelihood": likelihood}


def _rank(draws: Tensor, truth: Tensor) -> Tensor:
    """Return how many draws are below the truth; where some are equal to it, it takes any place among them."""
    ties = int((draws == truth).sum())
    return (draws < truth).sum() + torch.randint(ties + 1, ())


def chi_square(ranks: Tensor) -> tuple[float, float]:
    """Return the statistic of a histogram of ranks against the uniform one, and its p-value."""
    counts = torch.bincount(ranks * BINS // RANKS, minlength=BINS).double()
    expected = len(ranks) / BINS
    statistic = ((counts - expected).square() / expected).sum()
    freedom = torch.tensor((BINS - 1) / 2, dtype=torch.float64)
    return float(statistic), float(torch.special.gammaincc(freedom, statistic / 2))


def _rows(kernel: str, ranks: dict[str, Tensor], seconds: float) -> list[dict[str, Any]]:
    rows = []
    for name, found in ranks.items():
        statistic, p_value = chi_square(found)
        row = {"kernel": kernel, "quantity": name, "replicates": len(found), "seconds": seconds}
        counts = torch.bincount(found, minlength=RANKS).tolist()
        rows.append({**row, "chi_square": statistic, "p_value": p_value, "counts": counts})
    return rows


def _plot(rows: list[dict[str, Any]], options: Namespace) -> None:
    """Draw the histograms, with the band that holds 99 % of a bin's counts where the kernel is right."""
    kernels, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("kernel", "quantity"))
    figure = new_figure(2.0 * len(names), 1.5 * len(kernels) + 0.6)
    title = (
        f"Ranks of the truth among {RANKS - 1} draws of the posterior; grey: 99 % of a bin's counts if they are right"
    )
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize="medium")
    panels = figure.subplots(len(kernels), len(names), squeeze=False, sharey="row")
    for row in rows:
        axes = panels[kernels.index(row["kernel"]), names.index(row["quantity"])]
        middle = row["replicates"] / BINS
        reach = 2.576 * (middle * (1 - 1 / BINS)) ** 0.5
        axes.axhspan(max(middle - reach, 0), middle + reach, color=SHADES[1], zorder=0)
        axes.bar(range(BINS), torch.tensor(row["counts"]).reshape(BINS, -1).sum(1), width=0.92, color=COLORS[0])
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xticks([])
        axes.tick_params(labelsize="x-small")
        axes.set_title(row["quantity"], loc="left", fontsize="small")
    for kernel, line in zip(kernels, panels, strict=True):
        line[0].set_ylabel(kernel, fontsize="small")
    figure.savefig(options.out.with_suffix(".png"))


# ---- two kernels on one network --------------------------------------------------------------------------------------


def agreement(draws: int, seed: int) -> dict[str, Any]:
    """Return R-hat and ESS, over NUTS and ChEES, of what a network with one hidden layer computes at test inputs."""
    torch.manual_seed(seed)
    x = torch.randn(40, 3, dtype=torch.float64)
    y = (2 * x[:, 0]).tanh() + 0.5 * torch.randn(40, dtype=torch.float64)
    prior, likelihood = SpikeSlab(GroupHorseshoe(), inclusion=0.5), GaussianNoise(0.5)
    network = SparseNetwork(mlp(3, (4,), 1).double(), x[:2], prior=prior, likelihood=likelihood, num_data=len(x))
    inputs = torch.randn(32, 3, dtype=torch.float64)
    found, rows = {}, {}
    for kernel, chains in (("nuts", 4), ("chees", 16)):
        plan = SamplingPlan(kernel=kernel, chains=chains, warmup=draws // 8, draws=draws // chains, max_tree_depth=8)
        start = time.perf_counter()
        posterior = sample(network, (x, y), plan, seed=seed, progress=False, engine="traced")
        seconds = time.perf_counter() - start
        predicted: Any = posterior.predict(inputs, return_draws=True)
        found[kernel] = predicted.mean.unflatten(0, (chains, -1))
        own = {"r_hat": float(r_hat(found[kernel]).max()), "ess": float(ess_bulk(found[kernel]).min())}
        rows[kernel] = {**own, "seconds": seconds, "divergences": int(posterior.draws.diverged.sum())}
    both = torch.stack([values.transpose(0, 1).flatten(0, 1) for values in found.values()])  # a chain a kernel
    gap = (both[0].mean(0) - both[1].mean(0)).abs() / both.std((0, 1))
    return {"r_hat": float(r_hat(both).max()), "largest_gap_in_sd": float(gap.max()), "kernels": rows}


if __name__ == "__main__":
    main()
