"""The posterior that draws of chains hold."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from bnn_pyro import SamplingPlan, prune, sample
from bnn_pyro.evaluation.metrics import classification_metrics, regression_metrics
from bnn_pyro.likelihoods import Categorical, Classes, GaussianNoise, HeteroscedasticNoise, Likelihood, Mixture, Normals
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.posterior import sampled as sampled_module
from bnn_pyro.posterior.diagnostics import r_hat
from bnn_pyro.posterior.draws import Draws
from bnn_pyro.posterior.predictive_net import predictive_net
from bnn_pyro.posterior.sampled import SampledPosterior
from bnn_pyro.priors import Gaussian, SpikeSlab
from bnn_pyro.reports.plots.variables import reading_strength
from tests.models import DOUBLE
from tests.posterior.permuted import OPEN, chains, regression

CHAINS, DRAWS = 2, 5


def draws_of(values: dict[str, Tensor]) -> Draws:
    """Draws with these values; how the chains went is made up."""
    each = torch.rand(CHAINS, DRAWS, dtype=DOUBLE)
    return Draws(
        values=values,
        vectors=torch.cat(
            [value.flatten(2) if value.dim() > 2 else value.unsqueeze(-1) for value in values.values()], -1
        ),
        energy=each,
        total_energy=each,
        acceptance=each,
        diverged=torch.zeros(CHAINS, DRAWS, dtype=torch.int64),
        leapfrogs=torch.ones(CHAINS, DRAWS, dtype=torch.int64),
        step_size=each[:, 0],
        inverse_mass=torch.ones(CHAINS, 3, dtype=DOUBLE),
        kernel="nuts",
        thinning=1,
        seconds=1.0,
    )


def network(outputs: int = 3, **options: Any) -> SparseNetwork:
    given = {"prior": SpikeSlab(Gaussian(), inclusion=0.5), "likelihood": Categorical(), "num_data": 8, **options}
    return SparseNetwork(mlp(4, (5, 3), outputs).double(), torch.randn(2, 4, dtype=DOUBLE), select_inputs=True, **given)


def drawn(model: SparseNetwork, *, exact: bool = False) -> dict[str, Tensor]:
    """Values of all sites at random, most gates open, those of node 0 never; exact gates are 0 or 1."""
    values = {p.name: torch.randn(CHAINS, DRAWS, *p.shape, dtype=DOUBLE) for p in model.bayesian}
    for name, group in model.groups.items():
        gate = torch.rand(CHAINS, DRAWS, group.size, dtype=DOUBLE).sqrt()
        gate[..., 0] = 0.2
        values[f"{name}.gate"] = gate.round() if exact else gate
    return values


def sampled(outputs: int = 3, *, exact: bool = False, **options: Any) -> SampledPosterior:
    model = network(outputs, **options)
    values = drawn(model, exact=exact)
    if isinstance(model.likelihood, GaussianNoise):
        values["noise_scale"] = torch.rand(CHAINS, DRAWS, dtype=DOUBLE) + 0.1
    return SampledPosterior(model, draws_of(values))


def rows(size: int = 8) -> Tensor:
    return torch.randn(size, 4, dtype=DOUBLE)


def test_statistics_of_a_batch_norm_are_those_that_the_chains_saw() -> None:
    """They are the network's own in every draw: the likelihood of the draws is the one that was sampled."""
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    net.double()(5 * rows())  # moves the running statistics
    x, y = rows(), torch.randn(8, dtype=DOUBLE)
    model = SparseNetwork(net, x, prior=Gaussian(), likelihood=GaussianNoise(0.5), num_data=8)
    plan = SamplingPlan(kernel="chees", chains=2, warmup=10, draws=4)
    posterior = sample(model, (x, y), plan, seed=0, engine="traced", progress=False)
    potential = posterior.draws.vectors.square().sum(-1) / 2 - posterior.log_likelihood(x, y).sum(-1)
    assert float((posterior.draws.energy - potential).std()) < 1e-9 < float(potential.std())


def by_hand(posterior: SampledPosterior, x: Tensor) -> Tensor:
    """The net's outputs for each draw, chain after chain."""
    model, stacked = posterior.model, posterior.draws.stacked()
    outputs = []
    for number in range(CHAINS * DRAWS):
        values = {name: value[number] for name, value in stacked.items()}
        gates = {name: values[f"{name}.gate"] for name in model.groups}
        outputs.append(model.call_net(model.assemble(values, gates), x))
    return torch.stack(outputs)


