"""Effective draws a leapfrog step under vague priors: our NUTS beside NumPyro's.

    python benchmarks/vague_prior.py

The model is a line through 50 points, ``a, b ~ N(0, 1e4)``, with unknown noise, in double precision; the standard
deviation of b in the posterior is a millionth of that in its prior. In units of the prior it would be a needle, which
is what non-centring made of it. Effective sample sizes are the smallest of a, b and the logarithm of the noise, in the
bulk; leapfrog steps are those after the warm-up. Each runs 4 chains at its defaults, from three seeds. Jax and NumPyro
have to be installed.
"""

from sampler_contestants import clock  # first: it sets what JAX reads when it starts

# isort: split
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import pyro
import pyro.distributions as dist
import timing
import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.posterior.diagnostics import ess_bulk, r_hat

SCALE, SEEDS = 1e4, (0, 1, 2)
SETTINGS = {"chains": 4, "warmup": 300, "draws": 300}


def data() -> tuple[Tensor, Tensor]:
    """Return 50 points about a line."""
    chance = torch.Generator().manual_seed(0)
    x, errors = (torch.randn(50, dtype=torch.float64, generator=chance) for _ in range(2))
    return x, 3.0 - 2.0 * x + 0.5 * errors


def line(x: Tensor, y: Tensor) -> None:
    """A line with vague priors.

    Args:
        x: Inputs.
        y: Values.
    """
    a, b = (pyro.sample(site, dist.Normal(0.0, SCALE)) for site in "ab")
    noise = pyro.sample("noise", dist.HalfCauchy(1.0))
    pyro.sample("y", dist.Normal(a + b * x, noise).to_event(1), obs=y)


def ours(x: Tensor, y: Tensor, *, seed: int, chains: int, warmup: int, draws: int) -> tuple[dict[str, Tensor], int]:
    """Return the draws of our NUTS, and its leapfrog steps.

    Args:
        x: Inputs.
        y: Values.
        seed: The seed.
        chains: How many.
        warmup: Transitions to adapt in.
        draws: Draws of each chain.
    """
    plan = SamplingPlan(kernel="nuts", chains=chains, warmup=warmup, draws=draws)
    found = sample(line, (x, y), plan, seed=seed, progress=False)
    return dict(found.values), int(found.leapfrogs.sum())


def numpyros(x: Tensor, y: Tensor, *, seed: int, chains: int, warmup: int, draws: int) -> tuple[dict[str, Tensor], int]:
    """Return the draws of NumPyro's NUTS, and its leapfrog steps.

    Args:
        x: Inputs.
        y: Values.
        seed: The seed.
        chains: How many.
        warmup: Transitions to adapt in.
        draws: Draws of each chain.
    """
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import numpy as np
    import numpyro

    inputs, values, d = jnp.asarray(x.numpy()), jnp.asarray(y.numpy()), numpyro.distributions

    def model() -> None:
        a, b = (numpyro.sample(site, d.Normal(0.0, SCALE)) for site in "ab")
        noise = numpyro.sample("noise", d.HalfCauchy(1.0))
        numpyro.sample("y", d.Normal(a + b * inputs, noise).to_event(1), obs=values)

    options: dict[str, Any] = {"num_warmup": warmup, "num_samples": draws, "num_chains": chains}
    mcmc = numpyro.infer.MCMC(numpyro.infer.NUTS(model), chain_method="sequential", progress_bar=False, **options)
    mcmc.run(jax.random.PRNGKey(seed), extra_fields=("num_steps",))
    found = {name: torch.tensor(np.asarray(each)) for name, each in mcmc.get_samples(group_by_chain=True).items()}
    return found, int(mcmc.get_extra_fields()["num_steps"].sum())


CONTESTANTS: dict[str, Callable[..., tuple[dict[str, Tensor], int]]] = {"ours-nuts": ours, "numpyro": numpyros}


def main() -> None:
    """Run both from each seed; print the rows and write the JSON."""
    options = timing.parser(__doc__, "vague_prior").parse_args()
    timing.prepare(options.threads)
    warnings.filterwarnings("ignore")
    settings = SETTINGS | ({"warmup": 20, "draws": 10} if options.quick else {})
    origin, rows = timing.origin(scale=SCALE), []
    for seed in SEEDS:
        for name, draw in CONTESTANTS.items():
            torch.manual_seed(seed)
            spent: dict[str, float] = {}
            with clock(spent, "seconds"):
                values, leapfrogs = draw(*data(), seed=seed, **settings)
            every = torch.stack([values["a"], values["b"], values["noise"].log()], -1)
            ess = float(ess_bulk(every).min())
            row = {"contestant": name, "seed": seed, **settings, "leapfrogs": leapfrogs, "ess": ess}
            row |= {
                "r_hat": float(r_hat(every).max()),
                "ess_per_leapfrog": ess / leapfrogs,
                "b": float(values["b"].mean()),
            }
            rows.append(origin | row | {"seconds": spent["seconds"]})
            print(row, flush=True)
    per = {name: median(row["ess_per_leapfrog"] for row in rows if row["contestant"] == name) for name in CONTESTANTS}
    timing.write(options.out, rows, {"ess_per_leapfrog/ours-to-numpyro": per["ours-nuts"] / per["numpyro"]})
    print(per)


if __name__ == "__main__":
    main()
