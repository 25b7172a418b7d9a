"""The methods that are compared: guides, and samplers that share the time that is left."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Literal

import torch
from pyro.infer.autoguide import AutoGuide, AutoNormal
from torch import Tensor

from bnn_pyro.arguments import check_reals, check_type, check_whole
from bnn_pyro.comparison.answers import Gates
from bnn_pyro.inference.mcmc.plan import Gates as SampledGates
from bnn_pyro.inference.mcmc.plan import Kernel, SamplingPlan
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.runs import begin
from bnn_pyro.inference.mcmc.sample import potential_of, sample
from bnn_pyro.inference.svi.fit import fit
from bnn_pyro.inference.svi.schedule import LearningRates
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.posterior.sampled import some_rows
from bnn_pyro.recipes import Recipe
from bnn_pyro.tracing.engine import EngineName
from guides import AutoCentered, AutoSpikeSlab, initial_value
from guides.sites import Site

# Small networks learn fast: on the training bound of yacht, a third of the epochs at these rates do as well as all of
# them at the usual ones.
RATES = LearningRates(slab_locs=1e-2, slab_scales=3e-2, scales=3e-2, gates=3e-2, points=1e-2)
COMPILED_SECONDS = 90.0  # of a sampler, above which compiling its potential pays
_DESCENT_STEPS, _DESCENT_RATE, _SEARCHED = 500, 0.03, 2  # of Adam, to where chains start; starts searched for a chain
_RESERVE = 15.0  # seconds for scores and pictures
_SVI_PART = 0.5  # of the time that is left, which guides may take together
_LAST_EPOCHS = 20  # over which the noise of the bound is averaged
_LEAST, _MOST = 10, 1000  # transitions of the warm-up, and draws of a chain, where the time decides


@dataclass(frozen=True)
class Comparison:
    """What to compare, and for how long.

    Args:
        recipe: The net, its prior and how it is fitted; the KL weight is 1 whatever it says, and no gate is frozen.
        methods: Names of methods, of `METHODS`; those that need gates are left out where the prior has none.
        minutes: About how long all of it may take. A guide that is too slow is stopped early, and said to be so; the
            samplers share the time that guides leave.
        chains: Chains of NUTS.
        batch_chains: Chains of ChEES and of exact spikes, which move as one batch.
        warmup: Transitions of each sampler's warm-up; None for as many as the time allows, by a trial.
        draws: Draws of each chain; None likewise.
        max_tree_depth: Samplers make at most 2 to the power of it leapfrog steps a transition.

    Raises:
        ValueError: If a method is unknown or a number is out of range.
    """

    recipe: Recipe
    methods: tuple[str, ...] = ()
    minutes: float = 8.0
    chains: int = 4
    batch_chains: int = 32
    warmup: int | None = None
    draws: int | None = None
    max_tree_depth: int = 8

    def __post_init__(self) -> None:
        check_type("recipe", self.recipe, Recipe)
        if self.recipe.one_shot is not None:
            raise ValueError("recipe must be one of method svi, got one of sghmc")
        if self.recipe.select_inputs == "auto":
            raise ValueError("recipe must have select_inputs True or False, got 'auto'")
        for name in self.methods:
            if name not in METHODS:
                raise ValueError(f"methods must be of {', '.join(METHODS)}, got {name!r}")
        check_reals({"minutes": self.minutes})
        if not (math.isfinite(self.minutes) and self.minutes > 0):
            raise ValueError(f"minutes must be positive and finite, got {self.minutes}")
        least = {"chains": 2, "batch_chains": 2, "warmup": 1, "draws": 4, "max_tree_depth": 1}
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is not None or name not in ("warmup", "draws"):
                check_whole(name, value, smallest)
        if not self.chosen():
            names = ", ".join(self.methods)
            raise ValueError(f"methods must have one for a prior without gates, got {names} with {self.recipe.prior!r}")

    def chosen(self) -> tuple[str, ...]:
        """Return the names of the methods that the prior can be used with, in their order."""
        wanted = self.methods or tuple(METHODS)
        return tuple(name for name in METHODS if name in wanted and (self.recipe.has_gates or not METHODS[name].spikes))


@dataclass
class Job:
    """A comparison on its way.

    Attributes:
        plan: What to compare.
        model: The network; a dense one that was trained is where variational inference starts.
        train: (x, y): the training rows.
        seed: Seed of every method.
        progress: Whether to show progress bars; None shows them on a terminal.
        ends: When it is to end, by `time.perf_counter`.
        names: The methods still to come, the one that runs included.
        fitted: Posteriors of guides so far, by the method's name.
        pace: Kernel -> seconds of a leapfrog step; `"gates"` -> those of drawing all exact gates of a batch.
    """

    plan: Comparison
    model: SparseNetwork
    train: tuple[Tensor, Tensor]
    seed: int
    progress: bool | None
    ends: float
    names: list[str]
    fitted: dict[str, GuidePosterior] = field(default_factory=dict)
    pace: dict[str, float] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Seconds for the method that runs; guides may take a part of the time, samplers share the rest."""
        left = max(self.ends - _RESERVE - time.perf_counter(), 1.0)
        alike = [name for name in self.names if METHODS[name].samples == METHODS[self.names[0]].samples]
        part = _SVI_PART if any(METHODS[name].samples for name in self.names) and len(alike) < len(self.names) else 1.0
        return part * left / len(alike)

    @cached_property
    def starts(self) -> Tensor:
        """Where chains start, shape `(batch_chains, n)`: the lowest ends of descents from all over the cube.

        A chain that starts anywhere would spend its warm-up far from where the posterior has its mass, or stay in a
        poor mode. The descents are independent, so that R-hat still tells whether the chains have mixed.
        """
        potential = Potential(noncentered(self.model), *self.train)
        ends, energies = zip(*(self._descend(potential) for _ in range(_SEARCHED)), strict=True)
        order = torch.cat(energies).argsort()[: self.plan.batch_chains]
        return torch.cat(ends)[order]

    def _descend(self, potential: Potential) -> tuple[Tensor, Tensor]:
        points = potential.starts(self.plan.batch_chains)
        optimiser = torch.optim.Adam([points], lr=_DESCENT_RATE)
        ends = time.perf_counter() + self.share / (4 * _SEARCHED)  # a quarter of a sampler's time at most
        for _ in range(_DESCENT_STEPS):
            if time.perf_counter() > ends:
                break
            _, points.grad = potential.value_and_gradient(points)
            optimiser.step()
        energy = potential(points)
        return points, torch.where(torch.isfinite(energy), energy, torch.inf)

    def starts_of(self, chains: int) -> Tensor:
        """Return so many of the starts, from the lowest to the highest.

        Args:
            chains: How many.
        """
        chosen = torch.linspace(0, len(self.starts) - 1, chains, device="cpu").round().long()
        return self.starts[chosen.to(self.starts.device)]