# ---- prediction ------------------------------------------------------------------------------------------------------


def test_predicts_the_mean_over_all_draws() -> None:
    posterior, x = sampled(), rows()
    probabilities = by_hand(posterior, x).softmax(-1)
    torch.testing.assert_close(posterior.predict(x), probabilities.mean(0))
    torch.testing.assert_close(posterior.predict(x, num_samples=99, batch_size=3), probabilities.mean(0))
    found = posterior.predict(x, return_draws=True)
    assert isinstance(found, Classes) and posterior.num_draws == CHAINS * DRAWS
    torch.testing.assert_close(found.draws, probabilities)


def test_fewer_draws_are_spread_over_the_chains() -> None:
    posterior, x = sampled(), rows()
    found = posterior.predict(x, num_samples=2, return_draws=True)
    assert isinstance(found, Classes)
    torch.testing.assert_close(found.draws, by_hand(posterior, x).softmax(-1)[[0, -1]])


def test_regression_has_the_noise_of_each_draw() -> None:
    posterior, x, y = sampled(1, likelihood=GaussianNoise()), rows(), torch.randn(8, dtype=DOUBLE)
    found = posterior.predict(x, return_draws=True)
    assert isinstance(found, Normals) and not posterior.is_classification
    torch.testing.assert_close(found.mean, by_hand(posterior, x).squeeze(-1))
    torch.testing.assert_close(found.sd[:, 0], posterior.draws.stacked()["noise_scale"])
    assert posterior.evaluate(x, y, num_samples=99) == regression_metrics(found.mean, found.sd, y)


def test_evaluates_the_median_model_or_draws() -> None:
    posterior, x, y = sampled(), rows(), torch.randint(3, (8,))
    of_median = classification_metrics(prune(posterior)(x).softmax(-1), y)
    assert posterior.evaluate_median(x, y) == pytest.approx(of_median)
    mean = by_hand(posterior, x).softmax(-1).mean(0)
    for num_samples in (None, 99):
        assert posterior.evaluate(x, y, num_samples=num_samples) == pytest.approx(classification_metrics(mean, y))


# ---- the median-probability model of several chains: a draw ----------------------------------------------------------


def with_energy(posterior: SampledPosterior, energy: list[list[float]]) -> SampledPosterior:
    posterior.draws.energy.copy_(torch.tensor(energy))
    return posterior


def test_the_nodes_kept_are_those_of_the_chain_with_the_lowest_energy() -> None:
    posterior = sampled()
    for energy, chain in (([[3, 4, 5, 6, 7], [9, 2, 9, 9, 9]], 1), ([[1, 4, 5, 6, 7], [9, 2, 9, 9, 9]], 0)):
        expected = with_energy(posterior, [[float(e) for e in row] for row in energy]).chain(chain).inclusion()
        assert posterior.best_draw()[0] == chain
        for name, mask in posterior.keep().items():
            assert torch.equal(mask, expected[name] > 0.5)


def test_the_best_draw_has_the_nodes_that_are_kept() -> None:
    """Of a chain's draws those whose gates differ least from the majority come first, then the lowest energy."""
    posterior = with_energy(sampled(), [[9.0] * 5, [1.0, 2.0, 5.0, 4.0, math.nan]])
    for name in posterior.model.groups:
        posterior.draws.values[f"{name}.gate"].fill_(0.9)
    assert posterior.best_draw() == (1, 0)
    posterior.draws.values["hidden1.gate"][1, :2, 3] = 0.2  # node 3 is closed in draws 0 and 1, and open in most
    assert posterior.keep()["hidden1"].all() and posterior.best_draw() == (1, 3)
    posterior.draws.values["hidden1.gate"][1, 2:, :2] = 0.2  # nodes 0 and 1 are closed in most
    posterior.draws.values["hidden1.gate"][1, 3, 2] = 0.2
    assert posterior.keep()["hidden1"].tolist() == [False, False, True, True, True]
    assert posterior.best_draw() == (1, 2)


@pytest.mark.parametrize("exact", [False, True], ids=["relaxed", "exact"])
def test_the_median_model_is_that_draw_without_the_closed_nodes(exact: bool) -> None:
    posterior, x = sampled(1, exact=exact, likelihood=GaussianNoise()), rows()
    chain, draw = posterior.best_draw()
    values, model = {name: value[chain, draw] for name, value in posterior.draws.values.items()}, posterior.model
    keep = posterior.keep()
    gates = {name: values[f"{name}.gate"] * keep[name] for name in model.groups}
    expected = model.call_net(model.assemble(values, gates), x)
    torch.testing.assert_close(posterior.median_model()(x), expected)
    torch.testing.assert_close(prune(posterior)(x), expected)
    assert torch.equal(posterior.median_values()["noise_scale"], values["noise_scale"])


