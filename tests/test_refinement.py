"""The posterior of the pruned network, sampled."""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bnn_pyro import prune
from bnn_pyro.inference.mcmc import starts
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.inference.mcmc.starts import starting_points
from bnn_pyro.inference.mcmc.stopping import StoppingRule
from bnn_pyro.inference.training.ensemble import train_ensemble
from bnn_pyro.likelihoods import NOISE_SITE, Categorical, GaussianNoise, Likelihood, MeanDependentNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.files import load_posterior, save_posterior
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.posterior.sampled import SampledPosterior
from bnn_pyro.priors import Gaussian, GroupHorseshoe, GroupLasso, Slab, SpikeSlab
from bnn_pyro.refinement import (
    Refinement,
    is_worth_refining,
    refine,
    sample_whole,
    selected_network,
    uncertainty_share,
)
from guides import AutoSpikeSlab
from tests.models import DOUBLE
from tests.pruning.masks import set_gates

ROWS = 40
KEEP = {
    "inputs": torch.tensor([True, False, True, True]),
    "hidden1": torch.tensor([False, True, True, False, True]),
    "hidden2": torch.tensor([True, False, True, False]),
}
PLAN = SamplingPlan(kernel="mclmc", chains=3, warmup=40, draws=6, thinning=2)
SHORT_STACKED = Refinement(plan=PLAN, until=None, weights="stacking")


@pytest.fixture(autouse=True)
def short_ensembles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "train_ensemble", partial(train_ensemble, steps=200))


def selecting(
    slab: Slab | None = None, likelihood: Likelihood | None = None
) -> tuple[GuidePosterior, tuple[Tensor, Tensor]]:
    """A posterior whose guide keeps `KEEP`."""
    torch.manual_seed(0)
    x, likelihood = torch.randn(ROWS, 4, dtype=DOUBLE), likelihood or GaussianNoise()
    is_classes = isinstance(likelihood, Categorical)
    y = x[:, 0].sin() + x[:, 2] if not is_classes else (x[:, 0] > 0).long() + (x[:, 2] > 1).long()
    net = mlp(4, (5, 4), 3 if is_classes else 1).double()
    prior = SpikeSlab(slab or Gaussian(), inclusion=0.3)
    model = SparseNetwork(net, x[:2], prior=prior, likelihood=likelihood, num_data=ROWS, select_inputs=True)
    posterior = GuidePosterior(model, AutoSpikeSlab(model.prior), kl_weight=0.3)
    set_gates(posterior, KEEP)
    return posterior, (x, y)


def refined(posterior: Posterior, data: tuple[Tensor, Tensor], **options: Any) -> SampledPosterior:
    """Refined by a short plan."""
    others = {name: options.pop(name) for name in ("engine", "checkpoint") if name in options}
    settings = Refinement(**{"plan": PLAN, "until": None, **options})
    return refine(posterior, data, settings, seed=2, progress=False, **others)


# ---- what is sampled -------------------------------------------------------------------------------------------------
def test_the_sampled_network_may_have_another_likelihood() -> None:
    posterior, rows = selecting()
    settings = Refinement(plan=PLAN, until=None, likelihood=MeanDependentNoise())
    for found in (
        refine(posterior, rows, settings, seed=1, progress=False),
        sample_whole(posterior.model, rows, settings, seed=1, progress=False),
    ):
        assert found.model.likelihood == MeanDependentNoise()
        assert found.draws.values[NOISE_SITE].shape[2:] == (2,)
    assert posterior.model.likelihood != MeanDependentNoise()
    with pytest.raises(ValueError, match="start must be 'ensemble' for another likelihood, MeanDependentNoise"):
        refine(posterior, rows, replace(settings, start="draws"), seed=1)


@pytest.mark.parametrize("slab", [Gaussian(0.7), GroupLasso(), GroupHorseshoe()])
def test_it_is_the_posterior_given_the_nodes(slab: Slab) -> None:
    """The whole model's density, with gates held and what they close held too, differs by a constant.

    So is a rate that is shared, on which the density of the scales of closed nodes depends.
    """
    posterior, rows = selecting(slab)
    small = selected_network(posterior)
    part = Potential(noncentered(small), *rows)
    points = torch.randn(4, part.size, dtype=DOUBLE)
    if list(part.latents)[0] == "rate":
        points[:, 0] = 0.3
    whole = Potential(noncentered(posterior.model), *rows)
    vectors = torch.stack([_embedded(part.split(point), whole, posterior) for point in points])
    torch.testing.assert_close(whole(vectors) - whole(vectors[:1]), part(points) - part(points[:1]))