# ---- the methods -----------------------------------------------------------------------------------------------------

Found = tuple[Posterior, dict[str, object]]


def _by_svi(make_guide: Callable[[Job], AutoGuide], leads_gates: bool, job: Job) -> Found:
    """Fit a guide at KL weight 1."""
    recipe = job.plan.recipe
    schedule = replace(recipe.schedule, freeze=0, frozen_kl_weight=None, shrink_below=None)
    options = recipe.fit_options() | {"kl_weight": 1.0, "rates": RATES, "seed": job.seed, "progress": job.progress}
    options["schedule"] = schedule if leads_gates else replace(schedule, hold=0)
    ends = time.perf_counter() + job.share
    posterior = fit(
        job.model, job.train, guide=make_guide(job), callback=lambda *_: time.perf_counter() > ends, **options
    )
    job.fitted[job.names[0]] = posterior
    epochs, last = len(posterior.history), posterior.history[-_LAST_EPOCHS:]
    bound = -sum(record["loss"] for record in last) / len(last)
    stopped = epochs < recipe.epochs
    problems = [f"stopped after {epochs} of {recipe.epochs} epochs, as time was up"] if stopped else []
    return posterior, {"epochs": epochs, "elbo_per_row": bound, "problems": problems}


def _spike_slab(gates: Literal["hard", "relaxed"], job: Job) -> AutoSpikeSlab:
    return job.plan.recipe.make_guide(job.model, gates=gates)


def _centered(job: Job) -> AutoCentered:
    return AutoCentered(job.model.prior, **job.plan.recipe.guide_options())


def _normal(job: Job) -> AutoNormal:
    """Return Pyro's guide, which starts where ours do."""

    def start(site: Site) -> Tensor:
        value = initial_value(site)
        return torch.full_like(value, job.plan.recipe.init_inclusion) if site["name"].endswith(".gate") else value

    return AutoNormal(job.model.prior, init_loc_fn=start, init_scale=job.plan.recipe.init_scale)


