"""Effective draws a second: our NUTS and batch of chains against Pyro's and NumPyro's NUTS, on the same posteriors.

    python benchmarks/samplers.py
    python benchmarks/samplers.py --quick --cases yacht-10

What is not run again stays in the results.

The posterior is that of a perceptron with one hidden layer (SiLU), a spike-and-slab prior with a Gaussian slab (SS-IG,
relaxed gates of temperature 1/2, inclusion 1/2) and a noise of known standard deviation 1/2 on standardised targets.
Learned, the noise falls to .03 on yacht, and chains of no sampler meet within minutes. As the slab's scale is known
too, what is looked at is the network's function at 20 test points and the sum of the gates, none of which depends on
the order of the nodes; a contestant's effective sample size is the smallest of those 21, in the bulk. Pyro takes hours
to show its own: with ``--short`` its leapfrog steps are timed, in trees of at most 128, and the effective draws a step
are those of our NUTS, which is Pyro's with the same trees.

Each runs on one thread, in single precision, at its own defaults. Seconds are those of the processor that the process
had, as others use the machine; the ratios are of sampling alone, warm-up and compiling stand beside them. Pyro's model
is written by hand, in as few operations as there are, and NumPyro's alike; both are given the gates as logits.
"""

import os

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"  # before JAX starts

import json
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import timing
import torch
from pyro.infer import MCMC, NUTS
from torch import Tensor
from torch.nn.functional import silu

from bnn_pyro import Gaussian, SparseNetwork, SpikeSlab, networks
from bnn_pyro.data import load
from bnn_pyro.inference.chees import ChEES
from bnn_pyro.inference.diagnostics import ess_bulk, r_hat
from bnn_pyro.inference.potential import Potential
from bnn_pyro.inference.pyro_chain import PyroChain
from bnn_pyro.inference.reparam import noncentered
from bnn_pyro.likelihoods import GaussianNoise

