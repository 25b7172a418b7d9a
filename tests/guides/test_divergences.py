"""The closed forms against Monte Carlo over random hyper-parameters, and against the specification's check values."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

import guides.divergences as divergences
from bnn_pyro.priors import AtomicRelaxedBernoulli
from guides import GatedNormal, HardGate, NonCenteredNormal
from tests.closed_forms import k1, k2, k3, k4, k5, k6, k7
from tests.monte_carlo import assert_mean

DRAWS = 1_000_000
SEEDS = (1, 2, 3)
TEMPERATURE = torch.tensor(0.5, dtype=torch.float64)


def double(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def between(low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand((), dtype=torch.float64)


def log_ratio(q: Distribution, p: Distribution, draws: Tensor) -> Tensor:
    ratio: Tensor = q.log_prob(draws) - p.log_prob(draws)
    return ratio


Pair = tuple[Distribution, Distribution, Tensor]


def gate_pair() -> Pair:
    """K1: a hard gate and the prior's relaxed gate, at any two temperatures."""
    gamma, inclusion = between(0.01, 0.99), between(0.01, 0.99)
    q = HardGate(between(0.1, 2), torch.logit(gamma))
    return q, AtomicRelaxedBernoulli(between(0.1, 2), probs=inclusion), k1(gamma, inclusion)


def slab_pair() -> Pair:
    """K2: a Normal and a centred Normal, with weight 1."""
    mu, sigma, prior_sigma = between(-2, 2), between(0.05, 2), between(0.2, 2)
    q = GatedNormal(mu, sigma, double(0), prior_sigma, double(1))
    return q, dist.Normal(double(0), prior_sigma), k2(mu, sigma, prior_sigma)


def half_cauchy_gamma_pair() -> Pair:
    """K3: the Gamma factor of a half-Cauchy."""
    mu, sigma, k = between(-1, 1), between(0.1, 1), between(0.3, 2)
    return dist.LogNormal(mu, sigma), dist.Gamma(double(0.5), k**-2), k3(mu, sigma, k)


def half_cauchy_inverse_gamma_pair() -> Pair:
    """K4: the inverse-Gamma factor of a half-Cauchy."""
    mu, sigma = between(-1, 1), between(0.1, 1)
    return dist.LogNormal(mu, sigma), dist.InverseGamma(double(0.5), double(1)), k4(mu, sigma)


def gamma_pair() -> Pair:
    """K6: a positive site with a Gamma prior."""
    mu, sigma, a, b = between(-1, 1), between(0.1, 1), between(0.5, 5), between(0.5, 5)
    return dist.LogNormal(mu, sigma), dist.Gamma(a, b), k6(mu, sigma, a, b)


def inverse_gamma_pair() -> Pair:
    """K7: a positive site with an inverse-Gamma prior."""
    mu, sigma, a, b = between(-1, 1), between(0.1, 1), between(0.5, 5), between(0.5, 7)
    return dist.LogNormal(mu, sigma), dist.InverseGamma(a, b), k7(mu, sigma, a, b)


