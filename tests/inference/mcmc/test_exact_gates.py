"""Exact spikes: the posterior of all supports, whatever the pseudo-prior and wherever the chains begin."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.exact_gates import ExactGates
from bnn_pyro.inference.mcmc.exact_gates_warmup import ExactGatesWarmUp
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.exact_gate_potential import SpikePotential
from bnn_pyro.inference.mcmc.pseudo_prior import PseudoPrior
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.diagnostics import ess_bulk, r_hat
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.posterior.sampled import SampledPosterior
from bnn_pyro.priors import Gaussian, SpikeSlab, gate, group_lasso_scale, slab, spike_slab_gaussian
from guides import AutoSpikeSlab
from tests.inference.mcmc.test_chees import warm_up
from tests.models import DOUBLE, INCLUSION, NOISE, data, exact_inclusion, fitted, linear

SIGMA = 0.5
LAMBDA = torch.tensor(INCLUSION, dtype=DOUBLE)


def groups(x: Tensor, y: Tensor, count: int = 8) -> None:
    """Regression on groups of columns, with a spike and slab on each group and known noise."""
    w = spike_slab_gaussian("w", (count, x.shape[1] // count), inclusion=LAMBDA, sigma=SIGMA)
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(x @ w.flatten(), NOISE), obs=y)


def columns(rows: int, size: int, *effects: float) -> tuple[Tensor, Tensor]:
    """Data with an effect of each group."""
    x = torch.randn(rows, len(effects) * size, dtype=DOUBLE)
    w = torch.randn(len(effects), size, dtype=DOUBLE) * torch.tensor(effects, dtype=DOUBLE).unsqueeze(-1)
    return x, x @ w.flatten() + NOISE * torch.randn(rows, dtype=DOUBLE)


def enumerated(
    x: Tensor, y: Tensor, gates: int, used: Callable[[Tensor], Tensor], *, prior: Tensor = LAMBDA
) -> tuple[Tensor, Tensor]:
    """Inclusion probabilities and the mean of the used weights, from the marginal likelihoods of all supports.

    ``used`` tells which columns a support uses.
    """
    evidence, supports, means = [], [], []
    for chosen in itertools.product((0.0, 1.0), repeat=gates):
        z = torch.tensor(chosen, dtype=DOUBLE)
        covariances = SIGMA**2 * x * used(z)
        total = covariances @ x.T + NOISE**2 * torch.eye(len(y), dtype=DOUBLE)
        support = (z * prior.log() + (1 - z) * (1 - prior).log()).sum()
        evidence.append(dist.MultivariateNormal(torch.zeros_like(y), total).log_prob(y) + support)
        supports.append(z)
        means.append(covariances.T @ torch.linalg.solve(total, y))
    share = torch.softmax(torch.stack(evidence), 0)
    return share @ torch.stack(supports), share @ torch.stack(means)


def drawn(sampler: ExactGates, warmup: int, transitions: int) -> dict[str, Tensor]:
    """Values of the model's sites after each transition, shape ``(chains, transitions, *shape)``."""
    if warmup:
        warm_up(ExactGatesWarmUp(sampler), warmup)
    vectors = []
    for _ in range(transitions):
        sampler.transition()
        vectors.append(sampler.position)
    return sampler.potential.unflatten(torch.stack(vectors, 1))


def assert_means(draws: Tensor, expected: Tensor, errors: float = 5.0) -> None:
    """Means within Monte Carlo errors; a gate that hardly moves may be off by what a few independent draws may miss."""
    size = ess_bulk(draws)
    error = errors * (draws.var((0, 1)) / size).sqrt() + 10 / size
    distance = (draws.mean((0, 1)) - expected).abs()
    assert (distance < error).all(), (draws.mean((0, 1)), expected, error)
    assert (size > 100).all()


# ---- exact posteriors ------------------------------------------------------------------------------------------------