NOISE, INCLUSION, TEMPERATURE = 0.5, 0.5, 0.5
TEST_POINTS = 20
OURS = ("ours-nuts", "ours-batch")
RATIOS = {"nuts-vs-pyro": ("ours-nuts", "pyro"), "batch-vs-pyro": ("ours-batch", "pyro")}
Values = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Case:
    """A posterior: a data set and a width.

    Args:
        name: How the results call it.
        data: The data set.
        width: Nodes of the hidden layer.
        folder: Where the data lie.
    """

    name: str
    data: str
    width: int
    folder: Path

    def rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs and targets to learn from, and the inputs to look at."""
        found = load(self.data, data_dir=self.folder)
        return found.train.x, found.train.y, found.test.x[:TEST_POINTS]

    def network(self) -> SparseNetwork:
        """Return the Bayesian network."""
        x, _, _ = self.rows()
        prior = SpikeSlab(Gaussian(), inclusion=INCLUSION, temperature=TEMPERATURE)
        net = networks.mlp(x.shape[1], (self.width,), 1)
        return SparseNetwork(net, x[:2], prior=prior, likelihood=GaussianNoise(NOISE), num_data=len(x)).eval()

    def looked_at(self, values: Values) -> Tensor:
        """Return what the effective sample sizes are of.

        Args:
            values: ``w1, b1, gate, w2, b2``, shape ``(chains, draws, ...)``.

        Returns:
            Shape ``(chains, draws, TEST_POINTS + 1)``.
        """
        _, _, x = self.rows()
        hidden = silu(torch.einsum("td,csnd->cstn", x, values["w1"]) + values["b1"].unsqueeze(-2))
        outputs = torch.einsum("cstn,csn->cst", hidden, values["gate"] * values["w2"]) + values["b2"].unsqueeze(-1)
        return torch.cat([outputs, values["gate"].sum(-1, keepdim=True)], -1)


@dataclass
class Found:
    """What a contestant has drawn, and what it took.

    Args:
        values: Site -> draws.
        leapfrogs: Leapfrog steps of all chains after warm-up.
        sampling: Processor seconds after warm-up.
        before: Those of warm-up and compiling.
        how: What to say of its settings.
    """

    values: Values
    leapfrogs: int
    sampling: float
    before: float
    how: dict[str, Any] = field(default_factory=dict)


def processor_seconds() -> float:
    """Return the processor seconds of this process, and of the compilers that it has run."""
    return sum(os.times()[:4])


@contextmanager
def clock(into: dict[str, float], name: str) -> Iterator[None]:
    """Add the processor seconds of a block.

    Args:
        into: Name -> seconds.
        name: What the block is.
    """
    start, wall = processor_seconds(), time.perf_counter()
    yield
    into[name] = into.get(name, 0.0) + processor_seconds() - start
    into[f"{name}_wall"] = into.get(f"{name}_wall", 0.0) + time.perf_counter() - wall


# ---- ours ------------------------------------------------------------------------------------------------------------


def _potential(case: Case) -> Potential:
    x, y, _ = case.rows()
    return Potential(noncentered(case.network()), x, y, compiled=True)


def _ours(potential: Potential, vectors: Tensor) -> Values:
    values = potential.unflatten(vectors)
    names = {"w1": "hidden1.weight", "b1": "hidden1.bias", "gate": "hidden1.gate"}
    found = {short: values[name] for short, name in names.items()}
    return found | {"w2": values["output.weight"].squeeze(-2), "b2": values["output.bias"].squeeze(-1)}


def ours_nuts(case: Case, *, chains: int, warmup: int, draws: int) -> Found:
    """Run what `sample(kernel="nuts")` does.

    Args:
        case: The case.
        chains: One after another.
        warmup: Transitions to adapt in.
        draws: Draws of each.
    """
    spent: dict[str, float] = {}
    with clock(spent, "before"):
        potential = _potential(case)
        starts = [potential.starts(1)[0] for _ in range(chains)]
    vectors, leapfrogs = [], 0
    for start in starts:
        with clock(spent, "before"):
            chain = PyroChain(potential, start, kernel="nuts", warmup=warmup, target_accept=0.8)
            for _ in range(warmup):
                chain.advance()
        with clock(spent, "sampling"):
            for _ in range(draws):
                leapfrogs += int(chain.advance().leapfrogs)
                vectors.append(chain.position)
    stacked = torch.stack(vectors).unflatten(0, (chains, draws))
    return Found(_ours(potential, stacked), leapfrogs, spent["sampling"], spent["before"], _wall(spent))


def ours_batch(case: Case, *, chains: int, warmup: int, draws: int) -> Found:
    """Run what `sample(kernel="chees")` does.

    Args:
        case: The case.
        chains: All at once.
        warmup: Transitions to adapt in.
        draws: Draws of each.
    """
    spent: dict[str, float] = {}
    with clock(spent, "before"):
        potential = _potential(case)
        sampler = ChEES(potential, potential.starts(chains))
        sampler.warm_up(warmup)
    moves, vectors = [], []
    with clock(spent, "sampling"):
        for _ in range(draws):
            moves.append(sampler.transition())
            vectors.append(sampler.position)
    leapfrogs = chains * sum(move.leapfrogs for move in moves)
    acceptance = torch.stack([move.acceptance for move in moves])
    how = {
        "acceptance": float(acceptance.mean()),
        "least acceptance of a chain": float(acceptance.mean(0).min()),
        "divergences": int(torch.stack([move.diverged for move in moves]).sum()),
        "block": potential.block(chains),
    }
    values = _ours(potential, torch.stack(vectors, 1))
    return Found(values, leapfrogs, spent["sampling"], spent["before"], how | _wall(spent))


def _wall(spent: dict[str, float]) -> dict[str, float]:
    return {name: seconds for name, seconds in spent.items() if name.endswith("_wall")}


# ---- Pyro ------------------------------------------------------------------------------------------------------------


def pyro_model(x: Tensor, y: Tensor, width: int) -> None:
    """Be the same model as a Pyro user writes it for speed.

    Args:
        x: Inputs.
        y: Targets.
        width: Nodes of the hidden layer.
    """
    zero, one = x.new_zeros(()), x.new_ones(())
    logit = pyro.sample("logit", dist.Logistic(zero, one / TEMPERATURE).expand([width]).to_event(1))
    w1 = pyro.sample("w1", dist.Normal(zero, one).expand([width, x.shape[1]]).to_event(2))
    b1 = pyro.sample("b1", dist.Normal(zero, one).expand([width]).to_event(1))
    w2 = pyro.sample("w2", dist.Normal(zero, one).expand([width]).to_event(1))
    b2 = pyro.sample("b2", dist.Normal(zero, one))
    mean = silu(x @ w1.t() + b1) @ (torch.sigmoid(logit) * w2) + b2
    pyro.sample("y", dist.Normal(mean, NOISE).to_event(1), obs=y)


def pyros_nuts(case: Case, *, chains: int, warmup: int, draws: int, jit: bool, depth: int = 10) -> Found:
    """Run Pyro's NUTS as it stands.

    Args:
        case: The case.
        chains: One after another.
        warmup: Transitions to adapt in.
        draws: Draws of each.
        jit: Whether Pyro compiles the potential.
        depth: At most 2 to the power of it leapfrog steps a transition.
    """
    x, y, _ = case.rows()
    before = sampling = 0.0
    counted, samples = [0, 0], []
    for _ in range(chains):
        kernel: Any = NUTS(pyro_model, jit_compile=jit, ignore_jit_warnings=True, max_tree_depth=depth)
        leaf, marks = kernel._build_basetree, {}

        def counting(*args: Any, leaf: Any = leaf) -> Any:
            counted[0] += 1
            return leaf(*args)

        def hook(kernel: Any, params: Any, stage: str, number: int, marks: dict[str, Any] = marks) -> None:
            if stage.startswith("Warmup"):
                marks["end"] = (processor_seconds(), counted[0])

        kernel._build_basetree = counting
        mcmc = MCMC(kernel, num_samples=draws, warmup_steps=warmup, hook_fn=hook, disable_progbar=True)
        start = processor_seconds()
        with pyro.validation_enabled(False):
            mcmc.run(x, y, case.width)
        warm, done = marks["end"]
        before += warm - start
        sampling += processor_seconds() - warm
        counted[1] += counted[0] - done
        samples.append(mcmc.get_samples())
    values = {name: torch.stack([part[name] for part in samples]) for name in samples[0]}
    values["gate"] = torch.sigmoid(values.pop("logit"))
    return Found(values, counted[1], sampling, before)


# ---- NumPyro ---------------------------------------------------------------------------------------------------------


def numpyros_nuts(case: Case, *, chains: int, warmup: int, draws: int, method: str) -> Found:
    """Run NumPyro's NUTS; sampling is timed on a second run, which does not compile.

    Args:
        case: The case.
        chains: How many.
        warmup: Transitions to adapt in.
        draws: Draws of each.
        method: NumPyro's `chain_method`.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np
    import numpyro

    x, y, _ = (jnp.asarray(part.numpy()) for part in case.rows())

    def model() -> None:
        d = numpyro.distributions
        logit = numpyro.sample("logit", d.Logistic(0.0, 1 / TEMPERATURE).expand([case.width]).to_event(1))
        w1 = numpyro.sample("w1", d.Normal(0.0, 1.0).expand([case.width, x.shape[1]]).to_event(2))
        b1 = numpyro.sample("b1", d.Normal(0.0, 1.0).expand([case.width]).to_event(1))
        w2 = numpyro.sample("w2", d.Normal(0.0, 1.0).expand([case.width]).to_event(1))
        b2 = numpyro.sample("b2", d.Normal(0.0, 1.0))
        mean = jax.nn.silu(x @ w1.T + b1) @ (jax.nn.sigmoid(logit) * w2) + b2
        numpyro.sample("y", d.Normal(mean, NOISE).to_event(1), obs=y)

    kernel = numpyro.infer.NUTS(model)
    mcmc = numpyro.infer.MCMC(
        kernel, num_warmup=warmup, num_samples=draws, num_chains=chains, chain_method=method, progress_bar=False
    )
    spent: dict[str, float] = {}
    with clock(spent, "before"):
        mcmc.warmup(jax.random.PRNGKey(0))
    with clock(spent, "compiling"):
        mcmc.run(jax.random.PRNGKey(1), extra_fields=("num_steps",))
        jax.block_until_ready(mcmc.get_samples())
    mcmc.post_warmup_state = mcmc.last_state
    with clock(spent, "sampling"):
        mcmc.run(jax.random.PRNGKey(2), extra_fields=("num_steps",))
        jax.block_until_ready(mcmc.get_samples())
    found = mcmc.get_samples(group_by_chain=True)
    values = {name: torch.tensor(np.asarray(value)) for name, value in found.items()}
    values["gate"] = torch.sigmoid(values.pop("logit"))
    leapfrogs = int(mcmc.get_extra_fields()["num_steps"].sum())
    before = spent["before"] + max(spent["compiling"] - spent["sampling"], 0.0)
    return Found(values, leapfrogs, spent["sampling"], before, _wall(spent))


