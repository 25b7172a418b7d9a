"""AutoSpikeSlab: its bound by hand, and posteriors that are known exactly."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor

from bnn_pyro.inference.svi.elbo import elbo_terms
from bnn_pyro.priors import gate, slab
from guides import AutoSpikeSlab
from tests.cases import FAN_IN, SLABS, SlabCase
from tests.closed_forms import k1, k2, k3, k4, k6, k7
from tests.inference.svi.test_elbo import mean_gradients
from tests.models import (
    DOUBLE,
    INCLUSION,
    NOISE,
    data,
    exact_inclusion,
    fitted,
    gradients,
    linear,
    loc_and_scale,
    logits,
    one_layer,
    perturbed,
    traced,
)
from tests.monte_carlo import assert_mean

ONE = torch.tensor(1.0, dtype=DOUBLE)


def double(value: float) -> Tensor:
    return torch.tensor(value, dtype=DOUBLE)


def values_of(guide: AutoSpikeSlab, *args: Any, seed: int = 5) -> dict[str, Tensor]:
    """The guide's draws at a seed, with their gradients."""
    torch.manual_seed(seed)
    trace = traced(guide)(*args)
    return {name: trace.nodes[name]["value"] for name in guide.kinds}


# ---- the bound by hand -----------------------------------------------------------------------------------------------


def scale_divergence(guide: AutoSpikeSlab, values: dict[str, Tensor]) -> Tensor:
    """The divergences of all scale sites, by the specification's forms."""
    total = torch.zeros((), dtype=DOUBLE)
    for site in guide.kinds:
        if guide.kinds[site] != "scale":
            continue
        mu, sigma = loc_and_scale(guide, site)
        if site == "rate":
            total = total + k6(mu, sigma, double(4), double(2))
        elif site == "w.tau_squared":
            total = total + k6(mu, sigma, double((FAN_IN + 1) / 2), values["rate"] / 2).sum()
        elif site == "slab_width_squared":
            total = total + k7(mu, sigma, double(2), double(6))
        elif site.endswith("alpha"):
            total = total + k3(mu, sigma, ONE).sum()
        else:
            total = total + k4(mu, sigma).sum()
    return total


