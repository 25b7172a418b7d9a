"""HMC and NUTS: exact posteriors, seeds, thinning, what stays as it was."""

import logging
from dataclasses import replace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Predictive
from torch import Tensor, nn

from bnn_pyro import prune
from bnn_pyro.inference.mcmc import sample as hmc
from bnn_pyro.inference.mcmc.chees import ChEESWarmUp
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential import potential
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.inference.mcmc.stopping import StoppingRule
from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.draws import Draws
from bnn_pyro.posterior.sampled import SampledPosterior
from bnn_pyro.priors import Gaussian, SpikeSlab
from bnn_pyro.tracing.engine import EngineName
from tests.models import DOUBLE, NOISE, data, linear

SHORT = SamplingPlan(chains=1, warmup=4, draws=6, max_tree_depth=3)
GIVEN: Any = {"seed": 3, "progress": False}


def regression(x: Tensor, y: Tensor) -> None:
    """Linear regression, conjugate: prior N(0, 2^2), known noise."""
    w = pyro.sample("w", dist.Normal(x.new_zeros(x.shape[1]), 2.0).to_event(1))
    pyro.sample("y", dist.Normal(x @ w, NOISE).to_event(1), obs=y)


def exact(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the regression's posterior."""
    covariance = torch.linalg.inv(x.T @ x / NOISE**2 + torch.eye(x.shape[1], dtype=x.dtype) / 4)
    return covariance @ (x.T @ y) / NOISE**2, covariance


def funnel() -> None:
    """Neal's funnel, of 3 + 1 dimensions."""
    v = pyro.sample("v", dist.Normal(torch.zeros((), dtype=DOUBLE), 3.0))
    pyro.sample("x", dist.Normal(torch.zeros(3, dtype=DOUBLE), (v / 2).exp()).to_event(1))


def wall() -> None:
    """A normal cut off by a steep wall, which a step of a normal's length runs into."""
    x = pyro.sample("x", dist.Normal(torch.zeros((), dtype=DOUBLE), 1.0))
    pyro.factor("wall", -1e8 * (x - 0.5).relu() ** 2)


def assert_moments(draws: Draws, site: str, mean: Tensor, sd: Tensor) -> None:
    """Means and standard deviations within 5 Monte Carlo standard errors, chains alike."""
    found = draws.summary()[site]
    assert ((found["mean"] - mean).abs() < 5 * sd / found["ess_bulk"].sqrt()).all()
    assert ((found["sd"] / sd - 1).abs() < 5 / (2 * found["ess_tail"]).sqrt()).all()
    assert (found["ess_bulk"] > 50).all() and (found["ess_tail"] > 40).all()
    assert (found["r_hat"] < 1.05).all()


# ---- exact posteriors ------------------------------------------------------------------------------------------------


def correlated(rows: int = 12) -> tuple[Tensor, Tensor]:
    """Data whose columns are correlated, and so are the regression's coefficients."""
    x = torch.randn(rows, 2, dtype=DOUBLE) @ torch.tensor([[1.0, 0.7], [0.0, 0.7]], dtype=DOUBLE)
    return x, x.sum(-1) + NOISE * torch.randn(rows, dtype=DOUBLE)


def assert_conjugate(draws: Draws, x: Tensor, y: Tensor) -> None:
    """Mean, standard deviations and covariance are the exact posterior's, within 5 Monte Carlo standard errors."""
    mean, covariance = exact(x, y)
    assert_moments(draws, "w", mean, covariance.diag().sqrt())
    scale = covariance.diag().sqrt().outer(covariance.diag().sqrt())
    error = 5 * float((2 / draws.summary()["w"]["ess_tail"].min()).sqrt())
    torch.testing.assert_close(draws.stacked()["w"].T.cov() / scale, covariance / scale, atol=error, rtol=0)
    assert int(draws.diverged.sum()) == 0 and (draws.acceptance.mean(1) > 0.6).all()


KERNELS = pytest.mark.parametrize(
    "options", [{"kernel": "nuts", "dense_mass": True}, {"kernel": "hmc", "trajectory_length": 2.5}], ids=str
)


@KERNELS
def test_conjugate_posterior(options: dict[str, Any]) -> None:
    """A short chain; fails by chance less than once in 10,000 seeds."""
    x, y = correlated()
    plan = SamplingPlan(chains=1, warmup=50, draws=150, **options)
    assert_conjugate(sample(regression, (x, y), plan, seed=0, progress=False), x, y)


@pytest.mark.slow
@KERNELS
def test_conjugate_posterior_to_the_second_digit(options: dict[str, Any]) -> None:
    x, y = correlated()
    plan = SamplingPlan(chains=2, warmup=300, draws=2000, **options)
    draws = sample(regression, (x, y), plan, seed=0, progress=False)
    assert_conjugate(draws, x, y)
    assert (draws.summary()["w"]["ess_tail"] > 800).all()


def test_funnel() -> None:
    """Non-centred, it is a standard normal: v is N(0, 9), to its tails."""
    draws = sample(funnel, (), SamplingPlan(chains=2, warmup=50, draws=120), seed=0, progress=False)
    zero, three = torch.zeros((), dtype=DOUBLE), torch.tensor(3.0, dtype=DOUBLE)
    assert_moments(draws, "v", zero, three)
    shares = (draws.stacked()["v"].unsqueeze(-1) < 3 * torch.tensor([-1.645, 1.645])).double().mean(0)
    torch.testing.assert_close(shares, torch.tensor([0.05, 0.95], dtype=DOUBLE), atol=0.06, rtol=0)
    assert int(draws.diverged.sum()) == 0


def test_divergences_are_counted() -> None:
    """With a step size that has not adapted to the wall."""
    start = torch.full((1, 1), -1.0, dtype=DOUBLE)
    draws = sample(wall, (), replace(SHORT, warmup=1), start=start, **GIVEN)
    assert 0 < int(draws.diverged.sum()) <= 6 and (draws.values["x"] < 0.6).all()


# ---- a network -------------------------------------------------------------------------------------------------------


def network(rows: int = 12, **options: Any) -> tuple[SparseNetwork, tuple[Tensor, Tensor]]:
    x, y = data(rows)
    net = nn.Sequential(mlp(x.shape[1], (3,), 4), nn.Dropout(0.5), nn.LayerNorm(4), nn.Linear(4, 1)).train()
    given = {"prior": SpikeSlab(Gaussian(), inclusion=0.5), "likelihood": GaussianNoise(), "num_data": rows, **options}
    return SparseNetwork(net, x.float()[:2], **given), (x, y)


def test_draws_of_a_network_in_the_datas_dtype_leave_it_as_it_is() -> None:
    """One with dropout in training mode, and with parameters that are points."""
    model, (x, y) = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sampled = sample(model, (x, y), replace(SHORT, chains=2), **GIVEN)
    assert isinstance(sampled, SampledPosterior) and set(sampled.inclusion()) == set(model.groups)
    torch.testing.assert_close(prune(sampled)(x), sampled.median_model()(x))
    draws = sampled.draws
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.net.modules())
    assert not list(pyro.get_param_store().keys())
    assert all(value.shape[:2] == (2, 6) and value.dtype == DOUBLE for value in draws.values.values())
    assert {p.name for p in model.bayesian} | {"noise_scale"} <= set(draws.values)
    gates = [value for name, value in draws.values.items() if name.endswith(".gate")]
    assert gates and all(((value >= 0) & (value <= 1)).all() for value in gates)
    assert draws.vectors.shape[:2] == draws.energy.shape == (2, 6)
    assert (draws.leapfrogs >= 1).all() and draws.inverse_mass.shape == draws.vectors[:, 0].shape


