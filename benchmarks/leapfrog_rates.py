"""Leapfrog steps a second, compiling left out: our NUTS and batch of chains beside NumPyro's NUTS, turn by turn.

    python benchmarks/leapfrog_rates.py --data-dir DATA
    python benchmarks/leapfrog_rates.py --data-dir DATA --cases saas-30

``samplers.py`` and ``saas.py`` run their contestants one after another, so that work of others on the machine falls on
some more than on others. Here each is compiled and warmed up once, and they take turns of a few seconds in one process,
in an order that is new every round; a rate is the median over the turns, in seconds of the processor. NumPyro's
transitions run in one compiled loop. The results of the other two say what an effective draw costs in steps.

``yacht-10`` is that of ``samplers.py``, in single precision; ``saas-30`` that of ``saas.py``, in double precision, with
a full mass matrix and trees of depth 6 for NUTS. Jax and NumPyro have to be installed.
"""

from sampler_contestants import Case, processor_seconds  # first: it sets what JAX reads when it starts

# isort: split
import random
import warnings
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import saas
import timing
import torch
from samplers import CASES
from torch import Tensor

from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.pyro_chain import PyroChain
from bnn_pyro.inference.mcmc.runs import BATCHES

SECONDS, ROUNDS, WARMUP, BATCH, VECTOR = 2.0, 5, 60, 64, 4
Turn = Callable[[], int]  # makes some transitions and returns the leapfrog steps


# ---- ours ------------------------------------------------------------------------------------------------------------


def nuts_turn(potential: Potential, is_saas: bool) -> Turn:
    """Return turns of our NUTS.

    Args:
        potential: The potential energy.
        is_saas: Whether the mass matrix is full, and trees have depth 6.
    """
    options: dict[str, Any] = {"dense_mass": True, "max_tree_depth": saas.DEPTH} if is_saas else {}
    start = potential.starts(1)[0]
    chain = PyroChain(potential, start, kernel="nuts", warmup=WARMUP, target_accept=0.8, **options)
    for _ in range(WARMUP):
        chain.advance()

    def turn() -> int:
        return int(chain.advance().leapfrogs)

    return turn


def chees_turn(potential: Potential, is_saas: bool) -> Turn:
    """Return turns of our batch of chains.

    Args:
        potential: The potential energy.
        is_saas: Whether trajectories have at most 64 steps.
    """
    depth = saas.DEPTH if is_saas else 10
    plan = SamplingPlan(kernel="chees", chains=BATCH, warmup=WARMUP, draws=10, max_tree_depth=depth)
    moving, adaptation = BATCHES["chees", "relaxed"](plan, potential, None, None)
    for number in range(1, WARMUP + 1):
        adaptation.adapt(number, WARMUP)

    def turn() -> int:
        return int(moving.transition().leapfrogs.sum())

    return turn


# ---- NumPyro ---------------------------------------------------------------------------------------------------------


def numpyro_turn(model: Callable[[], None], chains: int, is_saas: bool) -> Turn:
    """Return turns of NumPyro's NUTS.

    Args:
        model: NumPyro's model.
        chains: How many, side by side.
        is_saas: Whether the mass matrix is full, and trees have depth 6.
    """
    import jax
    import numpyro

    options: dict[str, Any] = {"dense_mass": True, "max_tree_depth": saas.DEPTH} if is_saas else {}
    kernel = numpyro.infer.NUTS(model, **options)
    method = {"num_chains": chains, "chain_method": "vectorized", "progress_bar": False}
    mcmc = numpyro.infer.MCMC(kernel, num_warmup=WARMUP, num_samples=1, **method)
    mcmc.warmup(jax.random.PRNGKey(0))
    state = [mcmc.post_warmup_state]
    move = (lambda it: kernel.sample(it, (), {})) if chains == 1 else jax.vmap(lambda it: kernel.sample(it, (), {}))

    def once(_: Any, carried: Any) -> Any:
        it, total = carried
        it = move(it)
        return it, total + it.num_steps.sum()

    loop = jax.jit(lambda it: jax.lax.fori_loop(0, 20, once, (it, 0)))

    def turn() -> int:
        state[0], steps = loop(state[0])
        return int(steps)

    turn()
    return turn