PAIRS = {
    "K1": gate_pair,
    "K2": slab_pair,
    "K3": half_cauchy_gamma_pair,
    "K4": half_cauchy_inverse_gamma_pair,
    "K6": gamma_pair,
    "K7": inverse_gamma_pair,
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", PAIRS)
def test_closed_form_is_the_mean_log_ratio(name: str, seed: int) -> None:
    """Fails by chance less than once in 50,000 runs: 18 means of a million draws at 5 standard errors."""
    torch.manual_seed(seed)
    q, p, specification = PAIRS[name]()
    closed = kl_divergence(q, p)
    torch.testing.assert_close(closed, specification)
    assert_mean(log_ratio(q, p, q.sample((DRAWS,))), closed)


@pytest.mark.parametrize("size", [2, 145, 785])
@pytest.mark.parametrize("seed", SEEDS[:2])
def test_mean_over_the_rate_is_k5(size: int, seed: int) -> None:
    """The divergence of a group-lasso scale given a draw of the rate, averaged over that: 12 means, 5 errors."""
    torch.manual_seed(seed)
    mu, sigma, mu_rate, sigma_rate = between(-1, 1), between(0.1, 1), between(-1, 1), between(0.1, 0.7)
    tau, rate = dist.LogNormal(mu, sigma), dist.LogNormal(mu_rate, sigma_rate)
    rates = rate.sample((DRAWS,))
    prior = dist.Gamma(double((size + 1) / 2), rates / 2)
    expected = k5(mu, sigma, mu_rate, sigma_rate, size)
    some = dist.Gamma(prior.concentration[:100_000], prior.rate[:100_000])
    assert_mean(kl_divergence(tau, some), expected)
    assert_mean(log_ratio(tau, prior, tau.sample((DRAWS,))), expected)


def check_values() -> Iterator[tuple[str, Tensor, float]]:
    """The specification's values, at the hyper-parameters they were computed with as far as these can be told."""
    tau, rate = (double(0.4), double(0.25)), (double(0.2), double(0.3))
    yield "K2", kl_divergence(dist.Normal(double(0.3), double(0.2)), dist.Normal(double(0), double(0.7))), 0.88542
    for k, expected in ((1.0, 0.80615), (0.3, 7.2823)):
        gamma = dist.Gamma(double(0.5), double(k**-2))
        yield "K3", kl_divergence(dist.LogNormal(double(-0.4), double(0.5)), gamma), expected
    inverse = dist.InverseGamma(double(0.5), double(1))
    yield "K4", kl_divergence(dist.LogNormal(double(0.6), double(0.4)), inverse), 0.96424
    for size, expected in ((2, 0.96954), (144, 244.542), (785, 1990.197)):
        yield "K5", k5(*tau, *rate, size), expected
    yield "K6", kl_divergence(dist.LogNormal(double(0.9), double(0.35)), dist.Gamma(double(4), double(2))), 0.27998
    inverse = dist.InverseGamma(double(2), double(6))
    yield "K7", kl_divergence(dist.LogNormal(double(1.1), double(0.3)), inverse), 0.49067


def test_check_values_of_the_specification() -> None:
    for name, found, expected in check_values():
        digits = len(str(expected).split(".")[1])
        assert float(found) == pytest.approx(expected, abs=0.6 * 10**-digits), name


@pytest.mark.parametrize("name", PAIRS)
def test_divergence_is_never_negative_and_0_for_equals(name: str) -> None:
    for _ in range(20):
        q, p, _ = PAIRS[name]()
        assert kl_divergence(q, p) >= 0
    mu = double(0.3)
    assert float(kl_divergence(HardGate(TEMPERATURE, mu), dist.RelaxedBernoulli(TEMPERATURE, logits=mu))) == 0
    same = GatedNormal(mu, mu, mu, mu, double(0.4))
    assert float(kl_divergence(same, dist.Normal(mu, mu))) == 0


# ---- gates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "q"),
    [
        (HardGate, AtomicRelaxedBernoulli),
        (HardGate, dist.RelaxedBernoulli),
        (HardGate, dist.RelaxedBernoulliStraightThrough),
        (dist.RelaxedBernoulliStraightThrough, dist.RelaxedBernoulliStraightThrough),
        (dist.RelaxedBernoulliStraightThrough, AtomicRelaxedBernoulli),
    ],
)
def test_rounded_gates_have_the_divergence_of_bernoullis(p: type, q: type) -> None:
    logits, prior_logits = double(0.7), double(-2.0)
    found = kl_divergence(p(TEMPERATURE, logits=logits), q(double(0.2), logits=prior_logits))
    torch.testing.assert_close(found, k1(torch.sigmoid(logits), torch.sigmoid(prior_logits)))


@pytest.mark.parametrize("p", [dist.RelaxedBernoulli, AtomicRelaxedBernoulli])
@pytest.mark.parametrize("q", [dist.RelaxedBernoulli, AtomicRelaxedBernoulli])
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_two_relaxed_gates_have_the_relaxed_divergence(p: type, q: type, temperature: float) -> None:
    """delta coth(delta / 2) - 2, larger than that of the rounded gates; 8 means of 200,000, 5 errors."""
    logits, prior_logits = double(0.7), double(-0.8)
    first, second = p(double(temperature), logits=logits), q(double(temperature), logits=prior_logits)
    found = kl_divergence(first, second)
    assert float(found) == pytest.approx(1.5 / math.tanh(0.75) - 2)
    assert found > k1(torch.sigmoid(logits), torch.sigmoid(prior_logits))
    assert_mean(log_ratio(first, second, first.sample((200_000,))), found)


def test_relaxed_gates_of_different_temperatures_have_no_closed_form() -> None:
    first = dist.RelaxedBernoulli(TEMPERATURE, logits=double(0.7))
    with pytest.raises(NotImplementedError, match="equal temperatures only"):
        kl_divergence(first, AtomicRelaxedBernoulli(double(0.4), logits=double(0.7)))


def test_temperatures_may_differ_in_dtype() -> None:
    first = dist.RelaxedBernoulli(torch.tensor(0.5), logits=double(0.7))
    assert kl_divergence(first, AtomicRelaxedBernoulli(TEMPERATURE, logits=double(0.7))) == 0


def test_relaxed_divergence_everywhere() -> None:
    """The series near 0, the formula, and the tail are one smooth function: delta coth(delta / 2) - 2."""
    delta = torch.tensor([0, 1e-8, 1e-3, 0.0999, 0.1001, 1, 30, 800, 1e6], dtype=torch.float64).requires_grad_()
    expected = [0, 1e-16 / 6, *(d / math.tanh(d / 2) - 2 for d in (0.0999, 0.1001, 1, 30, 800, 1e6))]
    expected.insert(2, 1e-6 / 6 * (1 - 1e-6 / 60))
    value = divergences.relaxed_divergence(delta, torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-25)
    (slope,) = torch.autograd.grad(value.sum(), delta)
    half = delta.detach()[1:] / 2
    exact = 1 / torch.tanh(half) - half / torch.sinh(half.clamp(max=300)) ** 2
    torch.testing.assert_close(slope[3:], exact[2:], rtol=1e-9, atol=0)
    torch.testing.assert_close(slope[:3], delta.detach()[:3] / 3, rtol=1e-6, atol=0)
    assert float(divergences.relaxed_divergence(double(-3.0), double(0))) == pytest.approx(3 / math.tanh(1.5) - 2)