def test_predictive_takes_the_draws() -> None:
    x, y = data()
    draws = sample(linear, (x, y), SHORT, **GIVEN)
    predictive: Any = Predictive(linear, posterior_samples=draws.stacked())
    assert predictive(x)["y"].shape == (6, len(x))


# ---- randomness ------------------------------------------------------------------------------------------------------


def test_seed_decides_and_the_global_state_stays() -> None:
    x, y = data()
    state = torch.random.get_rng_state()
    one, two = (sample(regression, (x, y), SHORT, **GIVEN).vectors for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(one, two)
    assert not torch.equal(one, sample(regression, (x, y), SHORT, **{**GIVEN, "seed": 4}).vectors)


def test_without_a_seed_the_global_state_decides() -> None:
    x, y = data()
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        found.append([sample(regression, (x, y), SHORT, **{**GIVEN, "seed": None}).vectors for _ in range(2)])
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
    assert not torch.equal(*found[0])


def test_chain_is_the_same_however_many_there_are() -> None:
    x, y = data()
    one, two = (sample(regression, (x, y), replace(SHORT, chains=chains), **GIVEN).vectors for chains in (1, 2))
    assert torch.equal(one[0], two[0]) and not torch.equal(two[0], two[1])


def test_thinning_keeps_every_so_manyth_draw() -> None:
    x, y = data()
    plans = (replace(SHORT, draws=6), replace(SHORT, draws=2, thinning=3))
    every, third = (sample(regression, (x, y), plan, **GIVEN) for plan in plans)
    assert torch.equal(every.vectors[:, 2::3], third.vectors)
    assert torch.equal(every.leapfrogs.unflatten(1, (2, 3)).sum(-1), third.leapfrogs)


def test_energy_is_that_of_the_draws() -> None:
    """Up to a constant, the regression's log joint density."""
    x, y = data()
    draws = sample(regression, (x, y), SHORT, **GIVEN)
    mean, covariance = exact(x, y)
    expected = -dist.MultivariateNormal(mean, covariance).log_prob(draws.values["w"])
    difference = draws.energy - expected
    torch.testing.assert_close(difference, difference[:, :1].expand_as(difference))


def test_starts_where_it_is_told() -> None:
    """One transition of hardly any length stays there."""
    x, y = data()
    start = torch.full((1, x.shape[1]), 0.3, dtype=DOUBLE)
    plan = replace(SHORT, kernel="hmc", trajectory_length=1e-6, warmup=1, draws=1)
    found = sample(regression, (x, y), plan, start=start, **GIVEN).vectors
    assert (found - start).abs().max() < 3 and torch.equal(start, torch.full_like(start, 0.3))


# ---- how it is computed, and what is logged -------------------------------------------------------------------------


def test_engines_agree() -> None:
    """Up to rounding: the posterior's mean is the same, the draws may drift apart."""
    x, y = data()
    engines: tuple[EngineName, ...] = ("traced", "eager")
    traced, eager = (sample(regression, (x, y), SHORT, engine=engine, **GIVEN) for engine in engines)
    torch.testing.assert_close(traced.vectors[:, 0], eager.vectors[:, 0])


def test_a_long_run_is_compiled_where_that_works(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a compiler it runs traced, and says so."""

    def failing(*args: Any) -> Any:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(hmc, "COMPILE_CALLS", 0)
    monkeypatch.setattr(potential, "compiled", failing)
    torch.manual_seed(0)
    x, y = data()
    found = sample(regression, (x, y), SHORT, **GIVEN)
    assert "runs traced, as it cannot be compiled: no compiler" in caplog.text
    assert torch.equal(found.vectors, sample(regression, (x, y), SHORT, engine="traced", **GIVEN).vectors)


def test_problems_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    sample(wall, (), replace(SHORT, warmup=1), start=torch.full((1, 1), -1.0, dtype=DOUBLE), **GIVEN)
    assert any("transitions diverged" in record.message for record in caplog.records)
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_a_warm_up_that_has_not_adapted_is_reported(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChEESWarmUp, "shortfall", "a mean has moved")
    sample(regression, correlated(), replace(SHORT, kernel="chees", chains=2), **GIVEN)
    assert "the warm-up has not adapted after 16 transitions: a mean has moved; give a longer warmup" in caplog.text


def test_problems_of_a_network_are_those_of_its_predictions(caplog: pytest.LogCaptureFixture) -> None:
    model, rows = network()
    posterior = sample(model, rows, replace(SHORT, chains=2), **GIVEN)
    told = [record.message for record in caplog.records if "below" in record.message or "above" in record.message]
    assert any("a predicted mean" in problem for problem in told)
    assert not any(name in problem for name in posterior.draws.values for problem in told)


def test_which_normals_are_noncentered_is_the_plans() -> None:
    """The same posterior in other coordinates; names that are no Normals are refused."""
    for choice in (True, False, ("w",)):
        draws = sample(regression, correlated(), replace(SHORT, noncentered=choice), **GIVEN)
        ratio = draws.values["w"] / draws.vectors
        torch.testing.assert_close(ratio, torch.full_like(ratio, 2.0 if choice == ("w",) else 1.0))
    with pytest.raises(ValueError, match="must name latent Normals of the model .w., got 'v'"):
        sample(regression, correlated(), replace(SHORT, noncentered=("v",)), **GIVEN)


def test_vague_priors_do_not_slow_the_warm_up() -> None:
    """A mean with a prior 10,000 times as wide as its posterior; fails by chance less than once in 10,000 seeds."""

    def model(y: Tensor) -> None:
        b = pyro.sample("b", dist.Normal(0.0, 1e4))
        pyro.sample("y", dist.Normal(b, 1.0).expand([len(y)]).to_event(1), obs=y)

    y = torch.tensor([3.0, 4.0, 5.0], dtype=DOUBLE)
    draws = sample(model, (y,), SamplingPlan(chains=2, warmup=150, draws=150), **GIVEN)
    assert draws.values["b"].dtype == DOUBLE and draws.leapfrogs.double().mean() < 8
    assert_moments(draws, "b", torch.tensor(4.0, dtype=DOUBLE), torch.tensor(3**-0.5, dtype=DOUBLE))


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": torch.zeros(2, 3)}, "start must have shape"),
        (
            {"engine": "eager", "plan": SamplingPlan(kernel="chees", gates="exact", chains=2)},
            "engine='eager' is for relaxed gates",
        ),
        ({"engine": "fast"}, "engine must be one of auto, compiled, traced, eager, got 'fast'"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(regression, data(), **{"plan": SHORT, **GIVEN, **options})


def test_network_and_data_must_fit() -> None:
    model, (x, y) = network()
    with pytest.raises(ValueError, match="num_data must be the number of rows of data"):
        sample(model, (x[:5], y[:5]), SHORT, **GIVEN)
    with pytest.raises(ValueError, match="data must have inputs of shape"):
        sample(model, (x[:, :2], y), SHORT, **GIVEN)


# ---- until the chains have mixed -------------------------------------------------------------------------------------
def test_any_model_goes_on_until_its_sites_have_mixed(caplog: pytest.LogCaptureFixture) -> None:
    x, y = data()
    plan = SamplingPlan(kernel="mams", chains=8, warmup=60, draws=40)
    with caplog.at_level(logging.INFO):
        found = sample(regression, (x, y), plan, until=StoppingRule(tail=1.1), **GIVEN)
    assert "the chains have mixed: R-hat is" in caplog.text
    assert float(found.summary()["w"]["r_hat"].max()) < 1.1
    assert found.values["w"].shape == (8, 40, 3)


def test_until_is_for_batches() -> None:
    with pytest.raises(ValueError, match="until is for kernels that move all chains as one batch, got it with 'nuts'"):
        sample(regression, data(), SHORT, until=StoppingRule())
