"""Draws of the adaptive sampler at temperature 1 beside those of NUTS: means, standard deviations, error of a step.

    python benchmarks/sghmc_posterior.py

Two small regressions with known noise. *Linear*: the posterior of the coefficients is known exactly, and NUTS and the
sampler are set beside it, the sampler at several step sizes, with all rows a step and with a few. A finite step makes
the draws too wide, less so the smaller it is; rows left out of a step add their own noise. *Network*: one input, a
layer of tanh units; here NUTS is the reference, and what is compared are means and standard deviations of the
network's output on a grid, as its weights have many names for one function.

Chains of the sampler run as one batch from draws of the prior. The numbers go to a JSON file, the picture beside it.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import timing
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.func import functional_call, vmap

from bnn_pyro import Gaussian, SparseNetwork, networks
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.inference.sgmcmc.sghmc import SpikeSlabSGHMC
from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.reports.figures import COLORS, MARKERS, MUTED, SHADES
from bnn_pyro.reports.markdown import markdown_table

ETA = 0.1  # step size of the preconditioner where it adapts


@dataclass(frozen=True, eq=False)
class Problem:
    """A regression: network, standard deviations of prior and noise, data, and where its function is looked at."""

    net: nn.Module
    prior: float
    noise: float
    x: Tensor
    y: Tensor
    grid: Tensor


@dataclass(frozen=True)
class Moments:
    """Means and standard deviations over draws, of coefficients or of function values."""

    mean: Tensor
    sd: Tensor


def main() -> None:
    """Sample both problems by both samplers; print the table, write the JSON and the picture."""
    options = _options()
    timing.prepare(options.threads)
    rows, references = [], {}
    for name in options.problems:
        problem = PROBLEMS[name]()
        found, seconds = nuts(problem, options.draws)
        reference = references[name] = exact(problem) if name == "linear" else found
        rows.append(compared(name, "nuts", found, reference, seconds=seconds))
        for setting in SETTINGS[name]:
            found, seconds = adaptive(problem, options.steps, **setting)
            rows.append(compared(name, "sghmc", found, reference, seconds=seconds, **setting))
            print({k: v for k, v in rows[-1].items() if k not in ("mean", "sd")}, flush=True)
    described = {name: {"mean": r.mean.tolist(), "sd": r.sd.tolist()} for name, r in references.items()}
    timing.write(options.out, rows, {}, references=described, chains=CHAINS, steps=options.steps, draws=options.draws)
    print(table(rows))
    _plot(rows, references, options)


def _options() -> argparse.Namespace:
    parser = timing.parser(__doc__, "sghmc_posterior")
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--steps", type=int, default=6_000, help="steps of the sampler, of which the first third goes")
    parser.add_argument("--draws", type=int, default=200, help="draws of NUTS a chain, after half as many to warm up")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.draws = 300, 20
    return options


CHAINS = 512
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "linear": [
        *({"lr": lr, "batch_size": None, "eta": 0.0} for lr in (0.4, 0.2, 0.1, 0.05)),
        *({"lr": lr, "batch_size": 8, "eta": 0.0} for lr in (0.4, 0.2, 0.1, 0.05)),
        {"lr": 0.1, "batch_size": None, "eta": ETA},
    ],
    "network": [
        *({"lr": lr, "batch_size": None, "eta": 0.0} for lr in (0.04, 0.02, 0.01)),
        {"lr": 0.01, "batch_size": 10, "eta": 0.0},
        {"lr": 0.01, "batch_size": None, "eta": ETA},
    ],
}


# ---- the problems ----------------------------------------------------------------------------------------------------


def linear() -> Problem:
    """Return a linear regression of five coefficients and 40 rows, and as its grid the unit vectors."""
    chance = torch.Generator().manual_seed(0)
    x = torch.randn(40, 5, generator=chance)
    x[:, 1] = 0.6 * x[:, 0] + 0.8 * x[:, 1]
    y = x @ torch.tensor([1.0, -0.5, 0.5, 0.0, 0.0]) + 0.7 * torch.randn(40, generator=chance)
    return Problem(nn.Linear(5, 1, bias=False), 1.0, 0.7, x, y, torch.eye(5))


def network() -> Problem:
    """Return a curve with a gap in its 40 rows, and a tanh network."""
    x = torch.cat([torch.linspace(-2, -0.6, 20), torch.linspace(0.6, 2, 20)])[:, None]
    y = (2 * x[:, 0]).sin() + 0.3 * torch.randn(40, generator=torch.Generator().manual_seed(0))
    net = networks.mlp(1, (8,), 1, activation=nn.Tanh)
    return Problem(net, 1.0, 0.3, x, y, torch.linspace(-3, 3, 61)[:, None])


PROBLEMS = {"linear": linear, "network": network}


def exact(problem: Problem) -> Moments:
    """Return the posterior of a linear regression's coefficients.

    Args:
        problem: The regression.
    """
    x, y = problem.x.double(), problem.y.double()
    precision = x.T @ x / problem.noise**2 + torch.eye(x.shape[1], dtype=x.dtype) / problem.prior**2
    covariance = torch.linalg.inv(precision)
    return Moments((covariance @ x.T @ y / problem.noise**2).float(), covariance.diag().sqrt().float())


# ---- the samplers ----------------------------------------------------------------------------------------------------


def nuts(problem: Problem, draws: int) -> tuple[Moments, float]:
    """Return what NUTS finds, and its seconds.

    Args:
        problem: The regression.
        draws: Draws a chain.
    """
    likelihood = GaussianNoise(problem.noise)
    prior = Gaussian(problem.prior)
    model = SparseNetwork(problem.net, problem.x[:2], prior=prior, likelihood=likelihood, num_data=len(problem.x))
    plan = SamplingPlan(chains=4, warmup=draws // 2, draws=draws)
    found = sample(model, (problem.x, problem.y), plan, seed=0, progress=False)
    names = [name for name, _ in problem.net.named_parameters()]
    weights = found.draws.stacked()
    values = vmap(lambda w: functional_call(problem.net, w, problem.grid))({n: weights[n].float() for n in names})
    return Moments(values.squeeze(-1).mean(0), values.squeeze(-1).std(0)), found.draws.seconds


def adaptive(
    problem: Problem, steps: int, *, lr: float, batch_size: int | None, eta: float, thinning: int = 10
) -> tuple[Moments, float]:
    """Return what the adaptive sampler finds at temperature 1, and its seconds.

    Args:
        problem: The regression.
        steps: Number of steps; the first third is thrown away.
        lr: Its step size.
        batch_size: Rows a step, drawn anew by every chain; None for all.
        eta: Step size of the preconditioner.
        thinning: Steps a draw.
    """
    start, rows = time.perf_counter(), len(problem.x)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        weights = {
            name: nn.Parameter(problem.prior * torch.randn(CHAINS, *p.shape))
            for name, p in problem.net.named_parameters()
        }
        decay = 1 / (rows * problem.prior**2)
        options: Any = {"lr": lr, "eta": eta, "num_data": rows, "temperature": 1.0, "weight_decay": decay}
        optimizer = SpikeSlabSGHMC(weights.values(), **options)
        count, total, square = 0, torch.zeros(len(problem.grid)), torch.zeros(len(problem.grid))
        for step in range(steps):
            optimizer.zero_grad()
            _mean_losses(problem, weights, batch_size).sum().backward()
            optimizer.step()
            if step >= steps // 3 and step % thinning == 0:
                values = _values(problem, weights, problem.grid)
                count, total, square = count + 1, total + values.mean(0), square + values.square().mean(0)
    mean = total / count
    return Moments(mean, (square / count - mean.square()).sqrt()), time.perf_counter() - start


def _mean_losses(problem: Problem, weights: dict[str, nn.Parameter], batch_size: int | None) -> Tensor:
    """Return the mean negative log-likelihood of each chain's rows, up to a constant."""
    if batch_size is None:
        errors = _call(problem, weights, problem.x) - problem.y
    else:
        chosen = torch.rand(CHAINS, len(problem.x)).topk(batch_size, 1).indices
        outputs = vmap(lambda w, x: functional_call(problem.net, w, x))(weights, problem.x[chosen])
        errors = outputs.squeeze(-1) - problem.y[chosen]
    return errors.square().mean(1) / (2 * problem.noise**2)