def _by_sampling(kernel: Kernel, is_exact: bool, job: Job) -> Found:
    """Sample, for as long as there is time where the numbers of transitions are not given."""
    plan, share = job.plan, job.share
    chains = plan.chains if kernel == "nuts" else plan.batch_chains
    engine: EngineName = "auto"
    warmup, draws = plan.warmup, plan.draws
    if warmup is None or draws is None:
        engine = "compiled" if share > COMPILED_SECONDS else "traced"
        allowed = _transitions(kernel, is_exact, engine, job, time.perf_counter() + share)
        warmup, draws = warmup or allowed, draws or allowed
    sampled = SamplingPlan(
        kernel=kernel,
        chains=chains,
        warmup=warmup,
        draws=draws,
        max_tree_depth=plan.max_tree_depth,
        gates="exact" if is_exact else "relaxed",
    )
    posterior = sample(
        job.model,
        job.train,
        sampled,
        seed=job.seed,
        progress=job.progress,
        start=None if is_exact else job.starts_of(chains),
        pseudo_prior=job.fitted.get("svi") if is_exact else None,
        engine=engine,
    )
    found = posterior.draws
    return posterior, {
        **{name: getattr(sampled, name) for name in ("chains", "warmup", "draws", "max_tree_depth")},
        "engine": engine,
        "divergences": int(found.diverged.sum()),
        "acceptance": float(found.acceptance.mean()),
        "leapfrogs": float(found.leapfrogs.double().mean()),
        "problems": posterior.problems(some_rows(job.train[0])),
    }


def _transitions(kernel: Kernel, is_exact: bool, engine: EngineName, job: Job, ends: float) -> int:
    """Return how many transitions the warm-up and the draws may have each, if all trajectories are long ones."""
    if kernel not in job.pace:
        seconds, steps = _trial(kernel, "relaxed", engine, job, depth=5)
        job.pace[kernel] = seconds / steps
    if is_exact and "gates" not in job.pace:
        seconds, steps = _trial(kernel, "exact", engine, job, depth=1)
        job.pace["gates"] = max(seconds - steps * job.pace[kernel], 0.0)
    longest = 2**job.plan.max_tree_depth
    steps = job.plan.chains * longest if kernel == "nuts" else longest / 2  # a batch's are half as long on average
    each = steps * job.pace[kernel] + (job.pace["gates"] if is_exact else 0.0)
    return min(max(int(0.85 * (ends - time.perf_counter()) / (2 * each)), _LEAST), _MOST)


def _trial(kernel: Kernel, gates: SampledGates, engine: EngineName, job: Job, *, depth: int) -> tuple[float, float]:
    """Return the seconds and the leapfrog steps of a transition, of one chain of NUTS or of a batch of chains."""
    chains = 1 if kernel == "nuts" else job.plan.batch_chains
    trial = SamplingPlan(kernel=kernel, chains=chains, warmup=4, draws=12, max_tree_depth=depth, gates=gates)
    potential = potential_of(job.model, job.train, engine, trial)
    run = begin(trial, potential, None if gates == "exact" else job.starts_of(chains))
    for _ in range(trial.warmup):
        run.advance()
    start = time.perf_counter()
    while run.done < run.total:
        run.advance()
    return (time.perf_counter() - start) / trial.draws, float(run.result()["leapfrogs"][0].sum()) / trial.draws


@dataclass(frozen=True)
class Method:
    """A way to the posterior.

    Attributes:
        title: How it is called in tables.
        gates: Which model it is for, where the prior has gates.
        find: Gives the posterior and how it went.
        samples: Whether it samples, and gets a share of the time.
        spikes: Whether it needs a prior with gates.
    """

    title: str
    gates: Gates
    find: Callable[[Job], Found]
    samples: bool = False
    spikes: bool = False


METHODS: dict[str, Method] = {
    "svi": Method("AutoSpikeSlab", "exact", partial(_by_svi, partial(_spike_slab, "hard"), True)),
    "centered": Method("AutoCentered", "exact", partial(_by_svi, _centered, True)),
    "relaxed": Method(
        "AutoSpikeSlab, relaxed", "relaxed", partial(_by_svi, partial(_spike_slab, "relaxed"), True), spikes=True
    ),
    "normal": Method("AutoNormal", "relaxed", partial(_by_svi, _normal, False)),
    "chees": Method("ChEES", "relaxed", partial(_by_sampling, "chees", False), samples=True),
    "nuts": Method("NUTS", "relaxed", partial(_by_sampling, "nuts", False), samples=True),
    "exact": Method("exact spikes", "exact", partial(_by_sampling, "chees", True), samples=True, spikes=True),
}
"""The methods by name, in the order in which they run."""