def bound_by_hand(guide: AutoSpikeSlab, values: dict[str, Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Log-likelihood and divergence: K8 for the gated slab, and the scales."""
    gamma = torch.sigmoid(logits(guide, "z"))
    slab = k2(*loc_and_scale(guide, "w.weight"), ONE).sum(-1)
    divergence = (k1(gamma, double(INCLUSION)) + gamma * slab).sum() + scale_divergence(guide, values)
    mean = (x @ (values["z"].unsqueeze(-1) * values["w.weight"]).T).tanh().sum(-1)
    return dist.Normal(mean, NOISE).log_prob(y).sum(), divergence


@pytest.mark.parametrize("case", SLABS, ids=str)
def test_bound_and_gradient_are_those_by_hand(case: SlabCase) -> None:
    x, y = data()
    model = one_layer(case.slab)
    guide = perturbed(AutoSpikeSlab(model, x, y))
    values = values_of(guide, x, y)
    likelihood, divergence = bound_by_hand(guide, values, x, y)
    torch.manual_seed(5)
    terms = elbo_terms(model, guide, x, y)
    torch.testing.assert_close(terms.log_likelihood, likelihood)
    torch.testing.assert_close(terms.kl, divergence)
    found, expected = gradients(terms.loss(), guide), gradients(divergence - likelihood, guide)
    assert all(slope.abs().sum() > 0 for slope in found.values())
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("case", SLABS, ids=str)
def test_slab_is_its_parameters_in_units_of_the_drawn_scale(case: SlabCase) -> None:
    """The posterior of the slab is N(r mu, (r sigma)^2) for the r that the program makes of the guide's own draws."""
    x, y = data()
    guide = perturbed(AutoSpikeSlab(one_layer(case.slab), x, y))
    trace = traced(guide)(x, y)
    prior, posterior = trace.nodes["w.weight"]["infer"]["prior"].base_dist, trace.nodes["w.weight"]["fn"].base_dist
    mu, sigma = loc_and_scale(guide, "w.weight")
    torch.testing.assert_close(posterior.loc, prior.scale * mu)
    torch.testing.assert_close(posterior.scale, prior.scale * sigma)
    replayed = traced(poutine.replay(guide.model, trace=trace))(x, y)
    torch.testing.assert_close(replayed.nodes["w.weight"]["fn"].base_dist.scale, prior.scale)


def divergence_of(model: Any, hand: Any) -> None:
    """Compares the divergence of a model without data, and its gradient, with one made by hand of the guide."""
    guide = perturbed(AutoSpikeSlab(model))
    found, expected = elbo_terms(model, guide).kl, hand(guide)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(found, guide), gradients(expected, guide))


def gates(name: str, size: int) -> Tensor:
    return gate(name, torch.tensor(INCLUSION, dtype=DOUBLE), size=size)


def gate_divergence(guide: AutoSpikeSlab, *names: str) -> tuple[Tensor, ...]:
    """The sum of the gates' divergences, and each site's inclusion probabilities."""
    gammas = [torch.sigmoid(logits(guide, name)) for name in names]
    return sum((k1(gamma, double(INCLUSION)).sum() for gamma in gammas), torch.zeros((), dtype=DOUBLE)), *gammas


def test_gates_at_both_ends() -> None:
    """K8b: a weight carries the product of the probabilities of the gates at its two ends."""

    def model() -> None:
        gates("a", 4), gates("b", 3)
        slab("w", (4, 3), scale=double(2), gates={"a": -2, "b": -1})

    def hand(guide: AutoSpikeSlab) -> Tensor:
        divergence, a, b = gate_divergence(guide, "a", "b")
        return divergence + (a[:, None] * b * k2(*loc_and_scale(guide, "w"), ONE)).sum()

    divergence_of(model, hand)


def test_a_gate_at_two_ends_counts_once_on_the_diagonal() -> None:
    def model() -> None:
        gates("a", 4)
        slab("w", (4, 4), scale=double(2), gates={"a": [-2, -1]})

    def hand(guide: AutoSpikeSlab) -> Tensor:
        divergence, a = gate_divergence(guide, "a")
        product = torch.where(torch.eye(4, dtype=torch.bool), a, a[:, None] * a)
        return divergence + (product * k2(*loc_and_scale(guide, "w"), ONE)).sum()

    divergence_of(model, hand)


def test_positions_without_a_gate_carry_the_rest() -> None:
    index = torch.tensor([1, -1, 0, 1, -1])

    def model() -> None:
        gates("a", 2), gates("b", 3)
        slab("w", (3, 5), scale=double(2), gates={"a": (-1, index), "b": -2})

    def hand(guide: AutoSpikeSlab) -> Tensor:
        divergence, a, b = gate_divergence(guide, "a", "b")
        columns = torch.stack([a[1], ONE, a[0], a[1], ONE])
        return divergence + (b[:, None] * columns * k2(*loc_and_scale(guide, "w"), ONE)).sum()

    divergence_of(model, hand)


def test_a_slab_without_a_hint_has_weight_1() -> None:
    def model() -> None:
        gates("a", 4)
        slab("w", (4, 3), scale=double(2))

    def hand(guide: AutoSpikeSlab) -> Tensor:
        divergence, _ = gate_divergence(guide, "a")
        return divergence + k2(*loc_and_scale(guide, "w"), ONE).sum()

    divergence_of(model, hand)


def test_gates_in_a_plate() -> None:
    """Each entry of a plate has its gates and its slab, of which a row and a column are gated."""

    def model() -> None:
        with pyro.plate("p", 3):
            gates("a", 4), gates("b", 2)
            slab("w", (4, 2), scale=double(2), gates={"a": -2, "b": -1})

    def hand(guide: AutoSpikeSlab) -> Tensor:
        divergence, a, b = gate_divergence(guide, "a", "b")
        assert a.shape == (3, 4)
        return divergence + (a[:, :, None] * b[:, None, :] * k2(*loc_and_scale(guide, "w"), ONE)).sum()

    divergence_of(model, hand)


def test_mean_of_the_prior_is_kept() -> None:
    """A slab with another mean is N(m + r mu, (r sigma)^2): its divergence does not depend on the mean either."""

    def model() -> None:
        mean = pyro.sample("mean", dist.Normal(double(1), double(2)))
        pyro.sample("w", dist.Normal(mean, double(3)).expand((4,)).to_event(1))

    def hand(guide: AutoSpikeSlab) -> Tensor:
        return sum(
            (k2(*loc_and_scale(guide, name), ONE).sum() for name in ("mean", "w")), torch.zeros((), dtype=DOUBLE)
        )

    divergence_of(model, hand)
    guide = perturbed(AutoSpikeSlab(model))
    values = guide.median()
    torch.testing.assert_close(values["w"], values["mean"] + 3 * loc_and_scale(guide, "w")[0].detach())


def test_relaxed_gates_have_the_relaxed_divergence_and_full_slabs() -> None:
    def model() -> None:
        gates("a", 4)
        slab("w", (4, 3), scale=double(2), gates={"a": -2})

    guide = perturbed(AutoSpikeSlab(model, gates="relaxed"))
    delta = logits(guide, "a") - torch.logit(double(INCLUSION))
    expected = (delta / torch.tanh(delta / 2) - 2).sum() + k2(*loc_and_scale(guide, "w"), ONE).sum()
    torch.testing.assert_close(elbo_terms(model, guide).kl, expected)
    draw = guide()["a"]
    assert ((draw > 0) & (draw < 1)).all()
    torch.testing.assert_close(TraceMeanField_ELBO().differentiable_loss(model, guide), expected)


def test_relaxed_gates_of_another_temperature_are_estimated() -> None:
    """Without a closed form the log ratio at the draw stands in; the mean of 20,000 at 5 standard errors."""

    def model() -> None:
        gates("a", 2)

    guide = perturbed(AutoSpikeSlab(model, gates="relaxed", temperature=0.7))
    q = dist.RelaxedBernoulli(double(0.7), logits=logits(guide, "a").detach())
    p = dist.RelaxedBernoulli(double(0.5), probs=double(INCLUSION))
    draws = q.sample((20_000,))
    expected = (q.log_prob(draws) - p.log_prob(draws)).sum(-1)
    with pyro.validation_enabled(False):
        found = torch.vmap(lambda _: elbo_terms(model, guide).kl, randomness="different")(torch.zeros(20_000)).detach()
    error = ((found.var() + expected.var()) / 20_000).sqrt()
    assert (found.mean() - expected.mean()).abs() < 5 * error


# ---- posteriors that are known ---------------------------------------------------------------------------------------


def test_conjugate_regression_is_hit_exactly() -> None:
    """Without gates the best mean-field posterior has the exact mean, and the inverse of the precision's diagonal."""
    x, _ = data(30)
    y = x @ torch.tensor([1.0, -0.5, 0.2], dtype=DOUBLE)
    prior_sigma = 2.0

    def model(x: Tensor, y: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(double(0), double(prior_sigma)).expand((FAN_IN,)).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x @ w, NOISE), obs=y)

    precision = x.T @ x / NOISE**2 + torch.eye(FAN_IN, dtype=DOUBLE) / prior_sigma**2
    mean, sd = torch.linalg.solve(precision, x.T @ y / NOISE**2), precision.diagonal().rsqrt()
    guide = fitted(AutoSpikeSlab(model, x, y), model, x, y, steps=300, draws=100)
    mu, sigma = (prior_sigma * value.detach() for value in loc_and_scale(guide, "w"))
    assert ((mu - mean) / sd).abs().max() < 0.05
    assert (sigma / sd).log().abs().max() < 0.05
    torch.testing.assert_close(guide.median(x, y)["w"], mu)