@pytest.mark.parametrize("prior", [None, Gaussian()], ids=["gates", "no gates"])
def test_chains_that_number_nodes_differently_have_a_median_model(prior: Gaussian | None) -> None:
    """Where the mean over chains is no network at all, and most chains have each node open."""
    model, (x, y) = regression(prior)
    posterior = chains(model, (x, y))
    found = posterior.predict(x, return_draws=True)
    assert isinstance(found, Normals)
    each = (found.mean - y).square().mean(-1).sqrt().view_as(posterior.draws.energy)
    best = float(each[posterior.best_draw()])
    assert posterior.evaluate_median(x, y)["rmse"] == pytest.approx(best)
    assert best < 1.02 * float(each.min()) < 0.12
    means = {p.name: posterior.draws.values[p.name].mean((0, 1)) for p in model.bayesian}
    assert (model.call_net(means, x).squeeze(-1) - y).square().mean().sqrt() > 5 * best
    assert prior is not None or int(prune(posterior).get_parameter("hidden1.bias").numel()) == OPEN
    assert posterior.chain(2).evaluate_median(x, y)["rmse"] < 1.1 * best


# ---- the median-probability model of one chain -----------------------------------------------------------------------


def test_inclusion_is_the_share_of_open_draws() -> None:
    posterior = sampled()
    inclusion, keep, last = posterior.inclusion(), posterior.keep(), posterior.inclusion(num_samples=CHAINS * 2)
    for name, group in posterior.model.groups.items():
        gate = posterior.draws.values[f"{name}.gate"]
        is_open = [(gate[c, d] > 0.5).double() for c in range(CHAINS) for d in range(DRAWS)]
        share = torch.stack(is_open).mean(0)
        assert torch.equal(inclusion[name], share) and inclusion[name].shape == (group.size,)
        assert not keep[name][0] and not share[0]
        assert torch.equal(last[name], (gate[:, -2:] > 0.5).double().mean((0, 1)))


@pytest.mark.parametrize("exact", [False, True], ids=["relaxed", "exact"])
def test_slabs_are_their_means_given_open(exact: bool) -> None:
    """For one entry by hand: the slab from input 1 to node 2, times the gate of the input."""
    posterior = sampled(exact=exact).chain(1)
    values = posterior.draws.stacked()
    name = posterior.model.bayesian[0].name
    reader, writer = values["inputs.gate"][:, 1], values["hidden1.gate"][:, 2]
    is_open = (reader > 0.5) & (writer > 0.5)
    expected = (values[name][:, 2, 1] * reader)[is_open].mean()
    torch.testing.assert_close(posterior.median_values()[name][2, 1], expected)
    assert int(is_open.sum()) not in (0, DRAWS)


def test_scales_are_at_their_medians() -> None:
    posterior = sampled(1, likelihood=GaussianNoise()).chain(0)
    noise = posterior.draws.stacked()["noise_scale"]
    assert torch.equal(posterior.median_values()["noise_scale"], noise.median())


def test_prune_is_the_median_model() -> None:
    posterior, x = sampled(), rows()
    small, keep = prune(posterior), posterior.keep()
    torch.testing.assert_close(small(x), posterior.median_model()(x))
    sizes = [int(keep[name].sum()) for name in ("inputs", "hidden1", "hidden2")]
    shapes = [tuple(p.shape) for p in small.parameters() if p.dim() == 2]
    assert shapes == [(sizes[1], sizes[0]), (sizes[2], sizes[1]), (3, sizes[2])] and sizes[0] < 4


def test_a_node_that_never_was_open_can_be_kept() -> None:
    posterior, x = sampled(), rows()
    keep = {"hidden1": torch.ones(5, dtype=torch.bool)}
    whole = posterior.median_model(keep=keep)
    assert torch.isfinite(whole(x)).all()
    torch.testing.assert_close(prune(posterior, keep=keep)(x), whole(x))


# ---- chains with weights ---------------------------------------------------------------------------------------------
WEIGHTS = torch.tensor([0.2, 0.8], dtype=DOUBLE)


