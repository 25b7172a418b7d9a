"""What a method says: its draws, its scores, its distances from another's, against closed forms."""

import math

import pytest
import torch
from torch import Tensor

from bnn_pyro import GroupHorseshoe, SparseNetwork, SpikeSlab, fit, networks
from bnn_pyro.comparison.answers import Answer, Sample, answer, compared_rows, distances
from bnn_pyro.evaluation.metrics import regression_metrics
from bnn_pyro.inference.generators import seeded
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.inference.training.compute import Compute
from bnn_pyro.likelihoods import Categorical, Classes, GaussianNoise, Normals
from bnn_pyro.posterior.guide import GuidePosterior


def normals(mean: float, sd: float, *, draws: int = 400, rows: int = 3, spread: float = 0.0, chains: int = 1) -> Sample:
    """A sample whose draws predict N(mean + spread z, sd²), z standard normal."""
    middle = mean + spread * torch.randn(draws, rows, dtype=torch.float64)
    return Sample(Normals(middle, torch.full_like(middle, sd)), middle, chains)


def classes(probability: float, draws: int = 200) -> Sample:
    p = torch.full((draws, 2, 1), probability, dtype=torch.float64)
    both = torch.cat([p, 1 - p], -1)
    return Sample(Classes(both.mean(0), both), both[..., 0] + 1e-6 * torch.randn(draws, 2))


def regression() -> tuple[SparseNetwork, tuple[Tensor, Tensor]]:
    x = torch.randn(30, 2)
    data = (x, x[:, 0] + 0.1 * torch.randn(30))
    prior = SpikeSlab(GroupHorseshoe(), inclusion=0.5)
    net = networks.mlp(2, (3,), 1)
    model = SparseNetwork(net, x[:2], prior=prior, likelihood=GaussianNoise(), num_data=30, select_inputs=True)
    return model, data


# distances


def test_distances_of_two_normals() -> None:
    """At a shift of one noise: TV 2 Phi(1/2) - 1, W1 the shift in the target's units."""
    found = distances(normals(0.0, 0.5), normals(0.5, 0.5), y_std=10.0)
    assert found["total_variation"] == pytest.approx(math.erf(0.5 / math.sqrt(2)), abs=2e-3)
    assert found["wasserstein"] == pytest.approx(5.0, rel=1e-6)


def test_distances_of_two_classifications() -> None:
    found = distances(classes(0.7), classes(0.4))
    assert found["total_variation"] == pytest.approx(0.3)
    assert found["wasserstein"] == pytest.approx(0.3, abs=1e-4)
    with pytest.raises(ValueError, match="both be of classes"):
        distances(classes(0.7), normals(0.0, 1.0))


def test_r_hat_takes_methods_for_chains() -> None:
    same = distances(normals(0.0, 1.0, spread=1.0), normals(0.0, 1.0, spread=1.0))
    narrow = distances(normals(0.0, 1.0, spread=1.0), normals(0.0, 1.0, spread=0.2))
    apart = distances(normals(0.0, 1.0, spread=1.0), normals(5.0, 1.0, spread=1.0))
    assert same["r_hat"] < 1.02  # fails less than once in a thousand seeds
    assert narrow["r_hat"] > 1.1 and apart["r_hat"] > 1.5


# draws


def test_halves_are_halves_of_the_chains() -> None:
    values = torch.arange(12.0).reshape(12, 1)
    found = Sample(Normals(values, torch.ones_like(values)), values, chains=3)
    assert found.by_chain.shape == (3, 4, 1)
    first, second = found.halves()
    assert first.values.flatten().tolist() == [0, 1, 2, 3] and second.values[0] == 4 and len(second.values) == 8
    whole = Sample(found.predicted, values)
    assert [len(half.values) for half in whole.halves()] == [6, 6]
    assert found.thinned(4).values.flatten().tolist() == [0, 4, 7, 11]


