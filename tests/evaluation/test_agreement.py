"""Distances of predictive distributions, against closed forms and the laws of a distance."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from bnn_pyro.evaluation.agreement import (
    at_least,
    mixture_points,
    mixture_total_variation,
    total_variation,
    wasserstein,
)


def mixture(*components: tuple[float, float], rows: int = 1) -> tuple[Tensor, Tensor]:
    """A mixture of normals (mean, sd) of equal weight, the same in all rows."""
    mean, sd = torch.tensor(components, dtype=torch.float64).unbind(1)
    return mean.unsqueeze(1).expand(-1, rows), sd.unsqueeze(1).expand(-1, rows)


def below(x: float) -> float:
    """The standard normal's distribution function."""
    return (1 + math.erf(x / math.sqrt(2))) / 2


# total variation


def test_total_variation_of_classes() -> None:
    p = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
    q = torch.tensor([[0.2, 0.5, 0.3], [0.0, 0.0, 1.0], [0.2, 0.3, 0.5]])
    torch.testing.assert_close(total_variation(p, q), torch.tensor([0.3, 1.0, 0.0]))


@pytest.mark.parametrize("shift", [0.0, 0.01, 0.5, 1.0, 3.0, 30.0])
def test_total_variation_of_shifted_normals(shift: float) -> None:
    """TV(N(0, s²), N(d, s²)) = 2 Phi(d / 2s) - 1."""
    found = mixture_total_variation(mixture((5.0, 0.1)), mixture((5.0 + 0.1 * shift, 0.1)))
    assert float(found) == pytest.approx(2 * below(shift / 2) - 1, abs=2e-3)


@pytest.mark.parametrize("ratio", [1.5, 4.0, 100.0])
def test_total_variation_of_scaled_normals(ratio: float) -> None:
    """The densities of N(0, 1) and N(0, r²) cross at x² = 2 r² log r / (r² - 1)."""
    x = math.sqrt(2 * ratio**2 * math.log(ratio) / (ratio**2 - 1))
    exact = 2 * (below(x) - below(x / ratio))
    assert float(mixture_total_variation(mixture((0, 1)), mixture((0, ratio)))) == pytest.approx(exact, abs=5e-3)


def test_total_variation_is_a_lower_bound_that_grows() -> None:
    p, q = mixture((0, 1), (4, 0.2)), mixture((1, 0.7))
    found = [float(mixture_total_variation(p, q, bins=bins)) for bins in (2, 8, 40, 400, 4000)]
    grid = torch.linspace(-12, 16, 200_001, dtype=torch.float64)
    density = [
        torch.stack([Normal(m, s).log_prob(grid).exp() for m, s in parts]).mean(0)
        for parts in ([(0, 1), (4, 0.2)], [(1, 0.7)])
    ]
    exact = float(torch.trapezoid((density[0] - density[1]).abs(), grid)) / 2
    assert all(value <= exact + 1e-9 for value in found) and found[-1] == pytest.approx(exact, abs=1e-4)
    assert found[-2] == pytest.approx(exact, abs=2e-3)


def test_total_variation_of_mixtures_is_a_distance_row_by_row() -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = ((torch.randn(s, 6, generator=generator), torch.rand(s, 6, generator=generator) + 0.05) for s in (7, 40))
    torch.testing.assert_close(mixture_total_variation(p, q), mixture_total_variation(q, p))
    assert mixture_total_variation(p, p).abs().max() == 0
    alone = torch.cat(
        [mixture_total_variation((p[0][:, [i]], p[1][:, [i]]), (q[0][:, [i]], q[1][:, [i]])) for i in range(6)]
    )
    torch.testing.assert_close(mixture_total_variation(p, q), alone)
    moved = ((p[0] * 50 + 3, p[1] * 50), (q[0] * 50 + 3, q[1] * 50))
    torch.testing.assert_close(mixture_total_variation(*moved), alone, atol=1e-4, rtol=1e-4)


# Wasserstein


@pytest.mark.parametrize(("mean", "sd"), [(0.7, 1.0), (-3.0, 1.0), (0.0, 2.5)])
def test_wasserstein_of_normals(mean: float, sd: float) -> None:
    """|m| between N(0, 1) and N(m, 1); E|Z| |s - 1| = sqrt(2 / pi) |s - 1| between N(0, 1) and N(0, s²)."""
    a, b = mixture_points(*mixture((0, 1)), levels=4000), mixture_points(*mixture((mean, sd)), levels=3000)
    exact = abs(mean) if sd == 1 else math.sqrt(2 / math.pi) * abs(sd - 1)
    assert float(wasserstein(a, b)) == pytest.approx(exact, rel=2e-3)


@pytest.mark.parametrize(("first", "second"), [(50, 50), (50, 31), (1, 8), (64, 96)])
def test_wasserstein_of_samples_is_the_mean_distance_of_sorted_copies(first: int, second: int) -> None:
    a, b = torch.randn(first, 3, dtype=torch.float64), torch.rand(second, 3, dtype=torch.float64)
    size = math.lcm(first, second)
    copies = [draws.repeat_interleave(size // len(draws), 0).sort(0).values for draws in (a, b)]
    torch.testing.assert_close(wasserstein(a, b), (copies[0] - copies[1]).abs().mean(0))


def test_points_have_the_moments_of_the_mixture() -> None:
    points = mixture_points(*mixture((0, 1), (4, 2)), levels=2000)
    assert points.shape == (4000, 1)
    assert float(points.mean()) == pytest.approx(2.0, abs=1e-9)
    assert float(points.var(correction=0)) == pytest.approx((1 + 4) / 2 + 4, rel=2e-3)


# open nodes


def test_at_least() -> None:
    is_open = torch.tensor([[True, False, False], [False, True, True], [False, True, False], [False, False, False]])
    found = at_least(is_open)
    assert found.tolist() == [0.75, 0.25, 0.0]
    assert float(found.sum()) == is_open.sum() / 4
    shuffled = torch.stack([row[torch.randperm(3)] for row in is_open])
    assert at_least(shuffled).tolist() == found.tolist()


# what they refuse


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: total_variation(torch.ones(2, 3), torch.ones(2, 4)), r"p and q .* got \(2, 3\) and \(2, 4\)"),
        (lambda: wasserstein(torch.ones(2, 3), torch.ones(2, 4)), "a and b must have shape"),
        (lambda: wasserstein(torch.ones(0, 3), torch.ones(2, 3)), "a and b must have shape"),
        (lambda: mixture_total_variation(mixture((0, 1)), mixture((0, 1), rows=2)), "as many rows"),
        (lambda: mixture_total_variation(mixture((0, 1)), mixture((0, 0))), "must be positive, got 0.0"),
        (lambda: mixture_total_variation(mixture((0, 1)), mixture((0, 1)), bins=1), "bins must be at least 2, got 1"),
        (lambda: mixture_points(*mixture((0, 1)), levels=0), "levels must be at least 1, got 0"),
        (lambda: at_least(torch.ones(2, 3)), "is_open must be bool"),
    ],
)
def test_bad_arguments_are_told(call: object, words: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=words):
        call()