@pytest.mark.parametrize("form", [divergences.bernoulli_divergence, divergences.relaxed_divergence])
@pytest.mark.parametrize("logits", [-1e4, -100.0, -17.0, 0.0, 17.0, 100.0, 1e4])
@pytest.mark.parametrize("prior_logits", [-1e4, -50.0, 0.0, 50.0, 1e4])
def test_nothing_overflows_in_single_precision(
    form: Callable[[Tensor, Tensor], Tensor], logits: float, prior_logits: float
) -> None:
    one, two = torch.tensor(logits, requires_grad=True), torch.tensor(prior_logits, requires_grad=True)
    value = form(one, two)
    gradients = torch.autograd.grad(value, (one, two))
    assert all(torch.isfinite(x) for x in (value, *gradients))
    assert value >= -1e-30


def test_gradients_of_gates() -> None:
    one = torch.tensor([-3.0, 0.2, 5.0], dtype=torch.float64, requires_grad=True)
    two = torch.tensor([-1.0, 0.21, 0.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(divergences.bernoulli_divergence, (one, two))
    assert torch.autograd.gradcheck(divergences.relaxed_divergence, (one, two))


# ---- slabs -----------------------------------------------------------------------------------------------------------


def slab_parameters() -> list[Tensor]:
    values = torch.rand(4, 3, dtype=torch.float64) + torch.tensor([[-0.5], [0.1], [-0.5], [0.3]], dtype=torch.float64)
    return [value.clone().requires_grad_() for value in values]


@pytest.mark.parametrize("kind", [GatedNormal, NonCenteredNormal])
@pytest.mark.parametrize("same", [True, False])
def test_slab_is_weighted_by_its_gates(kind: type[GatedNormal], same: bool) -> None:
    """gamma times K2, value and gradient, whether the prior is the very one of the posterior or an equal one."""
    loc, scale, prior_loc, prior_scale = slab_parameters()
    weight = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64, requires_grad=True)
    centred = kind is GatedNormal
    mu, sigma = (loc - prior_loc, scale) if centred else (prior_scale * loc, prior_scale * scale)
    expected = weight * k2(mu, sigma, prior_scale)
    prior = dist.Normal(prior_loc, prior_scale)
    posterior: Any = kind(loc, scale, *((prior.loc, prior.scale) if same else (prior_loc, prior_scale)), weight)
    found = kl_divergence(posterior.to_event(1), prior.to_event(1))
    torch.testing.assert_close(found, expected.sum())
    inputs = (loc, scale, prior_loc, prior_scale, weight)
    one, two = (
        torch.autograd.grad(x, inputs, allow_unused=True, materialize_grads=True) for x in (found, expected.sum())
    )
    torch.testing.assert_close(one, two, atol=1e-12, rtol=1e-9)


def test_unit_divergence_has_its_gradients() -> None:
    """The gradient that is written out, of first and second order."""
    loc, scale, *_ = slab_parameters()

    def divergence(loc: Tensor, scale: Tensor) -> Tensor:
        value: Tensor = divergences._UnitDivergence.apply(loc, scale)
        return value

    torch.testing.assert_close(divergence(loc, scale), k2(loc, scale, double(1)))
    assert torch.autograd.gradcheck(divergence, (loc, scale))
    assert torch.autograd.gradgradcheck(divergence, (loc, scale))


def test_non_centred_divergence_has_no_slope_in_the_prior() -> None:
    loc, scale, prior_loc, prior_scale = slab_parameters()
    prior = dist.Normal(prior_loc, prior_scale)
    found = kl_divergence(NonCenteredNormal(loc, scale, prior.loc, prior.scale, double(1)), prior)
    slopes = torch.autograd.grad(found.sum(), (prior_loc, prior_scale), allow_unused=True)
    assert [slope is None for slope in slopes] == [True, True]


def test_gradients_of_scales() -> None:
    mu = torch.tensor([-1.0, 0.5], dtype=torch.float64, requires_grad=True)
    sigma, a, b = (
        torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in ([0.1, 1.0], [0.5, 4.0], [1.0, 2.0])
    )
    for prior in (dist.Gamma, dist.InverseGamma):

        def divergence(mu: Tensor, sigma: Tensor, a: Tensor, b: Tensor, prior: type = prior) -> Tensor:
            return kl_divergence(dist.LogNormal(mu, sigma), prior(a, b))

        assert torch.autograd.gradcheck(divergence, (mu, sigma, a, b))