def orthonormal_data() -> tuple[Tensor, Tensor]:
    x, _ = torch.linalg.qr(torch.randn(20, 4, dtype=DOUBLE))
    return x, x @ torch.tensor([0.4, 0.9, 1.2, 1.6], dtype=DOUBLE)


def inclusion_error(x: Tensor, y: Tensor, **options: Any) -> float:
    guide = AutoSpikeSlab(linear, x, y, init_inclusion=0.5, **options)
    found = fitted(guide, linear, x, y, steps=200, draws=400).inclusion()["w.gate"]
    return float((found - exact_inclusion(x, y)).abs().max())


def test_inclusion_probabilities_match_enumeration() -> None:
    """With orthonormal columns the family holds the exact posterior; DisARM and ReinMax find it.

    Over six seeds the largest error was at most 0.012 with DisARM, and at least 0.14 and 0.025 with straight-through at
    temperatures of 0.5 and 0.1, which does not.
    """
    x, y = orthonormal_data()
    exact = exact_inclusion(x, y)
    assert ((exact > 0.15) & (exact < 0.95)).all(), "the problem must not be decided"
    disarm = inclusion_error(x, y, gate_gradient="disarm")
    reinmax = inclusion_error(x, y)
    straight = {"gate_gradient": "straight-through"}
    biased = {temperature: inclusion_error(x, y, temperature=temperature, **straight) for temperature in (0.5, 0.1)}
    print(f"largest error: DisARM {disarm:.3f}, ReinMax {reinmax:.3f}, straight-through at T {biased}")
    assert disarm < 0.02
    assert reinmax < 0.02
    assert min(biased.values()) > 0.02
    assert biased[0.5] > biased[0.1], "a lower temperature has less bias"