def _call(problem: Problem, weights: dict[str, nn.Parameter], x: Tensor) -> Tensor:
    outputs: Tensor = vmap(lambda w: functional_call(problem.net, w, x))(weights)
    return outputs.squeeze(-1)


@torch.no_grad()
def _values(problem: Problem, weights: dict[str, nn.Parameter], x: Tensor) -> Tensor:
    return _call(problem, weights, x)


# ---- the comparison --------------------------------------------------------------------------------------------------


def compared(problem: str, sampler: str, found: Moments, reference: Moments, **more: Any) -> dict[str, Any]:
    """Return a row: how far means are off in units of the reference's standard deviation, and how much too wide.

    Args:
        problem: The problem's name.
        sampler: The sampler's name.
        found: What it found.
        reference: What is right.
        **more: What else to say.
    """
    ratio = found.sd / reference.sd
    return {
        "problem": problem,
        "sampler": sampler,
        **more,
        "mean_error": float(((found.mean - reference.mean) / reference.sd).abs().max()),
        "sd_ratio": float(ratio.mean()),
        "sd_ratio_range": [float(ratio.min()), float(ratio.max())],
        "variance_error": float((ratio.square() - 1).mean()),
        "mean": found.mean.tolist(),
        "sd": found.sd.tolist(),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table.

    Args:
        rows: The rows.
    """
    header = (
        *("problem", "sampler", "step size", "rows a step", "preconditioner", "largest error of a mean, in sd"),
        *("sd / reference's: mean (range)", "seconds"),
    )
    lines = []
    for row in rows:
        low, high = row["sd_ratio_range"]
        how = ["", "", ""]
        if row["sampler"] == "sghmc":
            how = [f"{row['lr']:g}", str(row["batch_size"] or "all"), "adapts" if row["eta"] else "1/2"]
        ends = [f"{row['mean_error']:.3f}", f"{row['sd_ratio']:.3f} ({low:.3f}-{high:.3f})", f"{row['seconds']:.0f}"]
        lines.append((row["problem"], row["sampler"], *how, *ends))
    return markdown_table(header, lines)


def _plot(rows: Sequence[dict[str, Any]], references: dict[str, Moments], options: argparse.Namespace) -> None:
    figure, panels = timing.figure("The adaptive sampler at temperature 1", panels=len(references))
    for axes, name in zip(panels, references, strict=True):
        some = [row for row in rows if row["problem"] == name and row["sampler"] == "sghmc"]
        if name == "linear":
            _plot_errors(axes, some)
            continue
        plain = [row for row in some if not row["batch_size"] and not row["eta"]]
        best = min(plain, key=lambda row: float(row["lr"]))
        moments = Moments(torch.tensor(best["mean"]), torch.tensor(best["sd"]))
        _plot_bands(axes, network(), references[name], moments, best["lr"])
    figure.savefig(options.out.with_suffix(".png"))


def _plot_errors(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    """Draw by how much the variance is too large over the step size."""
    for (name, batch_size), color, marker in zip(
        (("all rows a step", None), ("8 of 40 rows a step", 8)), COLORS, MARKERS, strict=False
    ):
        some = sorted((r["lr"], r["variance_error"]) for r in rows if r["batch_size"] == batch_size and not r["eta"])
        rates, errors = zip(*some, strict=True)
        axes.plot(rates, errors, color=color, marker=marker, markersize=4, linewidth=1.4, label=name)
    axes.set(xscale="log", yscale="log", xlabel="step size $C^2$", ylabel="variance / exact - 1")
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.minorticks_off()
    axes.set_title("linear regression: error of a finite step", loc="left", fontsize="medium")
    _finish(axes)


def _plot_bands(axes: Axes, problem: Problem, reference: Moments, found: Moments, lr: float) -> None:
    """Draw mean and two standard deviations of the network's function by both samplers."""
    x = problem.grid[:, 0].tolist()
    low, high = (reference.mean + sign * 2 * reference.sd for sign in (-1, 1))
    axes.fill_between(x, low.tolist(), high.tolist(), color=SHADES[0], label="NUTS: mean and 2 sd")
    axes.plot(x, reference.mean.tolist(), color=COLORS[0], linewidth=1.4)
    axes.plot(x, found.mean.tolist(), color=COLORS[1], linestyle="--", label=f"adaptive, step size {lr:g}")
    for sign in (-1, 1):
        edge = (found.mean + sign * 2 * found.sd).tolist()
        axes.plot(x, edge, color=COLORS[1], linestyle="--", linewidth=1)
    axes.plot(problem.x[:, 0].tolist(), problem.y.tolist(), ".", color=MUTED, markersize=4)
    axes.set(xlabel="x", ylabel="function value")
    axes.set_title("network 1-8-1: the posterior of its function", loc="left", fontsize="medium")
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize="small")
    axes.legend(frameon=False, fontsize="small")


if __name__ == "__main__":
    main()
