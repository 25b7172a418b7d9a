"""The distributions of the family: the hard gate, its antithetic partner and its soft gradient, and the gated slabs."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import kl_divergence

from guides import GatedNormal, HardGate, NonCenteredNormal
from tests.monte_carlo import assert_mean

PROBABILITIES = torch.tensor([0.001, 0.1, 0.5, 0.8, 0.99], dtype=torch.float64)
KINDS = (GatedNormal, NonCenteredNormal)
GRADIENTS = ("reinmax", "straight-through", "disarm")


def hard_gate(
    temperature: float = 0.5, gamma: Tensor = PROBABILITIES, *, gradient: Any = "reinmax", size: int | None = None
) -> HardGate:
    gate = HardGate(torch.tensor(temperature, dtype=gamma.dtype), torch.logit(gamma), gradient=gradient)
    return gate if size is None else gate.expand((size, *gamma.shape))


# ---- hard gates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.01, 0.5, 2.0])
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_draw_is_bernoulli_at_every_temperature(temperature: float, gradient: str) -> None:
    """Fails by chance less than once in 50,000 runs: 30 means of 200,000 draws at 5 standard errors."""
    draws = hard_gate(temperature, gradient=gradient).sample((200_000,))
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert_mean(draws, PROBABILITIES)


def test_moments_are_those_of_a_bernoulli() -> None:
    gate, bernoulli = hard_gate(), dist.Bernoulli(PROBABILITIES)
    torch.testing.assert_close(gate.mean, bernoulli.mean)
    torch.testing.assert_close(gate.variance, bernoulli.variance)
    assert gate.median.tolist() == [0, 0, 0, 1, 1]
    for value in (torch.zeros(5).double(), torch.ones(5).double()):
        torch.testing.assert_close(gate.log_prob(value), bernoulli.log_prob(value))
    assert gate.support is dist.constraints.boolean


def test_log_density_passes_the_soft_gradient() -> None:
    value = torch.ones(5, dtype=torch.float64, requires_grad=True)
    gate = hard_gate()
    (slope,) = torch.autograd.grad(gate.log_prob(value).sum(), value)
    torch.testing.assert_close(slope, gate.logits)


@pytest.mark.parametrize(
    ("temperature", "gamma", "expected"),
    [
        (0.5, 0.5, 0.86),
        (0.5, 0.1, 1.12),
        (0.5, 0.9, 1.12),
        (0.5, 0.01, 1.45),
        (1, 0.5, 0.67),
        (1, 0.1, 1.17),
        (1, 0.01, 2.8),
    ],
)
def test_mean_of_the_soft_gradient(temperature: float, gamma: float, expected: float) -> None:
    """Over the true gamma (1 - gamma), in the specification's table: 7 means of 400,000 draws, 1 % for rounding."""
    logits = torch.logit(torch.tensor(gamma, dtype=torch.float64)).expand(400_000).clone().requires_grad_()
    draws = HardGate(torch.tensor(temperature).double(), logits, gradient="straight-through").rsample()
    (slope,) = torch.autograd.grad(draws.sum(), logits)
    ratio = slope / (gamma * (1 - gamma))
    error = float(ratio.std()) / 400_000**0.5
    assert float(ratio.mean()) == pytest.approx(expected, abs=5 * error + 0.01 * expected)


def test_soft_gradient_is_that_of_the_relaxed_draw() -> None:
    """The slope of a draw is that of sigmoid((theta + l) / T) at the same uniform, and the draw rounds that value."""
    logits = torch.linspace(-3, 3, 50, dtype=torch.float64, requires_grad=True)
    temperature = torch.tensor(0.5, dtype=torch.float64)
    torch.manual_seed(7)
    draw = HardGate(temperature, logits, gradient="straight-through").rsample()
    torch.manual_seed(7)
    soft = torch.sigmoid((logits + torch.logit(torch.rand_like(logits))) / temperature)
    assert torch.equal(draw, soft.round())
    for one, two in zip(*(torch.autograd.grad(x.sum(), logits) for x in (draw, soft)), strict=True):
        torch.testing.assert_close(one, two)


