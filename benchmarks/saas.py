"""BoTorch's sparse Gaussian process on Branin in 30 inputs: our chains beside NumPyro's NUTS.

    python benchmarks/saas.py
    python benchmarks/saas.py --quick --rows 30

The model is SAAS with BoTorch's priors and settings: a full mass matrix, trees of depth 6, 512 transitions of warm-up
and 256 draws, in double precision; 28 of the 30 inputs do not matter. All run in one process on one thread, turn by
turn. Seconds are the processor's. A row has two kinds:

* ``fit_seconds``: one chain of 512 and 256 transitions from scratch, compiling or tracing included, as a user waits.
* ``leapfrogs_per_second``, ``ess_per_second``: sampling after the warm-up, without compiling. NumPyro compiles at each
  run, so that it is timed by two lengths of run from the same warm-up, the longer one four times as long.

Effective sample sizes are the smallest, in the bulk, of all 34 coordinates. ``ours-chees`` has one mass for each
coordinate and moves 32 chains as one batch; its fit is that of all of them. Jax and NumPyro have to be installed.

Source: Eriksson, Jankowiak (2021), *High-dimensional Bayesian optimization with sparse axis-aligned subspaces*.
"""

from sampler_contestants import clock, processor_seconds  # first: it sets what JAX reads when it starts

# isort: split
import json
import math
import os
import warnings
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import timing
import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.pyro_chain import PyroChain
from bnn_pyro.inference.mcmc.runs import BATCHES
from bnn_pyro.posterior.diagnostics import ess_bulk, r_hat

INPUTS, DEPTH, NUGGET = 30, 6, 1e-6
LONGER = 4  # times as many draws in the longer of two runs that are timed
SITES = ("outputscale", "mean", "noise", "tausq", "inverse")
SETTINGS = {"chains": 4, "warmup": 512, "draws": 256}


# ---- the posterior ---------------------------------------------------------------------------------------------------


def branin(rows: int) -> tuple[Tensor, Tensor]:
    """Return inputs in the unit cube and standardised values of Branin's function of two of them.

    Args:
        rows: How many.
    """
    x = torch.quasirandom.SobolEngine(INPUTS, scramble=True, seed=0).draw(rows, dtype=torch.float64)
    a, b = 15 * x[:, 3] - 5, 15 * x[:, 17]
    hill = (b - 5.1 / (4 * math.pi**2) * a.square() + 5 / math.pi * a - 6).square()
    y = hill + 10 * (1 - 1 / (8 * math.pi)) * a.cos() + 10
    return x, (y - y.mean()) / y.std()


def saas(x: Tensor, y: Tensor) -> None:
    """A Matern kernel whose inverse squared lengths are sparse.

    Args:
        x: Inputs, shape ``(rows, inputs)``.
        y: Values, shape ``(rows,)``.
    """
    outputscale = pyro.sample("outputscale", dist.Gamma(2.0, 0.15))
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    noise = pyro.sample("noise", dist.Gamma(0.9, 10.0))
    tausq = pyro.sample("tausq", dist.HalfCauchy(0.1))
    inverse = pyro.sample("inverse", dist.HalfCauchy(1.0).expand(x.shape[1:]).to_event(1))
    scaled = x * (tausq * inverse).sqrt()
    norm = scaled.square().sum(1)
    square = (norm.unsqueeze(1) + norm - 2 * scaled @ scaled.T).clamp(min=0.0) + 1e-12
    length = (5 * square).sqrt()
    kernel = outputscale * (1 + length + 5 / 3 * square) * (-length).exp()
    factor = torch.linalg.cholesky(kernel + (noise + NUGGET) * torch.eye(len(x), dtype=x.dtype))
    pyro.sample("y", dist.MultivariateNormal(mean.expand(len(x)), scale_tril=factor), obs=y)