def numpyro_models(case: str, data: tuple[Tensor, ...]) -> Callable[[], None]:
    """Return NumPyro's model of a case.

    Args:
        case: Its name.
        data: Inputs and values.
    """
    import jax
    import jax.numpy as jnp
    import numpyro
    from sampler_contestants import NOISE, TEMPERATURE

    jax.config.update("jax_enable_x64", case == "saas-30")
    x, y = (jnp.asarray(part.numpy()) for part in data[:2])
    if case == "saas-30":
        return saas.numpyro_model(x, y)
    d, width = numpyro.distributions, CASES[case][1]

    def model() -> None:
        logit = numpyro.sample("logit", d.Logistic(0.0, 1 / TEMPERATURE).expand([width]).to_event(1))
        w1 = numpyro.sample("w1", d.Normal(0.0, 1.0).expand([width, x.shape[1]]).to_event(2))
        b1 = numpyro.sample("b1", d.Normal(0.0, 1.0).expand([width]).to_event(1))
        w2 = numpyro.sample("w2", d.Normal(0.0, 1.0).expand([width]).to_event(1))
        b2 = numpyro.sample("b2", d.Normal(0.0, 1.0))
        mean = jax.nn.silu(x @ w1.T + b1) @ (jax.nn.sigmoid(logit) * w2) + b2
        numpyro.sample("y", d.Normal(mean, NOISE).to_event(1), obs=y)

    return model


# ---- rows ------------------------------------------------------------------------------------------------------------


def turns(case: str, folder: Path) -> dict[str, Turn]:
    """Return the contestants of a case, warm.

    Args:
        case: Its name.
        folder: Where the data lie.
    """
    torch.manual_seed(0)
    is_saas = case == "saas-30"
    if is_saas:
        data: tuple[Tensor, ...] = saas.branin(30)
        program: Callable[..., object] = saas.saas
    else:
        described = Case(case, *CASES[case], folder)
        data, program = described.rows()[:2], described.network()
    potential = Potential(noncentered(program), *data, compiled=True)
    model = numpyro_models(case, data)
    return {
        "ours-nuts": nuts_turn(potential, is_saas),
        f"ours-chees, {BATCH} chains": chees_turn(potential, is_saas),
        "numpyro, 1 chain": numpyro_turn(model, 1, is_saas),
        f"numpyro, {VECTOR} chains": numpyro_turn(model, VECTOR, is_saas),
    }


def rates(made: dict[str, Turn], seconds: float, rounds: int) -> dict[str, list[float]]:
    """Return leapfrog steps a second, one entry a turn.

    Args:
        made: The contestants.
        seconds: How long a turn is at least.
        rounds: How often each has its turn.
    """
    order, chance = list(made), random.Random(0)
    found: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(rounds):
        chance.shuffle(order)
        for name in order:
            made[name]()  # not timed: the others have emptied the caches
            start, steps = processor_seconds(), 0
            while processor_seconds() - start < seconds:
                steps += made[name]()
            found[name].append(steps / (processor_seconds() - start))
    return found


def _options() -> Namespace:
    parser = timing.parser(__doc__, "leapfrog_rates")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with uci/yacht.npz and the like")
    parser.add_argument("--cases", nargs="*", default=["yacht-10", "saas-30"], choices=[*CASES, "saas-30"])
    return parser.parse_args()


def main() -> None:
    """Time the cases; print the rows and write the JSON."""
    options = _options()
    timing.prepare(options.threads)
    warnings.filterwarnings("ignore")
    origin = timing.origin(seconds=SECONDS, rounds=ROUNDS, warmup=WARMUP)
    rows: list[timing.Row] = []
    ratios: dict[str, float] = {}
    for case in options.cases:
        found = rates(turns(case, options.data_dir), 0.2 if options.quick else SECONDS, 2 if options.quick else ROUNDS)
        middle = {name: median(each) for name, each in found.items()}
        best = max(value for name, value in middle.items() if name.startswith("numpyro"))
        for name, each in found.items():
            row = {"case": case, "contestant": name, "median": middle[name], "min": min(each), "max": max(each)}
            rows.append(origin | row | {"runs": len(each), "unit": "leapfrog steps a second"})
            ratios |= {f"{case}/{name}/numpyro": middle[name] / best} if name.startswith("ours") else {}
            print(case, name, *(f"{value:.0f}" for value in (middle[name], min(each), max(each))), flush=True)
        timing.write(options.out, rows, ratios)
    print(ratios)


if __name__ == "__main__":
    main()