def test_reinmax_is_the_trapezoid_rule() -> None:
    r"""The slope of a draw is that of the probability, shared alike by both sides, at any temperature.

    Summed over both sides, gamma of one and 1 - gamma of the other, it gives :math:`\gamma (1 - \gamma)` times the mean
    of f' at 0 and 1: the gradient of the mean of f where f is quadratic.
    """
    gamma = torch.linspace(0.01, 0.99, 40, dtype=torch.float64).expand(500, 40)
    logits = torch.logit(gamma).requires_grad_()
    draws = HardGate(torch.tensor(0.3).double(), logits).rsample()
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    (slope,) = torch.autograd.grad(draws.sum(), logits)
    sides = {1.0: (1 - gamma) / 2, 0.0: gamma / 2}
    for side, expected in sides.items():
        torch.testing.assert_close(slope[draws == side], expected[draws == side])
    for linear, curved in ((3.0, -10.0), (350.0, -360.0)):  # f(z) = linear z + curved z^2 / 2
        found = gamma * sides[1.0] * (linear + curved) + (1 - gamma) * sides[0.0] * linear
        torch.testing.assert_close(found, gamma * (1 - gamma) * (linear + curved / 2))


def test_without_a_slope_a_draw_has_no_gradient() -> None:
    gate = HardGate(torch.tensor(0.5), torch.zeros(3, requires_grad=True), gradient="disarm")
    assert not gate.has_rsample
    assert not gate.to_event(1).has_rsample
    assert not pyro.sample("z", gate.to_event(1)).requires_grad
    assert HardGate(torch.tensor(0.5), torch.zeros(3, requires_grad=True)).rsample().requires_grad


@pytest.mark.parametrize("logits", [-1e4, -200.0, -30.0, 30.0, 200.0, 1e4])
@pytest.mark.parametrize("temperature", [1e-3, 0.5])
@pytest.mark.parametrize("gradient", ["reinmax", "straight-through"])
def test_nothing_overflows_in_single_precision(logits: float, temperature: float, gradient: Any) -> None:
    theta = torch.full((1000,), logits, requires_grad=True)
    gate = HardGate(torch.tensor(temperature), theta, gradient=gradient)
    draw = gate.rsample()
    assert (draw == float(logits > 0)).all()
    density = gate.log_prob(draw)
    assert all(torch.isfinite(x).all() for x in (density, *torch.autograd.grad(density.sum() + draw.sum(), theta)))


def test_expanding_keeps_the_kind_of_gradient() -> None:
    for gradient in GRADIENTS:
        gate = hard_gate(gradient=gradient).expand((3, 5)).to_event(1)
        assert gate.base_dist.gradient == gradient and gate.has_rsample == (gradient != "disarm")
        assert gate.rsample().shape == (3, 5)


@pytest.mark.parametrize("gamma", PROBABILITIES.tolist())
def test_antithetic_partner_has_the_joint_law_of_opposite_uniforms(gamma: float) -> None:
    """Both marginals are Bernoulli(gamma), and both are open with probability max(0, 2 gamma - 1).

    Fails by chance less than once in 50,000 runs: 25 means of 200,000 draws at 5 standard errors.
    """
    gate = hard_gate(gamma=torch.tensor(gamma, dtype=torch.float64), size=200_000)
    one = gate.sample()
    two = gate.antithetic(one)
    assert set(two.unique().tolist()) <= {0.0, 1.0}
    both, none = max(0.0, 2 * gamma - 1), max(0.0, 1 - 2 * gamma)
    assert_mean(
        torch.stack([one, two, one * two, (1 - one) * (1 - two)], -1), torch.tensor([gamma, gamma, both, none]).double()
    )
    u = torch.rand(200_000, dtype=torch.float64)
    first, second = (u > 1 - gamma).double(), (1 - u > 1 - gamma).double()
    assert_mean(first * second - one * two, 0.0)


def test_antithetic_partner_at_extremes_and_without_gradient() -> None:
    logits = torch.tensor([-1e4, -100.0, 100.0, 1e4], requires_grad=True)
    gate = HardGate(torch.tensor(0.5), logits)
    for value in (torch.zeros(4), torch.ones(4)):
        partner = gate.antithetic(value)
        assert torch.isfinite(partner).all()
        assert not partner.requires_grad
    assert gate.antithetic(gate.sample()).tolist() == [0, 0, 1, 1]


# ---- gated slabs -----------------------------------------------------------------------------------------------------


def slab(kind: type[GatedNormal], *, requires_grad: bool = False) -> tuple[GatedNormal, dict[str, Tensor]]:
    """A slab of three weights with gates of probability 0, 0.4 and 1, and its parameters."""
    values = {
        "loc": [0.5, -1.0, 0.2],
        "scale": [0.1, 1.0, 0.5],
        "prior_loc": [0.0, 0.3, 0.0],
        "prior_scale": [1.0, 2.0, 0.3],
        "weight": [0.0, 0.4, 1.0],
    }
    made = {k: torch.tensor(v, dtype=torch.float64, requires_grad=requires_grad) for k, v in values.items()}
    return kind(*made.values()), made