# ---- contestants -----------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """What a contestant has drawn, and what it took.

    Args:
        values: Draws of the coordinates, shape ``(chains, draws, coordinates)``.
        leapfrogs: Leapfrog steps of all chains after warm-up.
        sampling: Their seconds.
        fit: Seconds of one fit.
        divergences: After the warm-up.
    """

    values: Tensor
    leapfrogs: int
    sampling: float
    fit: float
    divergences: int


def _logs(values: dict[str, Tensor]) -> Tensor:
    parts = [values[site] if site == "mean" else values[site].log() for site in SITES]
    return torch.cat([part if part.dim() == 3 else part.unsqueeze(-1) for part in parts], -1)


def ours_nuts(x: Tensor, y: Tensor, *, chains: int, warmup: int, draws: int, compiled: bool) -> Found:
    """Run ``SamplingPlan(kernel="nuts", dense_mass=True, max_tree_depth=6)``.

    Args:
        x: Inputs.
        y: Values.
        chains: One after another.
        warmup: Transitions to adapt in.
        draws: Draws of each.
        compiled: Whether the potential is compiled.
    """
    spent: dict[str, float] = {}
    with clock(spent, "making"):
        potential = Potential(noncentered(saas), x, y, compiled=compiled)
        potential.starts(1)
    vectors, leapfrogs, diverged = [], 0, 0
    for _ in range(chains):
        with clock(spent, "warm-up"):
            start = potential.starts(1)[0]
            options: dict[str, Any] = {"dense_mass": True, "max_tree_depth": DEPTH, "target_accept": 0.8}
            chain = PyroChain(potential, start, kernel="nuts", warmup=warmup, **options)
            for _ in range(warmup):
                chain.advance()
        with clock(spent, "sampling"):
            for _ in range(draws):
                move = chain.advance()
                leapfrogs, diverged = leapfrogs + int(move.leapfrogs), diverged + int(move.diverged)
                vectors.append(chain.position)
    values = _logs(potential.unflatten(torch.stack(vectors).unflatten(0, (chains, draws))))
    fit = spent["making"] + (spent["warm-up"] + spent["sampling"]) / chains
    return Found(values, leapfrogs, spent["sampling"], fit, diverged)


def ours_chees(x: Tensor, y: Tensor, *, chains: int, warmup: int, draws: int) -> Found:
    """Run ``SamplingPlan(kernel="chees")``.

    Args:
        x: Inputs.
        y: Values.
        chains: All at once.
        warmup: Transitions to adapt in.
        draws: Draws of each.
    """
    spent: dict[str, float] = {}
    plan = SamplingPlan(kernel="chees", chains=chains, warmup=warmup, draws=draws, max_tree_depth=DEPTH)
    with clock(spent, "before"):
        potential = Potential(noncentered(saas), x, y, compiled=True)
        moving, adaptation = BATCHES["chees", "relaxed"](plan, potential, None, None)
        for number in range(1, warmup + 1):
            adaptation.adapt(number, warmup)
    moves, vectors = [], []
    with clock(spent, "sampling"):
        for _ in range(draws):
            moves.append(moving.transition())
            vectors.append(moving.position)
    values = _logs(potential.unflatten(torch.stack(vectors, 1)))
    leapfrogs, diverged = (sum(int(part.sum()) for part in parts) for parts in zip(*_counted(moves), strict=True))
    return Found(values, leapfrogs, spent["sampling"], spent["before"] + spent["sampling"], diverged)


def _counted(moves: list[Any]) -> list[tuple[Tensor, Tensor]]:
    return [(move.leapfrogs, move.diverged) for move in moves]


def numpyro_model(x: Any, y: Any) -> Callable[[], None]:
    """Return the same model for NumPyro.

    Args:
        x: Inputs, an array of JAX.
        y: Values, likewise.
    """
    import jax.numpy as jnp
    import numpyro

    d = numpyro.distributions

    def model() -> None:
        outputscale = numpyro.sample("outputscale", d.Gamma(2.0, 0.15))
        mean = numpyro.sample("mean", d.Normal(0.0, 1.0))
        noise = numpyro.sample("noise", d.Gamma(0.9, 10.0))
        tausq = numpyro.sample("tausq", d.HalfCauchy(0.1))
        inverse = numpyro.sample("inverse", d.HalfCauchy(1.0).expand([INPUTS]).to_event(1))
        scaled = x * jnp.sqrt(tausq * inverse)
        norm = jnp.square(scaled).sum(1)
        square = jnp.clip(norm[:, None] + norm - 2 * scaled @ scaled.T, 0.0) + 1e-12
        length = jnp.sqrt(5 * square)
        kernel = outputscale * (1 + length + 5 / 3 * square) * jnp.exp(-length)
        factor = jnp.linalg.cholesky(kernel + (noise + NUGGET) * jnp.eye(len(x)))
        numpyro.sample("y", d.MultivariateNormal(jnp.full(len(x), mean), scale_tril=factor), obs=y)

    return model


def numpyros_nuts(x: Tensor, y: Tensor, *, chains: int, warmup: int, draws: int, method: str) -> Found:
    """Run NumPyro's NUTS; sampling is timed without compiling, by two lengths of run from one warm-up.

    Args:
        x: Inputs.
        y: Values.
        chains: How many.
        warmup: Transitions to adapt in.
        draws: Draws of each in the shorter run.
        method: NumPyro's ``chain_method``.
    """
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import numpy as np
    import numpyro

    model = numpyro_model(jnp.asarray(x.numpy()), jnp.asarray(y.numpy()))

    def made(samples: int, number: int) -> Any:
        kernel = numpyro.infer.NUTS(model, dense_mass=True, max_tree_depth=DEPTH)
        options = {"num_warmup": warmup, "num_chains": number, "chain_method": method, "progress_bar": False}
        return numpyro.infer.MCMC(kernel, num_samples=samples, **options)

    def run(name: str, samples: int) -> tuple[Any, int]:
        mcmc = made(samples, chains)
        mcmc.post_warmup_state = warmed.post_warmup_state
        with clock(spent, name):
            mcmc.run(jax.random.PRNGKey(2), extra_fields=("num_steps", "diverging"))
            jax.block_until_ready(mcmc.get_samples())
        return mcmc, int(mcmc.get_extra_fields()["num_steps"].sum())

    spent: dict[str, float] = {}
    with clock(spent, "fit"):
        first = made(draws, 1)
        first.run(jax.random.PRNGKey(1))
        jax.block_until_ready(first.get_samples())
    warmed = made(draws, chains)
    warmed.warmup(jax.random.PRNGKey(0))
    _, few = run("short", draws)
    mcmc, leapfrogs = run("long", LONGER * draws)
    found = {name: torch.tensor(np.asarray(each)) for name, each in mcmc.get_samples(group_by_chain=True).items()}
    sampling = leapfrogs * (spent["long"] - spent["short"]) / (leapfrogs - few)
    return Found(_logs(found), leapfrogs, sampling, spent["fit"], int(mcmc.get_extra_fields()["diverging"].sum()))


CONTESTANTS: dict[str, tuple[Callable[..., Found], dict[str, int]]] = {
    "ours-nuts": (partial(ours_nuts, compiled=True), SETTINGS),
    "ours-nuts-traced": (partial(ours_nuts, compiled=False), SETTINGS | {"chains": 1}),
    "ours-chees": (ours_chees, {"chains": 32, "warmup": 512, "draws": 128}),
    "numpyro-sequential": (partial(numpyros_nuts, method="sequential"), SETTINGS),
    "numpyro-vectorized": (partial(numpyros_nuts, method="vectorized"), SETTINGS),
}


# ---- the script ------------------------------------------------------------------------------------------------------


def row_of(rows: int, name: str, settings: dict[str, int], data: tuple[Tensor, Tensor]) -> tuple[timing.Row, Tensor]:
    """Run a contestant.

    Args:
        rows: How many rows.
        name: The contestant.
        settings: Chains, warm-up and draws.
        data: Inputs and values.

    Returns:
        Its row, and its draws.
    """
    torch.manual_seed(0)
    start = processor_seconds()
    found = CONTESTANTS[name][0](*data, **settings)
    ess, hat = float(ess_bulk(found.values).min()), float(r_hat(found.values).max())
    row = {
        "rows": rows,
        "contestant": name,
        **settings,
        "fit_seconds": found.fit,
        "leapfrogs": found.leapfrogs,
        "leapfrogs_per_second": found.leapfrogs / found.sampling,
        "ess": ess,
        "r_hat": hat,
        "ess_per_leapfrog": ess / found.leapfrogs,
        "ess_per_second": ess / found.sampling,
        "divergences": found.divergences,
        "all_seconds": processor_seconds() - start,
        "load": os.getloadavg()[0],
    }
    print({key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in row.items()}, flush=True)
    return row, found.values


def ratios_of(rows: list[timing.Row]) -> dict[str, float]:
    """Return how many times as many effective draws a second ours makes, and how long NumPyro's fit takes for ours.

    Args:
        rows: Those of all contestants.
    """
    by = {(row["rows"], row["contestant"]): row for row in rows}
    found = {}
    for (size, name), row in by.items():
        rivals = [by[size, rival] for rival in CONTESTANTS if rival.startswith("numpyro") and (size, rival) in by]
        if name.startswith("ours") and rivals:
            best = max(rival["ess_per_second"] for rival in rivals)
            found[f"{size}/{name}/ess_per_second"] = row["ess_per_second"] / best
            found[f"{size}/{name}/fit"] = min(rival["fit_seconds"] for rival in rivals) / row["fit_seconds"]
    return found


def _options() -> Namespace:
    parser = timing.parser(__doc__, "saas")
    parser.add_argument("--rows", nargs="+", type=int, default=[30, 50])
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=list(CONTESTANTS))
    return parser.parse_args()


def main() -> None:
    """Run all contestants; print the rows and write the JSON."""
    options = _options()
    timing.prepare(options.threads)
    warnings.filterwarnings("ignore")
    origin = timing.origin(depth=DEPTH, inputs=INPUTS, dense_mass=True)
    kept = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {"rows": []}
    again = {(size, name) for size in options.rows for name in options.contestants}
    rows = [row for row in kept["rows"] if (row["rows"], row["contestant"]) not in again]
    apart: dict[str, float] = kept.get("means_apart_in_sd", {})
    for size in options.rows:
        data, reference = branin(size), None
        for name in options.contestants:
            settings = CONTESTANTS[name][1] | ({"warmup": 20, "draws": 10} if options.quick else {})
            row, values = row_of(size, name, settings, data)
            sd, mean = torch.std_mean(values, (0, 1))
            reference = (mean, sd) if reference is None else reference
            apart[f"{size}/{name}"] = float(((mean - reference[0]) / reference[1]).abs().max())
            rows.append(origin | row)
            timing.write(options.out, rows, ratios_of(rows), means_apart_in_sd=apart)
    print(json.dumps(ratios_of(rows), indent=1))


if __name__ == "__main__":
    main()
