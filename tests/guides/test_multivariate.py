"""AutoSpikeSlabMultivariate: its divergence by enumeration, its draws, its limits, known posteriors."""

import itertools
from collections.abc import Iterator
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoMultivariateNormal
from torch import Tensor
from torch.distributions import Bernoulli, MultivariateNormal, kl_divergence
from torch.nn.functional import linear as affine

from bnn_pyro import Gaussian, GaussianNoise, SparseNetwork, SpikeSlab, fit, networks
from bnn_pyro.inference.svi.elbo import elbo_terms
from bnn_pyro.inference.training.compute import Compute
from bnn_pyro.priors import gate, slab
from guides import AutoCentered, AutoSpikeSlab, AutoSpikeSlabMultivariate
from tests.models import DOUBLE, INCLUSION, NOISE, data, exact_inclusion, fitted, linear, logits, perturbed, traced
from tests.monte_carlo import assert_mean

NODES = 2


def two_layers(x: Tensor, y: Tensor | None = None) -> None:
    """Weights of two layers: the first have a gate for their row, the second another one for their column."""
    inclusion = torch.tensor(INCLUSION, dtype=x.dtype)
    first, second = gate("z", inclusion, size=NODES), gate("v", inclusion, size=NODES)
    one = slab("one.weight", (NODES, 1), scale=torch.ones((), dtype=x.dtype), gates={"z": -2})
    two = slab("two.weight", (NODES, NODES), scale=torch.ones((), dtype=x.dtype), gates={"v": -2, "z": -1})
    hidden = affine(x[:, :1], first.unsqueeze(-1) * one).tanh()
    mean = affine(hidden, two * second.unsqueeze(-1)).sum(-1)
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(mean, NOISE), obs=y)


def subsets(*probabilities: Tensor) -> Iterator[tuple[list[Tensor], Tensor]]:
    """All states of gates, and the probability of each."""
    joined = torch.cat(probabilities)
    for chosen in itertools.product((0.0, 1.0), repeat=len(joined)):
        z = torch.tensor(chosen, dtype=DOUBLE)
        yield list(z.split([len(p) for p in probabilities])), Bernoulli(joined).log_prob(z).sum().exp()


def cholesky(guide: AutoSpikeSlabMultivariate) -> tuple[Tensor, Tensor]:
    """The means and the whole factor in units of the prior."""
    slabs = [name for name, kind in guide.kinds.items() if kind == "slab"]
    found = dict(guide.named_pyro_params())
    loc, scale = (torch.cat([found[f"{role}.{name}"].flatten() for name in slabs]) for role in ("locs", "scales"))
    return loc, scale.unsqueeze(-1) * (found["factor"].tril(-1) + torch.eye(len(loc), dtype=loc.dtype))