READS = {"hidden1": "inputs", "hidden2": "hidden1", "output": "hidden2"}


def _embedded(small: dict[str, Tensor], whole: Potential, posterior: GuidePosterior) -> Tensor:
    """The coordinates of the whole model that have those of the smaller one where nodes are kept, and 0 elsewhere."""
    parts = []
    for name, latent in whole.latents.items():
        value, layer = torch.zeros(latent.shape, dtype=DOUBLE), name.split(".")[0]
        if name.endswith(".gate_logit"):
            value = torch.where(KEEP[layer], 40.0, -800.0).double()
        elif value.dim():
            stays = KEEP.get(layer, torch.ones(len(value), dtype=torch.bool))
            if value.dim() > 1:
                stays = stays.unsqueeze(1) & KEEP[READS[layer]]
            value[stays] = small[name].flatten()
        else:
            value = small[name]
        parts.append(value.flatten())
    return torch.cat(parts)


@pytest.mark.parametrize("likelihood", [GaussianNoise(), Categorical()], ids=["regression", "classes"])
def test_it_has_the_pruned_network(likelihood: Likelihood) -> None:
    posterior, (x, y) = selecting(likelihood=likelihood)
    found = refined(posterior, (x, y))
    shapes = [tuple(parameter.shape) for parameter in prune(found).parameters()]
    assert shapes == [tuple(parameter.shape) for parameter in prune(posterior).parameters()]
    assert found.keep() == {} and found.chains == 3 and found.num_draws == 18 and not found.tempered
    assert torch.isfinite(found.predict(x)).all()
    x[:, 1] = 1e6  # an input that is not kept
    torch.testing.assert_close(found.predict(x), found.predict(torch.where(x == 1e6, 0.0, x)))


def test_it_is_better_than_an_untrained_guide() -> None:
    posterior, (x, y) = selecting()
    plan = replace(PLAN, warmup=200, draws=20)
    once = refined(posterior, (x, y), plan=plan)
    assert once.evaluate(x, y)["rmse"] < 0.5 * posterior.evaluate(x, y)["rmse"]


def test_starts() -> None:
    posterior, rows = selecting()
    points = starting_points(selected_network(posterior), rows, posterior.shrink(), chains=3, seed=2)
    given = sample(selected_network(posterior), rows, PLAN, start=points, seed=2, progress=False)
    drawn = refined(posterior, rows, start="draws")
    assert torch.equal(given.draws.vectors, drawn.draws.vectors)
    once, again = (refined(posterior, rows).draws.vectors for _ in range(2))
    assert torch.equal(once, again) and not torch.equal(once, drawn.draws.vectors)


def test_slabs() -> None:
    """A plain Gaussian, another one, or the model's own, whose scales are latents."""
    posterior, rows = selecting(GroupHorseshoe())
    assert refined(posterior, rows).model.slab == Gaussian()
    own = refined(posterior, rows, slab=None)
    assert own.model.slab == GroupHorseshoe() and any("tau" in name for name in own.draws.values)
    found = refined(posterior, rows, slab=Gaussian(0.5))
    assert found.model.slab == Gaussian(0.5) and not any("tau" in name for name in found.draws.values)
    assert isinstance(posterior.model.slab, GroupHorseshoe)