@pytest.mark.parametrize("size", [8, 50])
def test_the_exact_posterior_of_groups_is_where_reinmax_rests(size: int) -> None:
    r"""In an orthonormal model of 1,000 rows, in which many weights share a gate, the exact posterior is in the family.

    There ReinMax has no slope in the mean: 3 means of 10,000 draws at 5 standard errors. Straight-through closes gates
    that are open with a probability of .98: its slope is as that of log-odds that are wrong by 2 or more.
    """
    rows, odds, exact = 1000, math.log(INCLUSION / (1 - INCLUSION)), torch.tensor([-1.0, 1.0, 4.0], dtype=DOUBLE)
    square = 2 * (exact - odds + size / 2 * math.log(1 + rows)) * (rows + 1) / (rows**2 * size)
    y = rows**0.5 * square.sqrt().unsqueeze(1).expand(3, size)

    def model() -> None:
        z = gate("z", double(INCLUSION), size=3)
        w = slab("w", (3, size), scale=double(1), gates={"z": -2})
        pyro.sample("y", dist.Normal(rows**0.5 * z.unsqueeze(-1) * w, 1.0).to_event(2), obs=y)

    found = {}
    for gate_gradient in ("reinmax", "straight-through"):
        guide = AutoSpikeSlab(model, gate_gradient=gate_gradient)
        with torch.no_grad():
            logits(guide, "z").copy_(exact)
            mu, sigma = loc_and_scale(guide, "w")
            mu.copy_(rows**0.5 * y / (rows + 1))
            guide.scales.w_unconstrained.fill_(-math.log(rows + 1) / 2)
        found[gate_gradient] = -mean_gradients(guide, "logits.z_unconstrained", model, kl_weight=1.0)[1]
    assert_mean(found["reinmax"], torch.zeros(3, dtype=DOUBLE))
    gamma = exact.sigmoid()
    assert float((found["straight-through"].mean(0) / (gamma * (1 - gamma)))[2]) < -2


@pytest.mark.parametrize("gate_gradient", ["reinmax", "straight-through", "disarm"])
def test_support_is_right_with_correlated_columns(gate_gradient: Any) -> None:
    x = torch.randn(30, 4, dtype=DOUBLE) + 0.7 * torch.randn(30, 1, dtype=DOUBLE)
    truth = torch.tensor([1.0, 0, -1.0, 0], dtype=DOUBLE)
    y = x @ truth + NOISE * torch.randn(30, dtype=DOUBLE)
    correlation = torch.corrcoef(x.T)
    assert (correlation - torch.eye(4, dtype=DOUBLE)).abs().mean() > 0.15
    guide = fitted(AutoSpikeSlab(linear, x, y, gate_gradient=gate_gradient), linear, x, y, steps=150, draws=100)
    assert torch.equal(guide.inclusion()["w.gate"] > 0.5, truth != 0)
    assert torch.equal(exact_inclusion(x, y) > 0.5, truth != 0)


def test_half_cauchy_scale_is_learnt() -> None:
    """The scale of many known weights is found through its two factors, within a tenth."""

    def model(w: Tensor) -> None:
        alpha = pyro.sample("alpha", dist.Gamma(double(0.5), double(1)))
        beta = pyro.sample("beta", dist.InverseGamma(double(0.5), double(1)))
        with pyro.plate("data", len(w)):
            pyro.sample("w", dist.Normal(double(0), (alpha * beta).sqrt()), obs=w)

    w = 3 * torch.randn(500, dtype=DOUBLE)
    guide = fitted(AutoSpikeSlab(model, w), model, w, steps=300, draws=1)
    values = guide.median(w)
    found = float((values["alpha"] * values["beta"]).sqrt())
    assert math.log(found / float(w.square().mean().sqrt())) == pytest.approx(0, abs=0.1)