def test_the_divergence_is_that_of_all_states_of_the_gates() -> None:
    """Of each the divergence of the open weights' Normal; gates of their own Bernoullis."""
    x, y = data()
    guide = perturbed(AutoSpikeSlabMultivariate(two_layers, x, y))
    loc, factor = cholesky(guide)
    gamma, delta = torch.sigmoid(logits(guide, "z")), torch.sigmoid(logits(guide, "v"))
    expected = kl_divergence(Bernoulli(torch.cat([gamma, delta])), Bernoulli(torch.tensor(INCLUSION).double())).sum()
    for (z, v), probability in subsets(gamma, delta):
        is_open = torch.cat([z, (v.unsqueeze(-1) * z).flatten()]) > 0
        if is_open.any():
            part = factor[is_open][:, is_open]
            posterior = MultivariateNormal(loc[is_open], scale_tril=part)
            prior = MultivariateNormal(torch.zeros_like(loc[is_open]), torch.eye(int(is_open.sum()), dtype=DOUBLE))
            expected = expected + probability * kl_divergence(posterior, prior)
    found = elbo_terms(two_layers, guide, x, y).kl
    torch.testing.assert_close(found, expected)
    parameters = list(guide.parameters())
    slopes = (torch.autograd.grad(value, parameters, retain_graph=True) for value in (found, expected))
    for one, two in zip(*slopes, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize(("gate_mode", "opened"), [("open", [1.0, 1.0]), ("frozen", [1.0, 0.0])])
def test_draws_of_open_weights_have_the_covariance_of_their_part_of_the_factor(gate_mode: Any, opened: Any) -> None:
    """At 5 standard errors; the noise of closed weights reaches no other."""
    x, y = data()
    guide = perturbed(AutoSpikeSlabMultivariate(two_layers, x, y))
    for site, values in {"z": opened, "v": [1.0, 1.0]}.items():
        logits(guide, site)  # exists
        getattr(guide.logits, f"{site}_unconstrained").data = 4 * torch.tensor(values, dtype=DOUBLE) - 2
    guide.gate_mode = gate_mode
    torch.manual_seed(0)
    with pyro.plate("draws", 40_000, dim=-3), torch.no_grad():
        drawn = guide(x, y)
    flat = torch.cat([drawn[name].reshape(40_000, -1) for name in ("one.weight", "two.weight")], -1)
    loc, factor = cholesky(guide)
    z = torch.tensor(opened, dtype=DOUBLE)
    is_open = torch.cat([z, z, z]) > 0
    part = factor[is_open][:, is_open].detach()
    assert_mean(flat[:, is_open], loc[is_open].detach())
    centred = flat[:, is_open] - loc[is_open].detach()
    assert_mean(centred.unsqueeze(-1) * centred.unsqueeze(-2), part @ part.T)


def test_without_correlations_it_is_the_mean_field_family() -> None:
    x, y = data()
    mean_field = perturbed(AutoSpikeSlab(two_layers, x, y))
    guide = AutoSpikeSlabMultivariate(two_layers, x, y)
    guide.start_from(mean_field)
    torch.testing.assert_close(elbo_terms(two_layers, guide, x, y).kl, elbo_terms(two_layers, mean_field, x, y).kl)
    draws = []
    for answer in (mean_field, guide):
        torch.manual_seed(1)
        draws.append(answer(x, y))
    torch.testing.assert_close(*draws)


def test_without_gates_it_is_pyros_multivariate_normal() -> None:
    x, y = data()

    def model(x: Tensor, y: Tensor | None = None) -> None:
        w = slab("w", (3,), scale=torch.ones((), dtype=DOUBLE))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x[:, :3] @ w, NOISE), obs=y)

    guide, theirs = perturbed(AutoSpikeSlabMultivariate(model, x, y)), AutoMultivariateNormal(model)
    theirs(x, y)
    loc, factor = cholesky(guide)
    theirs.get_parameter("loc").data = loc.detach()
    for name, value in {"scale": factor.diagonal(), "scale_tril": factor / factor.diagonal().unsqueeze(-1)}.items():
        setattr(theirs, name, value.detach())
    whole = theirs.get_posterior()
    expected = kl_divergence(whole, MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double()))
    torch.testing.assert_close(elbo_terms(model, guide, x, y).kl, expected)


def test_the_exact_posterior_of_a_linear_model_is_in_the_family() -> None:
    """All gates held open: mean, covariance and the bound, which is the evidence then."""
    torch.manual_seed(2)
    x = torch.randn(20, 3, dtype=DOUBLE)
    x[:, 1] += 2 * x[:, 0]  # correlated weights
    y = x @ torch.tensor([1.0, -0.5, 0.2], dtype=DOUBLE) + NOISE * torch.randn(20, dtype=DOUBLE)
    guide = AutoSpikeSlabMultivariate(linear, x, y, init_inclusion=1 - 1e-6)
    guide.gate_mode = "open"
    fitted(guide, linear, x, y, steps=600, draws=64, rate=0.05)
    covariance = torch.linalg.inv(x.T @ x / NOISE**2 + torch.eye(3, dtype=DOUBLE))
    loc, factor = cholesky(guide)
    torch.testing.assert_close(loc, covariance @ x.T @ y / NOISE**2, atol=0.02, rtol=0)
    torch.testing.assert_close(factor @ factor.T, covariance, atol=0.005, rtol=0.1)
    evidence = MultivariateNormal(torch.zeros(20).double(), x @ x.T + NOISE**2 * torch.eye(20).double()).log_prob(y)
    gates = kl_divergence(Bernoulli(torch.sigmoid(logits(guide, "w.gate"))), Bernoulli(INCLUSION)).sum()
    losses = torch.stack([elbo_terms(linear, guide, x, y).loss() for _ in range(400)])
    assert_mean(losses.detach(), (-evidence + gates).detach() + 0.005, errors=8)