def test_halves_and_thinned_draws_average_classes_anew() -> None:
    draws = torch.rand(10, 4, 3).softmax(-1)
    first, _ = Sample(Classes(draws.mean(0), draws), draws[..., 0]).halves()
    assert isinstance(first.predicted, Classes)
    torch.testing.assert_close(first.predicted.probabilities, draws[:5].mean(0))


def test_convergence_is_that_of_the_worst_row() -> None:
    chains = torch.randn(4, 100, 2, dtype=torch.float64)
    chains[0, :, 1] += 3
    values = chains.flatten(0, 1)
    found = Answer("exact", {}, Sample(Normals(values, values.exp()), values, 4), {}, {}, seconds=2.0).convergence()
    assert found["r_hat"] > 1.3
    assert found["ess"] < 100 and found["ess_per_second"] == found["ess"] / 2
    assert Answer("exact", {}, normals(0.0, 1.0), {}, {}, seconds=2.0).convergence() == {}


def test_compared_rows_are_spread_evenly() -> None:
    assert compared_rows(5).tolist() == [0, 1, 2, 3, 4]
    many = compared_rows(1000)
    assert len(many) == 50 and many[0] == 0 and many[-1] == 999 and (many.diff() > 0).all()


# posteriors


def test_answer_of_a_guide() -> None:
    model, data = regression()
    posterior = fit(model, data, epochs=2, seed=0, progress=False, compute=Compute(engine="eager"))
    with seeded(1, torch.device("cpu")):
        found = answer(posterior, data, y_std=2.0, gates="exact", seconds=3.0, details={"epochs": 2})
    with seeded(1, torch.device("cpu")):
        drawn = posterior.predict(data[0], num_samples=250, return_draws=True)
    assert isinstance(drawn, Normals)
    assert found.scores == regression_metrics(drawn.mean, drawn.sd, data[1], y_std=2.0)
    assert found.sample.chains == 1 and found.sample.values.shape == (250, 30)
    gamma = posterior.inclusion()
    for group, size in (("inputs", 2), ("hidden1", 3)):
        assert found.inclusion[group].shape == found.at_least[group].shape == (size,)
        assert (found.inclusion[group] - gamma[group]).abs().max() < 0.04  # 5 standard errors
        assert found.nodes_open()[group] == pytest.approx(float(found.inclusion[group].sum()))
    assert found.details == {"epochs": 2} and found.seconds == 3.0


def test_answer_of_chains_has_all_draws_in_their_order() -> None:
    model, data = regression()
    posterior = sample(model, data, SamplingPlan(chains=2, warmup=3, draws=5, max_tree_depth=2), seed=0, progress=False)
    found = answer(posterior, data, gates="relaxed")
    gates = posterior.draws.values["hidden1.gate"].flatten(0, 1) > 0.5
    assert found.sample.by_chain.shape == (2, 5, 30)
    torch.testing.assert_close(found.inclusion["hidden1"], gates.double().mean(0))
    with posterior.model.evaluating():
        last = {name: value[1, 4] for name, value in posterior.draws.values.items()}
        weights = {p.name: last[p.name] for p in model.bayesian}
        values = posterior.model.assemble(weights, {name: last[f"{name}.gate"] for name in model.groups})
        output = posterior.model.call_net(values, data[0])
    torch.testing.assert_close(found.sample.by_chain[1, 4], output.squeeze(-1))


def test_answer_of_a_classification_looks_at_the_label() -> None:
    x, y = torch.randn(20, 2), torch.arange(20) % 3
    net = networks.mlp(2, (3,), 3)
    model = SparseNetwork(net, x[:2], prior=GroupHorseshoe(), likelihood=Categorical(), num_data=20)
    found = answer(
        GuidePosterior(model, fit(model, (x, y), epochs=1, progress=False, compute=Compute(engine="eager")).guide),
        (x, y),
        gates="none",
    )
    assert isinstance(found.sample.predicted, Classes)
    torch.testing.assert_close(found.sample.values[:, 4], found.sample.predicted.draws[:, 4, 1])
    assert set(found.scores) == {"accuracy", "nll", "ece", "brier"} and not found.inclusion
