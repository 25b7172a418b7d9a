"""Gates: the relaxed density with its atoms, and the theory's inclusion probabilities."""

import math

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from bnn_pyro.priors import AtomicRelaxedBernoulli, gate, inclusion_probability
from tests.models import traced
from tests.monte_carlo import assert_mean

TEMPERATURES = (0.1, 0.5, 1.0, 2.0)
LOGITS = (-6.0, -0.5, 0.0, 3.0)


def relaxed(temperature: float, logits: float | Tensor, dtype: torch.dtype = torch.float64) -> AtomicRelaxedBernoulli:
    return AtomicRelaxedBernoulli(torch.tensor(temperature, dtype=dtype), logits=torch.as_tensor(logits, dtype=dtype))


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("logits", LOGITS)
def test_density_integrates_to_the_probability_of_an_interval(temperature: float, logits: float) -> None:
    """A draw z = sigmoid(x) lies between sigmoid(-18) and sigmoid(18) as often as its logistic variable does."""
    x = torch.linspace(-18, 18, 200_001, dtype=torch.float64)
    z = torch.sigmoid(x)
    density = relaxed(temperature, logits).log_prob(z).exp() * z * torch.sigmoid(-x)
    edges = torch.sigmoid(torch.tensor([-18.0, 18.0], dtype=torch.float64) * temperature - logits)
    torch.testing.assert_close(torch.trapezoid(density, x), edges[1] - edges[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_density_inside_is_the_relaxed_one(temperature: float) -> None:
    z = torch.rand(100, dtype=torch.float64)
    plain = dist.RelaxedBernoulli(torch.tensor(temperature, dtype=torch.float64), logits=torch.tensor(0.7).double())
    torch.testing.assert_close(relaxed(temperature, torch.tensor(0.7).double()).log_prob(z), plain.log_prob(z))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_atoms_have_the_masses_of_a_bernoulli(temperature: float) -> None:
    logits = torch.tensor(LOGITS, dtype=torch.float64)
    made = relaxed(temperature, logits)
    for value in (0.0, 1.0):
        expected = dist.Bernoulli(logits=logits).log_prob(torch.tensor(value).double())
        torch.testing.assert_close(made.log_prob(torch.tensor(value).double()), expected)
    torch.testing.assert_close(
        sum(made.log_prob(torch.tensor(v).double()).exp() for v in (0.0, 1.0)), torch.ones(4).double()
    )


@pytest.mark.parametrize("logits", [-1e4, -100.0, -20.0, 0.0, 20.0, 100.0, 1e4])
@pytest.mark.parametrize("value", [0.0, 1e-38, 1e-6, 0.5, 1 - 1e-7, 1.0])
def test_nothing_overflows_in_single_precision(logits: float, value: float) -> None:
    theta = torch.tensor(logits, requires_grad=True)
    z = torch.tensor(value, requires_grad=True)
    density = AtomicRelaxedBernoulli(torch.tensor(0.5), logits=theta).log_prob(z)
    gradients = torch.autograd.grad(density, (theta, z))
    assert all(torch.isfinite(x) for x in (density, *gradients))


def test_gradient_inside_and_at_the_atoms() -> None:
    theta = torch.tensor([-0.5, 0.7], dtype=torch.float64, requires_grad=True)
    z = torch.tensor([0.2, 0.9], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t, v: relaxed(0.5, t).log_prob(v), (theta, z))
    for value in (0.0, 1.0):
        (slope,) = torch.autograd.grad(relaxed(0.5, theta).log_prob(torch.full((2,), value).double()).sum(), theta)
        torch.testing.assert_close(slope, value - torch.sigmoid(theta))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_a_draw_rounds_to_a_bernoulli(temperature: float) -> None:
    """Fails by chance less than once in 100,000 runs: 16 means of 50,000 draws at 5 standard errors."""
    logits = torch.tensor(LOGITS, dtype=torch.float64)
    draws = relaxed(temperature, logits).sample((50_000,))
    assert_mean((draws > 0.5).double(), torch.sigmoid(logits))


def test_gate_reads_dtype_size_and_inclusion() -> None:
    each = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    trace = traced(gate)("z", each, size=3, temperature=2)
    base = trace.nodes["z"]["fn"].base_dist
    assert isinstance(base, AtomicRelaxedBernoulli)
    torch.testing.assert_close(base.probs, each)
    assert base.temperature == torch.tensor(2.0, dtype=torch.float64)
    assert gate("z", 0.5, size=3).dtype == torch.float32
    assert gate("z", each.unsqueeze(-1), size=4).shape == (3, 4)
    assert gate("z", torch.stack([each, each]), size=3).shape == (2, 3)
    assert gate("z", each).shape == (3,)


@pytest.mark.parametrize(
    ("inclusion", "options", "message"),
    [
        (0.0, {}, r"inclusion must lie in \(0, 1\), got 0.0"),
        (1, {}, r"inclusion must lie in \(0, 1\), got 1"),
        (float("nan"), {}, r"inclusion must lie in \(0, 1\), got nan"),
        (1e-50, {}, r"inclusion must lie in \(0, 1\), got 1e-50; float32 must tell it from 0 and 1"),
        (1 - 1e-12, {}, "float32 must tell it from 0 and 1"),
        (0.5, {"size": 0}, "size must be at least 1, got 0"),
        (0.5, {"temperature": 0.0}, "temperature must be positive, got 0.0"),
        (torch.tensor([0.2, 0.3]), {"size": 3}, r"inclusion must have one entry a gate \(3\), got shape \(2,\)"),
    ],
)
def test_gate_says_what_is_wrong(inclusion: float | Tensor, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gate("z", inclusion, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("widths", "num_data", "expected"),
    [
        ((784, 400, 400, 10), 60_000, (0.001541136, 0.002343843)),
        ((800, 800, 500, 10), 60_000, (7.476536e-4, 1.1962462e-3)),
    ],
)
def test_inclusion_probability_has_the_published_values(
    widths: tuple[int, ...], num_data: int, expected: tuple[float, ...]
) -> None:
    assert inclusion_probability(widths, num_data) == pytest.approx(expected, rel=5e-7)


def test_inclusion_probability_by_hand() -> None:
    """One hidden layer, with a constant large enough for every term to tell."""
    k0, k1, k2, n, c = 3, 5, 2, 50, 1e-2
    u = 4 * (2 * (math.log(n) + math.log(2)) + math.log((k0 + 1) * k1) + math.log((k1 + 1) * k2))
    theta = (k0 + 1) ** 2 + math.log(k1 + 1) + 1 + math.log(k1) + math.log(k0 + 1) + math.log(n) + math.log(u)
    expected = math.exp(-math.log(k1) - c * (k0 + 1) * theta)
    assert inclusion_probability((k0, k1, k2), n, constant=c) == pytest.approx((expected,), rel=1e-12)
    assert inclusion_probability((k0, k1, k2), n, constant=0) == pytest.approx((1 / k1,))


def test_inclusion_probability_of_two_hidden_layers_by_hand() -> None:
    """With another number of layers their square is not their double."""
    k, n, c = (3, 5, 4, 2), 50, 1e-3
    pairs = [(k[i], k[i + 1]) for i in range(3)]
    u = sum(9 * (math.log(n) + math.log(3) + math.log(before + 1) + math.log(after)) for before, after in pairs)
    expected = []
    for layer, (before, after) in enumerate(pairs[:2]):
        others = sum(math.log(k[m] + 1) for m in range(3) if m != layer)
        rest = math.log(after) + math.log(before + 1) + math.log(n) + math.log(u)
        expected.append(math.exp(-math.log(after) - c * (before + 1) * ((before + 1) ** 2 + others + 2 + rest)))
    assert inclusion_probability(k, n, constant=c) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("widths", "num_data", "constant", "message"),
    [
        ((3, 2), 10, 1e-9, "widths must be at least three"),
        ((3, 0, 2), 10, 1e-9, "widths must be at least three positive"),
        ((3, 4, 2), 0, 1e-9, "num_data must be at least 1, got 0"),
        ((3, 4, 2), 10, -1.0, "constant must be finite and not negative, got -1.0"),
        ((20_000, 4, 2), 10, 1e-9, "constant must be smaller for these widths"),
    ],
)
def test_inclusion_probability_says_what_is_wrong(
    widths: tuple[int, ...], num_data: int, constant: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        inclusion_probability(widths, num_data, constant=constant)


@pytest.mark.parametrize("inclusion", [1e-50, 1 - 1e-9, math.nan])
def test_an_inclusion_that_float32_rounds_to_an_end_is_refused(inclusion: float) -> None:
    with pytest.raises(ValueError, match="inclusion must lie in"):
        gate("z", inclusion)