def test_inclusion_of_correlated_columns_is_nearer_to_exact_than_by_mean_field() -> None:
    """Two columns of correlation .9, of which one counts, and a third."""
    torch.manual_seed(4)
    x = torch.randn(30, 3, dtype=DOUBLE)
    x[:, 1] = 0.9 * x[:, 0] + (1 - 0.81) ** 0.5 * x[:, 1]
    y = 0.7 * x[:, 0] + 0.4 * x[:, 2] + NOISE * torch.randn(30, dtype=DOUBLE)
    exact = exact_inclusion(x, y)
    errors = []
    for kind in (AutoSpikeSlab, AutoSpikeSlabMultivariate):
        guide = fitted(kind(linear, x, y, init_inclusion=0.5), linear, x, y, steps=300, draws=64)
        errors.append(float((torch.sigmoid(logits(guide, "w.gate")) - exact).abs().max().detach()))
    assert errors[1] < errors[0] + 0.01 and errors[1] < 0.15


def test_it_takes_over_a_fit_of_a_network_and_its_steps_are_traced(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    torch.manual_seed(0)
    x = torch.randn(40, 2)
    y = x[:, 0].tanh() + 0.1 * torch.randn(40)
    model = SparseNetwork(
        networks.mlp(2, (3,), 1), x[:2], prior=SpikeSlab(Gaussian()), likelihood=GaussianNoise(), num_data=40
    )
    options: Any = {"batch_size": 20, "seed": 0, "progress": False}
    before = fit(model, (x, y), epochs=2, **options)
    guide = AutoSpikeSlabMultivariate(before.model.prior)
    guide.start_from(before.guide)
    found = fit(before.model, (x, y), guide=guide, epochs=4, compute=Compute(engine="traced"), **options)
    assert "traced the step" in caplog.text and "cannot be traced" not in caplog.text
    assert found.guide.get_parameter("factor_unconstrained").detach().tril(-1).abs().max() > 0
    assert torch.isfinite(found.predict(x, num_samples=4)).all()


def test_what_it_refuses() -> None:
    x, y = data()
    with pytest.raises(ValueError, match="gate_gradient must not be 'disarm'"):
        AutoSpikeSlabMultivariate(linear, x, y, gate_gradient="disarm")
    with pytest.raises(ValueError, match="at most 4,000 weights with a slab, got 4,001"):
        AutoSpikeSlabMultivariate(lambda: slab("w", (4001,), scale=torch.ones(())))
    with pytest.raises(ValueError, match=r"guide must have 'logits.w.gate_unconstrained' of shape \(3,\), got None"):
        AutoSpikeSlabMultivariate(linear, x, y).start_from(AutoCentered(two_layers, x, y))
    with pytest.raises(TypeError, match="guide must be a guide such as AutoSpikeSlab, got dict"):
        AutoSpikeSlabMultivariate(linear, x, y).start_from({})  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError, match="draw its guide again"):
        traced(AutoSpikeSlabMultivariate(linear, x, y))(x, y).nodes["w.weight"]["fn"].rsample((2,))

    def subsampled() -> None:
        with pyro.plate("rows", 6, subsample_size=3):
            pyro.sample("w", dist.Normal(torch.zeros(3), 1.0))

    with pytest.raises(ValueError, match="'w' must not lie in a plate that subsamples"):
        AutoSpikeSlabMultivariate(subsampled)


def test_shrinking_is_refused() -> None:
    x = torch.randn(8, 2)
    model = SparseNetwork(
        networks.mlp(2, (3,), 1), x[:2], prior=SpikeSlab(Gaussian()), likelihood=GaussianNoise(), num_data=8
    )
    guide = AutoSpikeSlabMultivariate(model.prior)
    posterior = fit(model, (x, x[:, 0]), guide=guide, epochs=1, progress=False)
    with pytest.raises(ValueError, match="AutoSpikeSlabMultivariate"):
        posterior.shrink()
