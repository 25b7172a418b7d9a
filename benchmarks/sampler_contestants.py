"""The samplers that are timed against each other, each on the same posterior of a small network.

Seconds are those of the processor that the process had. Pyro's model is written by hand, in as few operations as there
are, and NumPyro's alike; both are given the gates as logits.
"""

import os

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"  # before JAX starts

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import MCMC, NUTS
from torch import Tensor
from torch.nn.functional import silu

from bnn_pyro import Gaussian, SparseNetwork, SpikeSlab, networks
from bnn_pyro.data import load
from bnn_pyro.inference.mcmc.plan import Kernel, SamplingPlan
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.pyro_chain import PyroChain
from bnn_pyro.inference.mcmc.runs import BATCHES
from bnn_pyro.likelihoods import GaussianNoise

NOISE, INCLUSION, TEMPERATURE = 0.5, 0.5, 0.5
TEST_POINTS = 20
_LONGER = 4  # times as many draws in the longer of two runs that are timed
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
    """Run what `sample` with `SamplingPlan(kernel="nuts")` does.

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


def ours_batch(
    case: Case, *, chains: int, warmup: int, draws: int, thinning: int = 1, kernel: Kernel = "chees"
) -> Found:
    """Run what `sample` does with a kernel that moves all chains at once.

    Args:
        case: The case.
        chains: All at once.
        warmup: Transitions to adapt in.
        draws: Draws of each.
        thinning: Transitions per draw.
        kernel: The kernel.
    """
    spent: dict[str, float] = {}
    plan = SamplingPlan(kernel=kernel, chains=chains, warmup=warmup, draws=draws, thinning=thinning)
    with clock(spent, "before"):
        potential = _potential(case)
        moving, adaptation = BATCHES[kernel, "relaxed"](plan, potential, None, None)
        for number in range(1, warmup + 1):
            adaptation.adapt(number, warmup)
    moves, vectors = [], []
    with clock(spent, "sampling"):
        for number in range(1, draws * thinning + 1):
            moves.append(moving.transition())
            if number % thinning == 0:
                vectors.append(moving.position)
    leapfrogs = sum(int(move.leapfrogs.sum()) for move in moves)
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
    """Run NumPyro's NUTS; sampling is timed without compiling, by two lengths of run.

    Every `MCMC.run` compiles again, also after a warm-up. So two runs go on from the same warm-up, the longer one four
    times as long, and a leapfrog step takes the difference of their seconds over that of their steps. The draws are
    those of the longer run.

    Args:
        case: The case.
        chains: How many.
        warmup: Transitions to adapt in.
        draws: Draws of each in the shorter run.
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

    spent: dict[str, float] = {}

    def made(samples: int) -> Any:
        kernel = numpyro.infer.NUTS(model)
        options = {"num_warmup": warmup, "num_chains": chains, "chain_method": method, "progress_bar": False}
        return numpyro.infer.MCMC(kernel, num_samples=samples, **options)

    def run(name: str, samples: int) -> tuple[Any, int]:
        mcmc = made(samples)
        mcmc.post_warmup_state = warmed.post_warmup_state
        with clock(spent, name):
            mcmc.run(jax.random.PRNGKey(2), extra_fields=("num_steps",))
            jax.block_until_ready(mcmc.get_samples())
        return mcmc, int(mcmc.get_extra_fields()["num_steps"].sum())

    warmed = made(draws)
    with clock(spent, "before"):
        warmed.warmup(jax.random.PRNGKey(0))
    _, few = run("short", draws)
    mcmc, leapfrogs = run("long", _LONGER * draws)
    found = mcmc.get_samples(group_by_chain=True)
    values = {name: torch.tensor(np.asarray(value)) for name, value in found.items()}
    values["gate"] = torch.sigmoid(values.pop("logit"))
    sampling = leapfrogs * (spent["long"] - spent["short"]) / (leapfrogs - few)
    how = {"timed": "two lengths", "compiling": spent["long"] - sampling, "draws kept": _LONGER * draws}
    return Found(values, leapfrogs, sampling, spent["before"] + how["compiling"], how | _wall(spent))