def moments(kind: type[GatedNormal], parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    loc, scale = parameters["loc"], parameters["scale"]
    if kind is GatedNormal:
        return loc, scale
    return parameters["prior_loc"] + parameters["prior_scale"] * loc, parameters["prior_scale"] * scale


@pytest.mark.parametrize("kind", KINDS)
def test_draws_are_those_of_the_posterior(kind: type[GatedNormal]) -> None:
    """Fails by chance less than once in 100,000 runs: 12 means of 200,000 draws at 5 standard errors."""
    made, parameters = slab(kind)
    loc, scale = moments(kind, parameters)
    torch.testing.assert_close((made.mean, made.variance), (loc, scale**2))
    draws = made.sample((200_000,))
    assert_mean(draws, loc)
    assert_mean((draws - loc) ** 2, scale**2)


@pytest.mark.parametrize("kind", KINDS)
def test_mean_log_ratio_is_the_weighted_divergence(kind: type[GatedNormal]) -> None:
    """The mean of log q - log p is gamma KL(q | p); 6 means of 200,000 draws at 5 standard errors."""
    made, parameters = slab(kind)
    prior = dist.Normal(parameters["prior_loc"], parameters["prior_scale"])
    draws = made.sample((200_000,))
    expected = parameters["weight"] * kl_divergence(dist.Normal(*moments(kind, parameters)), prior)
    torch.testing.assert_close(kl_divergence(made, prior), expected)
    assert_mean(made.log_prob(draws) - prior.log_prob(draws), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_weight_goes_from_the_prior_to_the_posterior(kind: type[GatedNormal]) -> None:
    made, parameters = slab(kind)
    value = torch.tensor([0.3, 0.1, -0.2], dtype=torch.float64)
    prior = dist.Normal(parameters["prior_loc"], parameters["prior_scale"]).log_prob(value)
    posterior = dist.Normal(*moments(kind, parameters)).log_prob(value)
    torch.testing.assert_close(
        made.log_prob(value), torch.stack([prior[0], 0.6 * prior[1] + 0.4 * posterior[1], posterior[2]])
    )


def test_both_parametrisations_have_the_same_moments_and_gradients_of_moments() -> None:
    made, parameters = slab(NonCenteredNormal, requires_grad=True)
    centred = GatedNormal(*moments(NonCenteredNormal, parameters), *list(parameters.values())[2:])
    inputs = list(parameters.values())[:4]
    for one, two in ((made.mean, centred.mean), (made.variance, centred.variance)):
        torch.testing.assert_close(one, two)
        slopes = (torch.autograd.grad(x.sum(), inputs, allow_unused=True, materialize_grads=True) for x in (one, two))
        torch.testing.assert_close(*slopes)
    torch.manual_seed(1)
    one = made.rsample((4,))
    torch.manual_seed(1)
    torch.testing.assert_close(one, centred.rsample((4,)))


@pytest.mark.parametrize("kind", KINDS)
def test_slab_in_a_trace(kind: type[GatedNormal]) -> None:
    made: Any = slab(kind)[0]
    trace: Any = poutine.trace(lambda: pyro.sample("w", made.expand((2, 3)).to_event(1))).get_trace()
    trace.compute_log_prob()
    assert trace.nodes["w"]["log_prob"].shape == (2,)
    assert isinstance(trace.nodes["w"]["fn"].base_dist, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "value"), [("prior_scale", 0.0), ("weight", 1.5), ("weight", -0.1), ("prior_loc", math.nan)]
)
def test_parameters_are_checked(kind: type[GatedNormal], name: str, value: float) -> None:
    _, parameters = slab(kind)
    with pytest.raises(ValueError, match=f"parameter {name}"):
        kind(*{**parameters, name: torch.full((3,), value, dtype=torch.float64)}.values())


@pytest.mark.parametrize(("kind", "name"), [(GatedNormal, "scale"), (NonCenteredNormal, "unit_scale")])
def test_scale_of_a_slab_is_checked(kind: type[GatedNormal], name: str) -> None:
    _, parameters = slab(kind)
    with pytest.raises(ValueError, match=f"parameter {name}"):
        kind(*{**parameters, "scale": -parameters["scale"]}.values())
