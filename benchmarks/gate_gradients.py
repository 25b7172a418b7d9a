r"""Gradients of hard gates with many weights behind each, against inclusion probabilities that are known exactly.

In a linear model of 1,000 rows with orthonormal columns, unit noise and :math:`N(0, 1)` slabs the posterior factorises:
it is in the family, and whatever differs is the gradient's doing. The least-squares coefficients of each group are such
that its exact probability is the one asked for. Only :math:`X^T X = 1000\, I` and :math:`X^T y` matter, so there is
one row for each coefficient.

    python benchmarks/gate_gradients.py
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from results_file import write_whole
from torch import Tensor
from tqdm.auto import trange

from bnn_pyro.inference.svi.elbo import elbo_terms
from bnn_pyro.priors import gate, slab
from guides import AutoSpikeSlab
from guides.protocols import GateGradient

RESULTS = Path(__file__).parent / "results" / "gate_gradients.json"
ROWS, PRIOR = 1000, 0.02
EXACT = (-3.0, 0.7, 4.0)  # log-odds of the groups
RATES = {"gates": 0.3, "slab_locs": 1e-4, "slab_scales": 5e-3}
GRADIENTS: tuple[tuple[GateGradient, tuple[float, float]], ...] = (
    ("reinmax", (0.5, 0.5)),  # it has no temperature
    ("straight-through", (0.5, 0.1)),
    ("straight-through", (0.5, 0.5)),
)


def coefficients(size: int) -> Tensor:
    """Return the least-squares coefficients, shape ``(groups, size)``, for groups of some size."""
    odds = torch.tensor(EXACT) - math.log(PRIOR / (1 - PRIOR)) + size / 2 * math.log(1 + ROWS)
    return (2 * odds * (ROWS + 1) / (ROWS**2 * size)).sqrt().unsqueeze(1).expand(-1, size)


def found(size: int, gradient: GateGradient, temperatures: tuple[float, float], steps: int, draws: int) -> Tensor:
    """Return the inclusion probabilities that SVI finds, from the exact slabs and gates at 1/2; shape ``(groups,)``."""
    truth, root = coefficients(size), ROWS**0.5

    def model() -> None:
        z = gate("z", torch.tensor(PRIOR), size=len(EXACT))
        w = slab("w", (len(EXACT), size), scale=torch.tensor(1.0), gates={"z": -2})
        pyro.sample("y", dist.Normal(root * z.unsqueeze(-1) * w, 1.0).to_event(2), obs=root * truth)

    def start(site: dict[str, Any]) -> Tensor:
        shape = site["fn"].batch_shape + site["fn"].event_shape
        return truth * ROWS / (ROWS + 1) if site["name"] == "w" else torch.full(shape, 0.5)

    torch.manual_seed(1)
    guide = AutoSpikeSlab(model, init_inclusion=0.5, gate_gradient=gradient, init_loc_fn=start, init_scale=0.33)
    groups = guide.parameter_groups()
    optimiser = torch.optim.Adam([{"params": groups[name], "lr": rate} for name, rate in RATES.items()])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    first, last = temperatures
    many = torch.vmap(lambda _: elbo_terms(model, guide).loss(), randomness="different")
    with pyro.get_param_store().scope(), pyro.validation_enabled(False):
        for step in trange(steps, desc=f"{gradient}, groups of {size}", disable=None):
            guide.temperature.fill_(first * (last / first) ** (step / steps))
            optimiser.zero_grad()
            many(torch.arange(draws)).mean().backward()
            optimiser.step()
            schedule.step()
    return guide.inclusion()["z"]


def main() -> None:
    """Fit all, print a table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 50], help="weights behind each gate")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--draws", type=int, default=512, help="per step")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    exact, rows = torch.sigmoid(torch.tensor(EXACT)), []
    print(f"{'weights':>8} {'gradient':<30} inclusion (exact {exact.numpy().round(3)})   largest error")
    for size in options.sizes:
        for gradient, temperatures in GRADIENTS:
            begin = time.perf_counter()
            gamma = found(size, gradient, temperatures, options.steps, options.draws)
            error, seconds = float((gamma - exact).abs().max()), time.perf_counter() - begin
            of_one = {"weights": size, "gradient": gradient, "temperatures": temperatures, "inclusion": gamma.tolist()}
            rows.append({**of_one, "error": error, "seconds": seconds})
            name = gradient if gradient == "reinmax" else f"{gradient}, T = {temperatures[0]} to {temperatures[1]}"
            print(f"{size:>8} {name:<30} {gamma.numpy().round(3)}   {error:.3f}", flush=True)
    settings = {"rows": ROWS, "prior": PRIOR, "steps": options.steps, "draws": options.draws, "rates": RATES}
    write_whole(options.out, {"settings": settings, "exact": exact.tolist(), "rows": rows})


if __name__ == "__main__":
    main()