def test_weighted_chains_predict_by_their_shares() -> None:
    """As many draws as there are without one counting twice: all five of the second chain, and one of the first."""
    posterior, x = sampled(), rows()
    weighted = posterior.weighted(WEIGHTS)
    each = by_hand(posterior, x).softmax(-1)
    found = weighted.predict(x, return_draws=True)
    assert isinstance(found, Classes)
    torch.testing.assert_close(found.draws, each[[2, 5, 6, 7, 8, 9]])
    torch.testing.assert_close(weighted.predict(x, num_samples=2), each[[6, 8]].mean(0))  # 0.4 of a draw is none
    assert weighted.predict(x, num_samples=99, batch_size=3).shape == (8, 3)
    assert weighted.num_draws == posterior.num_draws and weighted.chains == CHAINS
    y = torch.randint(3, (8,))
    assert weighted.evaluate(x, y) == pytest.approx(classification_metrics(each[[2, 5, 6, 7, 8, 9]].mean(0), y))
    assert posterior.chain_weights is None and weighted.weighted(None).chain_weights is None


def test_what_is_made_of_draws_is_made_of_the_same_ones() -> None:
    posterior, x = sampled().weighted(WEIGHTS), rows()
    (drawn,) = posterior.network_draws(num_samples=5)
    values, gates = posterior.draw_values(5), posterior.gate_draws(num_samples=5)
    chosen = [2, 5, 6, 8, 9]  # of the second chain 0, 1, 3 and 4
    for name, value in posterior.draws.stacked().items():
        assert torch.equal(values[name], value[chosen])
    assert torch.equal(gates["hidden1"], values["hidden1.gate"] > 0.5)
    assert {len(tensor) for tensor in drawn.tensors.values()} == {5}
    net = predictive_net(posterior, draws=5)
    torch.testing.assert_close(net(x), posterior.predict(x, num_samples=5))


def test_inclusion_counts_chains_by_their_weights() -> None:
    posterior = sampled()
    whole, last = (posterior.weighted(WEIGHTS).inclusion(num_samples=n) for n in (None, CHAINS * 2))
    for name in posterior.model.groups:
        is_open = (posterior.draws.values[f"{name}.gate"] > 0.5).double()
        torch.testing.assert_close(whole[name], 0.2 * is_open[0].mean(0) + 0.8 * is_open[1].mean(0))
        torch.testing.assert_close(last[name], 0.2 * is_open[0, -2:].mean(0) + 0.8 * is_open[1, -2:].mean(0))


def test_equal_weights_are_all_draws() -> None:
    posterior, x = sampled(), rows()
    equal = posterior.weighted(torch.full((CHAINS,), 1 / CHAINS))
    torch.testing.assert_close(equal.predict(x), posterior.predict(x))
    assert len(equal.draw_values(99)["hidden1.gate"]) == posterior.num_draws


def test_what_tells_of_the_chains_knows_no_weights() -> None:
    posterior, x, y = sampled(1, likelihood=GaussianNoise()), rows(), torch.randn(8, dtype=DOUBLE)
    weighted = posterior.weighted(torch.tensor([1.0, 0.0]))
    assert torch.equal(weighted.prediction_r_hat(x), posterior.prediction_r_hat(x))
    expected = posterior.log_likelihood(x, y)
    assert torch.equal(weighted.log_likelihood(x, y), expected)
    torch.testing.assert_close(posterior.log_likelihood(x, y, batch_size=3), expected)
    assert weighted.best_draw() == posterior.best_draw() and weighted.chain(1).chain_weights is None