def test_neither_posterior_nor_random_state_changes() -> None:
    posterior, rows = selecting()
    before, state = {n: v.clone() for n, v in posterior.model.state_dict().items()}, torch.get_rng_state()
    refined(posterior, rows)
    assert all(torch.equal(before[name], value) for name, value in posterior.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_is_saved_and_resumed(tmp_path: Path) -> None:
    posterior, rows = selecting()
    once, found = (refined(posterior, rows, checkpoint=tmp_path / "run.pt") for _ in range(2))
    assert torch.equal(found.draws.vectors, once.draws.vectors)
    save_posterior(found, tmp_path / "refined.pt")
    again = load_posterior(tmp_path / "refined.pt", selected_network(posterior))
    assert torch.equal(again.predict(rows[0]), found.predict(rows[0]))


# ---- when it stops ---------------------------------------------------------------------------------------------------
def test_goes_on_until_the_chains_have_mixed(caplog: pytest.LogCaptureFixture) -> None:
    posterior, rows = selecting()
    with caplog.at_level(logging.INFO):
        one = refined(posterior, rows, until=StoppingRule(median=100.0, tail=100.0))
        assert "the chains have mixed: R-hat is" in caplog.text and "52 transitions, 40 of them" in caplog.text
        caplog.clear()
        three = refined(posterior, rows, until=StoppingRule(median=1 + 1e-9, rounds=3))
        assert "the chains have not mixed: R-hat is" in caplog.text and "88 transitions, 40 of them" in caplog.text
        assert "the 3 rounds are over" in caplog.text and "R-hat of the energy" not in caplog.text
    assert one.draws.vectors.shape == three.draws.vectors.shape


def test_seconds_that_are_too_few_shorten_it(caplog: pytest.LogCaptureFixture) -> None:
    posterior, rows = selecting()
    plan = replace(PLAN, warmup=20_000, thinning=5_000)
    found = refined(posterior, rows, plan=plan, until=StoppingRule(seconds=1.0, median=1 + 1e-9), engine="traced")
    assert "would take longer than 1 seconds" in caplog.text and "1 seconds are over" in caplog.text
    assert found.draws.thinning < 5_000 and found.num_draws >= 4 * 3


# ---- weights of chains -----------------------------------------------------------------------------------------------
def test_chains_that_have_not_mixed_are_stacked_when_asked_to(caplog: pytest.LogCaptureFixture) -> None:
    posterior, rows = selecting()
    equal = refined(posterior, rows)
    assert equal.chain_weights is None
    with caplog.at_level(logging.INFO):
        stacked = refined(posterior, rows, weights="stacking")
    assert "the chains are weighted by stacking: the largest weight is" in caplog.text
    assert torch.equal(stacked.draws.vectors, equal.draws.vectors)
    expected = equal.weighted_by_stacking(*rows, equal_share=0.5)
    assert stacked.chain_weights is not None and stacked.stacking is not None and expected.chain_weights is not None
    torch.testing.assert_close(stacked.chain_weights, expected.chain_weights)
    assert float(stacked.chain_weights.min()) >= 0.5 / 3 - 1e-9
    whole = sample_whole(posterior.model, rows, SHORT_STACKED, seed=2, progress=False)
    assert whole.chain_weights is not None


def test_chains_that_have_mixed_weigh_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    posterior, rows = selecting()
    monkeypatch.setattr(SampledPosterior, "prediction_r_hat", lambda *args, **options: torch.ones(5))
    found = refined(posterior, rows, weights="stacking")
    assert found.chain_weights is None and found.stacking is None
    assert refined(posterior, rows, plan=replace(PLAN, chains=1), weights="stacking").chain_weights is None


# ---- what is refused -------------------------------------------------------------------------------------------------
def test_refuses() -> None:
    posterior, (x, y) = selecting()
    with pytest.raises(ValueError, match="start must be 'ensemble' for a SampledPosterior"):
        refined(refined(posterior, (x, y)), (x, y), start="draws")
    with pytest.raises(ValueError, match="plan must have a kernel that moves all chains as one batch, got 'nuts'"):
        Refinement(plan=SamplingPlan())
    with pytest.raises(ValueError, match="start must be one of ensemble, draws, got 'prior'"):
        refined(posterior, (x, y), start="prior")
    with pytest.raises(ValueError, match="weights must be one of equal, stacking, got 'none'"):
        refined(posterior, (x, y), weights="none")
    with pytest.raises(ValueError, match="plan.draws must be at least 4"):
        refined(posterior, (x, y), plan=replace(PLAN, draws=3), weights="stacking")
    with pytest.raises(ValueError, match="num_data must be the number of rows of data"):
        refined(posterior, (x[:9], y[:9]), start="draws")
    set_gates(posterior, {"hidden1": torch.zeros(5, dtype=torch.bool)})
    with pytest.raises(ValueError, match="must keep a node of every group to be sampled, got none of 'hidden1'"):
        refine(posterior, (x, y))


def test_share_of_uncertainty() -> None:
    posterior, _ = selecting()
    assert uncertainty_share(selected_network(posterior)) == (3 * 3 + 3 + 3 * 2 + 2 + 2 + 1) / ROWS


@pytest.mark.parametrize(
    ("rows", "hidden", "verdict", "words"),
    [
        (ROWS, KEEP["hidden1"], True, "the pruned network has 0.57 parameters per row"),
        (2_301, KEEP["hidden1"], False, "has 0.01 parameters per row, less than 0.01: their uncertainty is small"),
        (ROWS, torch.zeros(5, dtype=torch.bool), False, "no node of 'hidden1' is left"),
    ],
)
def test_what_is_worth_it(rows: int, hidden: Tensor, verdict: bool, words: str) -> None:
    posterior, _ = selecting()
    set_gates(posterior, {"hidden1": hidden})
    posterior.model.num_data = rows
    found, reason = is_worth_refining(posterior)
    assert found is verdict and words in reason


def large(rows: int) -> GuidePosterior:
    x = torch.zeros(2, 150)
    model = SparseNetwork(mlp(150, (140,), 1), x, prior=Gaussian(), likelihood=GaussianNoise(), num_data=rows)
    return GuidePosterior(model, AutoSpikeSlab(model.prior))


def test_what_is_too_large_for_its_seconds() -> None:
    found, reason = is_worth_refining(large(100_000))
    assert not found
    assert reason == (
        "the pruned network has 21,281 parameters for 100,000 rows: 4 chains would make about 74 transitions each in "
        "120 seconds, less than 200"
    )
    assert is_worth_refining(large(100_000), Refinement(until=StoppingRule(seconds=3600.0)))[0]
    for until in (None, StoppingRule()):
        assert is_worth_refining(large(100_000), Refinement(until=until)) == (
            True,
            "the pruned network has 0.21 parameters per row",
        )


def test_fewer_chains_by_the_seconds(caplog: pytest.LogCaptureFixture) -> None:
    """The count alone decides: no chain is made for it."""
    posterior, rows = selecting()
    settings = Refinement(plan=replace(PLAN, chains=5), until=StoppingRule(seconds=1e-4), least_chains=2)
    with caplog.at_level(logging.INFO):
        assert refine(posterior, rows, settings, seed=2, progress=False).chains == 2
    assert "2 of 5 chains, as there are many rows and weights" in caplog.text
    many = replace(settings, least_chains=5)
    assert many.plan_for(selected_network(posterior)) == many.plan
    assert replace(settings, until=None).plan_for(selected_network(posterior)) == many.plan
    with pytest.raises(ValueError, match="least_chains must be at least 1, got 0"):
        replace(settings, least_chains=0)


# ---- fewer inputs ----------------------------------------------------------------------------------------------------
def test_inputs_are_dropped_besides_those_that_are_gone() -> None:
    posterior, (x, y) = selecting()
    inputs = torch.tensor([True, True, False, True])
    small = selected_network(posterior, inputs=inputs)
    assert small.selection is not None and small.selection.tolist() == [0, 3]
    assert small.net.get_parameter("hidden1.weight").shape == (3, 2) and small.input_shape == (4,)
    whole = selected_network(posterior)
    weight = whole.net.get_parameter("hidden1.weight")
    assert torch.equal(small.net.get_parameter("hidden1.weight"), weight[:, [0, 2]])
    assert selected_network(posterior, inputs=KEEP["inputs"]).net.get_parameter("hidden1.weight").shape == weight.shape
    found = refine(posterior, (x, y), Refinement(plan=PLAN, until=None), inputs=inputs, seed=0, progress=False)
    torch.testing.assert_close(found.predict(torch.where(inputs, x, 9.0)), found.predict(x))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.ones(3, dtype=torch.bool), r"inputs must be bool of shape \(4,\), got torch.bool of shape \(3,\)"),
        (torch.ones(4), "inputs must be bool"),
        (torch.tensor([False, True, False, False]), "inputs must leave a feature that the network reads, got none"),
    ],
    ids=["shape", "dtype", "none left"],
)
def test_refuses_inputs(inputs: Tensor, message: str) -> None:
    posterior, _ = selecting()
    with pytest.raises(ValueError, match=message):
        selected_network(posterior, inputs=inputs)