def test_inclusion_is_that_of_all_256_supports() -> None:
    """Eight groups of two weights; fails by chance less than once in 10,000 seeds."""
    torch.manual_seed(1)
    x, y = columns(40, 2, 0.3, 0.15, 0.2, 0.1, 0.15, 0.0, 0.1, 0.0)
    inclusion, mean = enumerated(x, y, 8, lambda z: z.repeat_interleave(2))
    assert ((inclusion > 0.05) & (inclusion < 0.95)).sum() >= 4
    draws = drawn(ExactGates(SpikePotential(groups, x, y), 16), 60, 100)
    assert_means(draws["w.gate"], inclusion)
    assert_means(draws["w.weight"].flatten(2), mean)
    assert (r_hat(draws["w.weight"]) < 1.1).all()
    assert (draws["w.weight"][draws["w.gate"] == 0] == 0).all()


@pytest.mark.slow
def test_groups_of_eight_open_again() -> None:
    """Chains from all open and from all closed agree with each other and with all 256 supports."""
    torch.manual_seed(1)
    x, y = columns(120, 8, *(0.06 * number for number in (1, 2, 3, 4)), 0.0, 0.0, 0.0, 0.0)
    inclusion, mean = enumerated(x, y, 8, lambda z: z.repeat_interleave(8))
    draws = drawn(ExactGates(SpikePotential(groups, x, y), 32), 400, 1000)
    assert_means(draws["w.gate"], inclusion)
    assert_means(draws["w.weight"].flatten(2), mean)
    opened, closed = (draws["w.gate"][first::2] for first in (0, 1))
    error = 5 * (draws["w.gate"].var((0, 1)) * 2 / ess_bulk(draws["w.gate"])).sqrt() * math.sqrt(2)
    assert ((opened.mean((0, 1)) - closed.mean((0, 1))).abs() <= error + 0.01).all()


@pytest.mark.parametrize(("tries", "loc"), [(1, 0.0), pytest.param(4, 1.0, marks=pytest.mark.slow)])
def test_the_pseudo_prior_changes_no_posterior(tries: int, loc: float) -> None:
    """Nor does the number of tries; one is far off. They do not follow the draws here."""
    x, y = data(8)
    sampler = ExactGates(SpikePotential(linear, x, y), 32, tries=tries)
    warm_up(ExactGatesWarmUp(sampler), 20)
    sampler.pseudo_prior = PseudoPrior(torch.full((3,), loc, dtype=DOUBLE), torch.full((3,), 0.8, dtype=DOUBLE))
    assert_means(drawn(sampler, 0, 100)["w.gate"], exact_inclusion(x, y))


def test_weights_with_a_gate_at_either_end() -> None:
    """Five gates on a matrix of two by three."""

    def matrix(x: Tensor, y: Tensor) -> None:
        rows, entries = gate("rows", LAMBDA, size=2), gate("entries", LAMBDA, size=3)
        w = slab("w", (2, 3), scale=torch.tensor(SIGMA, dtype=DOUBLE), gates={"rows": -2, "entries": -1})
        used = rows.unsqueeze(-1) * w * entries
        pyro.sample("y", dist.Normal(x @ used.flatten(), NOISE).to_event(1), obs=y)

    torch.manual_seed(0)
    x, y = columns(25, 3, 0.4, 0.2)
    inclusion, mean = enumerated(x, y, 5, lambda z: z[:2].outer(z[2:]).flatten())
    draws = drawn(ExactGates(SpikePotential(matrix, x, y), 16), 60, 100)
    assert_means(torch.cat([draws["rows"], draws["entries"]], -1), inclusion)
    assert_means(draws["w"].flatten(2), mean)