CONTESTANTS: dict[str, tuple[Callable[..., Found], dict[str, int]]] = {
    "ours-batch": (ours_batch, {"chains": 64, "warmup": 200, "draws": 200}),
    "ours-nuts": (ours_nuts, {"chains": 2, "warmup": 150, "draws": 100}),
    "pyro": (partial(pyros_nuts, jit=False), {"chains": 2, "warmup": 150, "draws": 100}),
    "pyro-jit": (partial(pyros_nuts, jit=True), {"chains": 2, "warmup": 150, "draws": 100}),
    "numpyro-sequential": (partial(numpyros_nuts, method="sequential"), {"chains": 2, "warmup": 150, "draws": 100}),
    "numpyro-vectorized": (partial(numpyros_nuts, method="vectorized"), {"chains": 8, "warmup": 150, "draws": 50}),
}
FEWER = {  # of all cases but the first, whose leapfrog steps and trajectories take several times as long
    "ours-batch": {"draws": 150},
    "ours-nuts": {"warmup": 100, "draws": 50},
    "pyro": {"warmup": 100, "draws": 50},
    "pyro-jit": {"warmup": 100, "draws": 50},
    "numpyro-sequential": {"warmup": 100, "draws": 50},
    "numpyro-vectorized": {"chains": 4, "warmup": 100, "draws": 50},
}
SHORT = {"chains": 1, "warmup": 10, "draws": 10, "depth": 7}
CASES = {
    f"{short}-{width}": (data, width)
    for width in (10, 50)
    for short, data in (("yacht", "yacht"), ("boston", "boston-housing"))
}
SCALING, SCALED = (4, 16, 64, 256), {"warmup": 100, "draws": 100}


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
    rows, scaling, apart = _kept(options)
    print("| case | contestant | chains | ESS | R-hat | ESS/s | with all | ESS/step | steps/s | s | before | load |")
    for name in options.cases:
        case = Case(name, *CASES[name], options.data_dir)
        looked_at = {}
        for contestant in options.contestants:
            settings = _settings(contestant, name, options.quick)
            is_short = options.short and contestant.startswith("pyro")
            row, draws = row_of(case, contestant, SHORT if is_short else settings)
            rows.append(_borrowed(row, rows) if is_short else row)
            if not is_short:
                looked_at[contestant] = draws
            apart[name] = apart.get(name, {}) | disagreement(looked_at)
            _write(options, rows, scaling, apart)
        print(apart[name], {k: round(v, 2) for k, v in ratios_of(rows).items() if k.startswith(name)}, flush=True)
    for name in options.scaling:
        case = Case(name, *CASES[name], options.data_dir)
        for chains in SCALING[:2] if options.quick else SCALING:
            settings = _settings("ours-batch", name, options.quick) | ({} if options.quick else SCALED)
            scaling.append(row_of(case, "ours-batch", {**settings, "chains": chains})[0])
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
