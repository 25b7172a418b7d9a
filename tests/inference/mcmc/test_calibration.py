"""The samplers against what they do not share a line with: a Gibbs sampler of the horseshoe, and their own truths."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor

from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.exact_gate_potential import SpikePotential
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.runs import begin
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.posterior.diagnostics import ess_bulk, ess_tail
from bnn_pyro.priors import half_cauchy, slab
from tests.models import DOUBLE, INCLUSION, NOISE, linear

# ---- the horseshoe ---------------------------------------------------------------------------------------------------


def horseshoe(x: Tensor, y: Tensor) -> None:
    """Regression with known noise and a half-Cauchy scale of each coefficient, and of all."""
    one = torch.ones((), dtype=x.dtype)
    scale = half_cauchy("s", one) * half_cauchy("tau", one, size=x.shape[1])
    w = slab("w", (x.shape[1],), scale=scale)
    pyro.sample("y", dist.Normal(x @ w, NOISE).to_event(1), obs=y)


def gibbs(x: Tensor, y: Tensor, *, chains: int = 512, transitions: int = 400) -> Tensor:
    """Draws coefficients by Gibbs, shape ``(chains, transitions, columns)``, after as many that are thrown away.

    A half-Cauchy's square is an inverse Gamma of an inverse Gamma, so that every conditional has a closed form.

    Source: Makalic, Schmidt (2016), *A simple sampler for the horseshoe estimator*.
    """
    columns = x.shape[1]
    node, node_mixing = torch.ones(2, chains, columns, dtype=DOUBLE)
    whole, whole_mixing = torch.ones(2, chains, dtype=DOUBLE)
    kept = []
    for number in range(2 * transitions):
        precision = x.T @ x / NOISE**2 + torch.diag_embed(1 / (node * whole.unsqueeze(-1)))
        factor = torch.linalg.cholesky(precision)
        mean = torch.cholesky_solve((x.T @ y / NOISE**2).expand(chains, columns).unsqueeze(-1), factor)
        noise = torch.linalg.solve_triangular(factor.mT, torch.randn_like(mean), upper=True)
        squares = (mean + noise).squeeze(-1).square() / 2
        node = dist.InverseGamma(torch.ones_like(node), 1 / node_mixing + squares / whole.unsqueeze(-1)).sample()
        node_mixing = dist.InverseGamma(torch.ones_like(node), 1 + 1 / node).sample()
        shape = torch.full_like(whole, (columns + 1) / 2)
        whole = dist.InverseGamma(shape, 1 / whole_mixing + (squares / node).sum(-1)).sample()
        whole_mixing = dist.InverseGamma(torch.ones_like(whole), 1 + 1 / whole).sample()
        if number >= transitions:
            kept.append((mean + noise).squeeze(-1))
    return torch.stack(kept, 1)


def assert_alike(draws: Tensor, reference: Tensor) -> None:
    """Means, and means of magnitudes, within five Monte Carlo errors of both."""
    for one, other in ((draws, reference), (draws.abs(), reference.abs())):
        sizes = [torch.minimum(ess_bulk(each), ess_tail(each)) for each in (one, other)]
        assert (sizes[0] > 100).all() and (sizes[1] > 5000).all()
        error = (one.var((0, 1)) / sizes[0] + other.var((0, 1)) / sizes[1]).sqrt()
        assert ((one.mean((0, 1)) - other.mean((0, 1))).abs() < 5 * error).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"kernel": "nuts", "chains": 2, "warmup": 300, "draws": 1000, "target_accept": 0.9},
        {"kernel": "chees", "chains": 32, "warmup": 300, "draws": 200, "target_accept": 0.9},
    ],
    ids=str,
)
def test_horseshoe_regression(options: dict[str, Any]) -> None:
    """Two large coefficients and three of nothing; fails by chance less than once in 10,000 seeds."""
    x = torch.randn(15, 5, dtype=DOUBLE)
    y = x @ torch.tensor([2.0, -0.7, 0.0, 0.0, 0.0], dtype=DOUBLE) + NOISE * torch.randn(15, dtype=DOUBLE)
    draws = sample(horseshoe, (x, y), SamplingPlan(**options), seed=0, progress=False)
    assert_alike(draws.values["w"], gibbs(x, y))


# ---- simulation-based calibration ------------------------------------------------------------------------------------

RANKS, BINS = 32, 8
PLANS = {
    "nuts": SamplingPlan(kernel="nuts", chains=1, warmup=60, draws=31, thinning=3, max_tree_depth=7),
    "hmc": SamplingPlan(
        kernel="hmc", chains=1, warmup=60, draws=31, thinning=4, max_tree_depth=7, trajectory_length=1.5
    ),
    "chees": SamplingPlan(kernel="chees", chains=16, warmup=60, draws=2, thinning=12, max_tree_depth=7),
    "mams": SamplingPlan(kernel="mams", chains=16, warmup=60, draws=2, thinning=12, max_tree_depth=7),
    "exact": SamplingPlan(kernel="chees", chains=16, warmup=60, draws=2, thinning=12, max_tree_depth=7, gates="exact"),
}


def truth(x: Tensor, y: Tensor, *, hard: bool) -> dict[str, Tensor]:
    """A draw of the prior, with gates that are relaxed or hard; y becomes the data that it makes."""
    prior: Callable[..., Any] = poutine.uncondition(linear)
    if hard:
        prior = poutine.condition(prior, {"w.gate": (torch.rand(x.shape[1]) < INCLUSION).to(x)})
    sites: Any = poutine.trace(prior).get_trace(x, y).nodes
    y.copy_(sites["y"]["value"])
    return {name: sites[name]["value"].unsqueeze(0) for name in ("w.gate", "w.weight")}


def quantities(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    """What is ranked: two gates, two gated coefficients and the log-likelihood, shape ``(draws, 5)``."""
    used = values["w.gate"] * values["w.weight"]
    likelihood = dist.Normal(used @ x.T, NOISE).log_prob(y).sum(-1, keepdim=True)
    return torch.cat([values["w.gate"][:, :2], used[:, :2], likelihood], -1)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", PLANS)
def test_ranks_of_the_truth_are_uniform(kernel: str) -> None:
    """By a chi-square test of eight bins for each quantity; all together fail by chance once in 10,000 seeds.

    Source: Talts, Betancourt, Simpson, Vehtari, Gelman (2018), *Validating Bayesian inference algorithms with
    simulation-based calibration*.
    """
    x, y = torch.randn(8, 3, dtype=DOUBLE), torch.zeros(8, dtype=DOUBLE)
    potential = SpikePotential(linear, x, y) if kernel == "exact" else Potential(noncentered(linear), x, y)
    ranks = []
    with pyro.validation_enabled(False):
        for _ in range(64):
            true = quantities(truth(x, y, hard=kernel == "exact"), x, y)
            run = begin(PLANS[kernel], potential, None)
            while run.done < run.total:
                run.advance()
            draws = potential.unflatten(run.result()["vectors"].flatten(0, 1)[1 - RANKS :])
            found = quantities(draws, x, y)
            ties = torch.rand(found.shape[1]) * ((found == true).sum(0) + 1)
            ranks.append((found < true).sum(0) + ties.long())
    counts = torch.nn.functional.one_hot(torch.stack(ranks) * BINS // RANKS, BINS).sum(0).double()
    expected = len(ranks) / BINS
    statistic = ((counts - expected).square() / expected).sum(-1)
    p_value = torch.special.gammaincc(torch.tensor((BINS - 1) / 2, dtype=DOUBLE), statistic / 2)
    assert (p_value > 1e-4 / (len(p_value) * len(PLANS))).all(), (counts, p_value)