@pytest.mark.slow
def test_latent_scales() -> None:
    """A group lasso of one group, its scale summed out on a grid."""

    def model(x: Tensor, y: Tensor) -> None:
        scale = group_lasso_scale("w", 1, group_size=2, rate=torch.tensor(4.0, dtype=DOUBLE))
        z = gate("z", LAMBDA, size=1)
        w = slab("w.weight", (1, 2), scale=scale, gates={"z": -2})
        pyro.sample("y", dist.Normal(x @ (z * w).flatten(), NOISE).to_event(1), obs=y)

    torch.manual_seed(0)
    x, y = columns(8, 2, 0.5)
    squares = (torch.arange(2000, dtype=DOUBLE) + 0.5) * 5e-3
    prior = dist.Gamma(torch.tensor(1.5, dtype=DOUBLE), torch.tensor(2.0, dtype=DOUBLE)).log_prob(squares).exp() * 5e-3
    noise = NOISE**2 * torch.eye(len(y), dtype=DOUBLE)
    covariance = squares.reshape(-1, 1, 1) * (x @ x.T) + noise
    likelihood = dist.MultivariateNormal(torch.zeros_like(y), covariance).log_prob(y).exp()
    opened = LAMBDA * (likelihood * prior).sum()
    closed = (1 - LAMBDA) * dist.MultivariateNormal(torch.zeros_like(y), noise).log_prob(y).exp()
    share = opened / (opened + closed)
    assert 0.1 < share < 0.9
    mean = share * (likelihood * prior * squares).sum() / (likelihood * prior).sum() + (1 - share) * 0.75
    draws = drawn(ExactGates(SpikePotential(model, x, y), 32), 60, 80)
    assert_means(draws["z"], share.reshape(1))
    assert_means(draws["w.tau_squared"], mean.reshape(1))


@pytest.mark.slow
def test_guide_as_pseudo_prior() -> None:
    """By ``sample``, on a model by hand."""
    x, y = data(10)
    guide = fitted(AutoSpikeSlab(linear, x, y), linear, x, y, steps=60, draws=8)
    plan = SamplingPlan(kernel="chees", gates="exact", chains=32, warmup=40, draws=100)
    draws = sample(linear, (x, y), plan, pseudo_prior=guide, seed=0, progress=False)
    assert_means(draws.values["w.gate"], exact_inclusion(x, y))
    assert draws.energy.shape == (32, 100) and not list(pyro.get_param_store().keys())


# ---- a network -------------------------------------------------------------------------------------------------------


def network() -> tuple[SparseNetwork, tuple[Tensor, Tensor]]:
    x, y = data()
    prior = SpikeSlab(Gaussian(), inclusion=0.5)
    options: Any = {"likelihood": GaussianNoise(), "num_data": len(x), "select_inputs": True}
    return SparseNetwork(mlp(x.shape[1], (3,), 1), x.float()[:2], prior=prior, **options), (x, y)


SHORT = SamplingPlan(kernel="chees", gates="exact", chains=2, warmup=12, draws=4)
GIVEN: Any = {"seed": 3, "progress": False}


def test_posterior_of_a_network() -> None:
    """Its gates are 0 or 1, closed weights are 0, and what it predicts is finite."""
    model, (x, y) = network()
    guide = AutoSpikeSlab(model.prior)
    found = sample(model, (x, y), replace(SHORT, max_tree_depth=4), pseudo_prior=GuidePosterior(model, guide), **GIVEN)
    assert isinstance(found, SampledPosterior)
    values = found.draws.values
    gates = {name: values[f"{name}.gate"] for name in model.groups}
    assert all(set(value.unique().tolist()) <= {0.0, 1.0} for value in gates.values())
    closed = (gates["hidden1"].unsqueeze(-1) * gates["inputs"].unsqueeze(-2)) == 0
    assert closed.any() and torch.equal(values["hidden1.weight"] == 0, closed)
    assert torch.isfinite(torch.as_tensor(found.predict(x))).all()
    assert found.inclusion().keys() == {"inputs", "hidden1"}


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": "nuts"}, "or 'exact' with kernel='chees', got gates='exact', kernel='nuts'"),
        ({"gates": "hard"}, "gates must be 'relaxed', or 'exact'"),
        ({"gates": "relaxed"}, "pseudo_prior is for gates='exact'"),
        ({}, "pseudo_prior must draw the slab 'w.weight' of shape \\(3,\\), got none"),
        ({"chains": 1}, "chains must be at least 2 for kernel='chees', got 1"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(linear, data(), replace(SHORT, **options), pseudo_prior=lambda *args: {}, **GIVEN)


def test_draws_have_no_guide() -> None:
    model, (x, y) = network()
    found = sample(model, (x, y), replace(SHORT, max_tree_depth=2), **GIVEN)
    with pytest.raises(ValueError, match="pseudo_prior must be a posterior of fit, or a guide, got SampledPosterior"):
        sample(model, (x, y), SHORT, pseudo_prior=found, **GIVEN)