def test_stacking_prefers_the_chain_that_predicts() -> None:
    """Of two chains one has the weights of the data's network, and the other ones of no use."""
    model, data = regression(Gaussian())
    good = chains(model, data)
    for name in ("output.weight", "output.bias"):
        good.draws.values[name][1:].mul_(0.5)
    found = good.weighted_by_stacking(*data)
    assert found.stacking is not None and found.chain_weights is not None
    assert found.chain_weights[0] > 0.99 and found.stacking.pareto_k.shape == (good.chains, 200)
    assert found.evaluate(*data)["rmse"] < 0.5 * good.evaluate(*data)["rmse"]
    half = good.weighted_by_stacking(*data, equal_share=0.5).chain_weights
    assert half is not None
    torch.testing.assert_close(half, 0.5 * found.chain_weights + 0.5 / good.chains)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([1.0], r"weights must have shape \(2,\), one for each chain, got \(1,\)"),
        ([0.5, 0.6], "weights must be at least 0 and add up to 1, got"),
        ([1.5, -0.5], "weights must be at least 0 and add up to 1, got"),
        ([math.nan, 1.0], "weights must be at least 0 and add up to 1, got"),
    ],
)
def test_what_are_no_weights_is_refused(weights: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sampled().weighted(torch.tensor(weights))


# ---- R-hat -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("likelihood", [Categorical(), GaussianNoise(), HeteroscedasticNoise()], ids=str)
def test_r_hat_of_predictions_is_that_of_each_quantity(likelihood: Likelihood, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where they are made in blocks, of a row at least."""
    outputs = {Categorical: 3, GaussianNoise: 1, HeteroscedasticNoise: 2}[type(likelihood)]
    posterior, x = sampled(outputs, likelihood=likelihood), rows()
    found = posterior.predict(x, return_draws=True)
    assert not isinstance(found, Mixture)
    if isinstance(found, Classes):
        expected = found.draws.flatten(1)
    else:
        sd = found.sd[:, :1] if isinstance(likelihood, GaussianNoise) else found.sd
        expected = torch.cat([found.mean, sd], 1)
    by_all = r_hat(expected.reshape(CHAINS, DRAWS, -1))
    torch.testing.assert_close(posterior.prediction_r_hat(x), by_all)
    for quantities in (1, 5):
        monkeypatch.setattr(sampled_module, "_QUANTITIES", quantities)
        torch.testing.assert_close(posterior.prediction_r_hat(x), by_all)
    torch.testing.assert_close(posterior.prediction_r_hat(x, batch_size=3), by_all)


def test_problems_are_those_of_what_is_predicted() -> None:
    """Not of weights whose nodes have other numbers in each chain; chains that predict otherwise are seen."""
    model, data = regression(Gaussian())
    posterior = chains(model, data)
    assert float(r_hat(posterior.draws.values["hidden1.weight"]).max()) > 3
    told = []
    for shift in (0, 1):
        posterior.draws.values["output.bias"][0] += shift
        problems = posterior.problems(data[0])
        told += [problem for problem in problems if problem.startswith("R-hat of a predicted mean is ")]
        assert not any("hidden1" in problem for problem in problems)
    few, all_means = (float(problem.split()[6].strip(",")) for problem in told)
    assert few < 1.2 and all_means > 1.4 and told[1].split(": ")[0].endswith(" in 201, above 1.01")


# ---- the rest --------------------------------------------------------------------------------------------------------


def test_one_chain_alone() -> None:
    posterior, x = sampled(), rows()
    second = posterior.chain(1)
    torch.testing.assert_close(second.predict(x), by_hand(posterior, x).softmax(-1)[DRAWS:].mean(0))
    with pytest.raises(ValueError, match="number must be that of one of 2 chains, from 0, got 2"):
        posterior.chain(2)


def test_without_gates_all_is_kept() -> None:
    model = network(prior=Gaussian())
    posterior, x = SampledPosterior(model, draws_of(drawn(model))).chain(1), rows()
    assert posterior.inclusion() == {} == posterior.keep()
    means = {p.name: posterior.draws.stacked()[p.name].mean(0) for p in model.bayesian}
    torch.testing.assert_close(posterior.median_model()(x), model.call_net(means, x))


def test_the_network_stays_as_it_is() -> None:
    model = network().float().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    posterior = SampledPosterior(model, draws_of(drawn(model)))
    posterior.median_model()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.net.training and next(posterior.model.parameters()).dtype == DOUBLE


def test_draws_of_another_network_are_refused() -> None:
    model = network()
    values = drawn(model)
    with pytest.raises(ValueError, match="draws must have the site 'hidden1.gate' of shape .5,., got none"):
        SampledPosterior(model, draws_of({name: v for name, v in values.items() if name != "hidden1.gate"}))
    with pytest.raises(ValueError, match="of shape .3, 3., got .6, 3."):
        SampledPosterior(model, draws_of(drawn(network(6))))


def test_gates_of_some_draws_are_spread_over_the_chains() -> None:
    posterior = sampled()
    is_open = {name: posterior.draws.values[f"{name}.gate"].flatten(0, 1) > 0.5 for name in posterior.model.groups}
    for name, found in posterior.gate_draws().items():
        assert torch.equal(found, is_open[name])
    assert torch.equal(posterior.gate_draws(num_samples=2)["hidden1"], is_open["hidden1"][[0, -1]])
    assert posterior.chains == CHAINS and posterior.chain(1).chains == 1


def test_what_is_made_for_a_posterior_takes_it() -> None:
    posterior = sampled()
    strength = reading_strength(posterior)
    assert strength.shape == (4,) and strength[0] == 0 and strength.max() > 0
