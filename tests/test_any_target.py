"""Targets of every kind go the whole way: dense training, both fits, sampling, scores, a predictive distribution."""

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from bnn_pyro import SamplingPlan, Schedule, fit, fit_sghmc, networks, prune, sample, train_dense
from bnn_pyro.evaluation import ClassProbabilities, NormalMixture
from bnn_pyro.inference.svi.schedule import LearningRates
from bnn_pyro.likelihoods import (
    Bernoulli,
    Categorical,
    CorrelatedNoise,
    Likelihood,
    Mixture,
    MultiOutputNoise,
    NegativeBinomial,
    Normals,
    Poisson,
    StudentT,
)
from bnn_pyro.likelihoods.base import latent_site
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.predictive_net import predictive_net
from bnn_pyro.priors import Gaussian, SpikeSlab

ROWS = 160
X = torch.randn(ROWS, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
CLEAN = torch.stack([X[:, 0] - 0.5 * X[:, 1], X[:, 2], 0 * X[:, 0]], 1)


class Several:
    """A likelihood of somebody else, by the four methods alone."""

    def prior(self, *, like: Tensor | None = None) -> None:
        return None

    def distribution(self, output: Tensor, latent: Tensor | None = None) -> Any:
        return dist.Normal(output, 0.3, validate_args=False).to_event(1)

    def check(self, output: Tensor, y: Tensor | None = None) -> None:
        pass

    def predict(self, output: Tensor, latent: Tensor | None = None) -> Normals:
        return Normals(output, torch.full_like(output, 0.3))


def seeded(make: Callable[[], Tensor]) -> Tensor:
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        return make()


NOISY = CLEAN + 0.3 * seeded(lambda: torch.randn(ROWS, 3, dtype=torch.float64))
GAPS = NOISY.masked_fill(seeded(lambda: torch.rand(ROWS, 3)) < 0.2, torch.nan)
COUNTS = seeded(lambda: torch.poisson((0.5 + CLEAN[:, 0]).exp()))
CASES: dict[str, tuple[Likelihood, int, Tensor]] = {
    "one label": (Bernoulli(), 1, (NOISY[:, 0] > 0).long()),
    "many labels": (Bernoulli(weight=(1.0, 2.0, 1.0)), 3, (NOISY > 0).double()),
    "labels with gaps": (Bernoulli(missing=True), 3, (GAPS > 0).double().masked_fill(GAPS.isnan(), torch.nan)),
    "counts": (Poisson(), 1, COUNTS),
    "counts that vary more": (NegativeBinomial(), 1, COUNTS.long()),
    "outliers": (StudentT(), 1, NOISY[:, 0]),
    "several targets": (MultiOutputNoise(3), 3, NOISY),
    "several targets with gaps": (MultiOutputNoise(3, shared=True, missing=True), 3, GAPS),
    "correlated targets": (CorrelatedNoise(3), 3, NOISY),
    "correlated targets with gaps": (CorrelatedNoise(3, missing=True), 3, GAPS),
    "a map of targets": (MultiOutputNoise((3, 1), shared=True), 3, NOISY.unsqueeze(-1)),
    "somebody else's": (Several(), 3, NOISY),
}
every_target = pytest.mark.parametrize(("likelihood", "outputs", "y"), CASES.values(), ids=CASES.keys())


def model_of(likelihood: Likelihood, outputs: int, y: Tensor, *, spike: bool) -> SparseNetwork:
    net = networks.mlp(4, (6,), outputs).double()
    options: dict[str, Any] = {"epochs": 60, "batch_size": 40, "learning_rate": 0.01, "seed": 0}
    dense = train_dense(net, (X, y), likelihood=likelihood, **options)
    prior = SpikeSlab(Gaussian(), inclusion=0.3) if spike else Gaussian()
    return SparseNetwork(dense, X[:2], prior=prior, likelihood=likelihood, num_data=ROWS)


def score_of_a_constant(likelihood: Likelihood, model: SparseNetwork, y: Tensor) -> float:
    """The NLL of a network that always gives what it gives on average."""
    with torch.no_grad():
        constant = model.net(X).mean(0).expand(1, ROWS, -1)
    latent = None if latent_site(likelihood) is None else torch.ones_like(likelihood.prior(like=X)).unsqueeze(0)  # type: ignore[arg-type]
    predicted = likelihood.predict(constant, latent)
    assert isinstance(predicted, Normals | Mixture)
    density = dist.Normal(*predicted).to_event(1) if isinstance(predicted, Normals) else predicted.draws
    return -float(density.log_prob(y).mean())


@every_target
def test_it_is_fitted_scored_and_pruned(likelihood: Likelihood, outputs: int, y: Tensor) -> None:
    model = model_of(likelihood, outputs, y, spike=True)
    schedule, rates = Schedule(hold=10, freeze=5), LearningRates(slab_locs=3e-3, slab_scales=1e-2, gates=2e-2)
    options: dict[str, Any] = {"schedule": schedule, "rates": rates, "kl_weight": 0.1, "seed": 0}
    posterior = fit(model, (X, y), epochs=30, batch_size=40, **options)
    scores = posterior.evaluate(X, y)
    assert scores["nll"] < score_of_a_constant(likelihood, model, y)
    assert posterior.history[-1]["train_nll"] == pytest.approx(posterior.evaluate_median(X, y)["nll"], rel=1e-6)
    expected, found = posterior.predict(X), posterior.predictive(X)
    assert expected.shape == y.shape and not isinstance(found, NormalMixture | ClassProbabilities)
    assert found.interval(0.9)[0].shape == found.std.shape == y.shape and found.log_prob(y).shape == (ROWS,)
    assert prune(posterior)(X).shape == (ROWS, outputs)
    mean, std = predictive_net(posterior, draws=3)(X)
    assert mean.shape == std.shape == y.shape


@every_target
def test_it_is_sampled_by_stochastic_gradients(likelihood: Likelihood, outputs: int, y: Tensor) -> None:
    posterior = fit_sghmc(model_of(likelihood, outputs, y, spike=True), (X, y), epochs=5, batch_size=40, seed=0)
    assert torch.isfinite(torch.tensor(posterior.evaluate(X, y)["nll"]))
    assert posterior.predict(X).shape == y.shape


def test_weighted_classes_are_fitted_and_sampled() -> None:
    """A class that counts three times is predicted more often, by each method."""
    y = (NOISY[:, 0] > 0).long()
    shares = []
    for weight in ((1.0, 1.0), (1.0, 9.0)):
        model = model_of(Categorical(weight), 2, y, spike=True)
        fitted = fit(model, (X, y), epochs=30, batch_size=40, kl_weight=0.1, seed=0)
        sampled = fit_sghmc(model, (X, y), epochs=5, batch_size=40, seed=0)
        assert fitted.predict(X).shape == sampled.predict(X).shape == (ROWS, 2)
        assert torch.isfinite(torch.tensor(fitted.evaluate(X, y)["nll"]))
        shares.append([float(posterior.predict(X)[:, 1].mean()) for posterior in (fitted, sampled)])
    assert all(heavy > plain for plain, heavy in zip(*shares, strict=True))


@every_target
def test_it_is_sampled_by_chains(likelihood: Likelihood, outputs: int, y: Tensor) -> None:
    model = model_of(likelihood, outputs, y, spike=False)
    plan = SamplingPlan(kernel="chees", chains=3, warmup=4, draws=4)
    posterior = sample(model, (X, y), plan, start="ensemble", seed=0, engine="eager")
    each = posterior.log_likelihood(X, y)
    assert each.shape == (3, 4, ROWS)
    if getattr(likelihood, "weight", None):
        return  # what is sampled counts labels by their weights, what is scored does not
    averaged = each.flatten(0, 1).logsumexp(0) - torch.tensor(12.0).log()
    assert posterior.evaluate(X, y)["nll"] == pytest.approx(-float(averaged.mean()), rel=1e-6)
    assert posterior.prediction_r_hat(X).shape[0] >= ROWS


def test_a_gap_is_refused_where_the_likelihood_takes_none() -> None:
    model = model_of(MultiOutputNoise(3), 3, NOISY, spike=True)
    with pytest.raises(ValueError, match="data must be finite, got NaN or infinite values in y"):
        fit(model, (X, GAPS), epochs=1)
