"""Mixtures of normals: the standard library's normal, bisection, quadrature, samples."""

import math
from statistics import NormalDist

import pytest
import torch
from torch import Tensor

from bnn_pyro.evaluation import NormalMixture
from bnn_pyro.evaluation.normal_mixture import _half_distance, _half_distance_by_steps

LEVELS = torch.tensor([1e-6, 0.025, 0.25, 0.5, 0.9, 0.999], dtype=torch.float64)


def mixture(draws: int, rows: int, seed: int = 0, *, spread: float = 2.0) -> NormalMixture:
    generator = torch.Generator().manual_seed(seed)
    means = spread * torch.randn(draws, rows, dtype=torch.float64, generator=generator)
    return NormalMixture(means, 0.1 + torch.rand(draws, rows, dtype=torch.float64, generator=generator))


def parts(of: NormalMixture, row: int) -> list[NormalDist]:
    return [NormalDist(m, s) for m, s in zip(of.means[:, row].tolist(), of.stds[:, row].tolist(), strict=True)]


def cdf(of: NormalMixture, row: int, y: float) -> float:
    return sum(part.cdf(y) for part in parts(of, row)) / of.draws


def bisected(of: NormalMixture, row: int, q: float) -> float:
    """The quantile by 100 halvings of a wide bracket."""
    low, high = -1e3, 1e3
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if cdf(of, row, middle) < q else (low, middle)
    return low


def test_moments_density_and_distribution_by_the_standard_library() -> None:
    of = mixture(3, 4)
    y = torch.linspace(-4, 4, 4, dtype=torch.float64)
    for row, target in enumerate(y.tolist()):
        each = parts(of, row)
        mean = sum(part.mean for part in each) / 3
        second = sum(part.variance + part.mean**2 for part in each) / 3
        assert float(of.mean[row]) == pytest.approx(mean, rel=1e-12)
        assert float(of.std[row]) == pytest.approx(math.sqrt(second - mean**2), rel=1e-12)
        assert float(of.log_prob(y)[row]) == pytest.approx(math.log(sum(part.pdf(target) for part in each) / 3))
        assert float(of.cdf(y)[row]) == pytest.approx(cdf(of, row, target), rel=1e-12)
    assert float(of.log_prob(y + 1e4).max()) < -1e6  # finite, far from all draws


@pytest.mark.parametrize(("draws", "spread"), [(1, 2.0), (2, 40.0), (50, 2.0), (50, 0.01)])
def test_quantiles_are_those_of_a_bisection(draws: int, spread: float) -> None:
    of = mixture(draws, 5, spread=spread)
    found = of.quantile(LEVELS)
    assert found.shape == (6, 5) and found.dtype == torch.float64
    for number, q in enumerate(LEVELS.tolist()):
        for row in range(of.rows):
            assert cdf(of, row, float(found[number, row])) == pytest.approx(q, rel=1e-9, abs=1e-15)
            if draws != 2:  # between two modes far apart a quantile of 1/2 may lie anywhere
                assert float(found[number, row]) == pytest.approx(bisected(of, row, q), abs=1e-9)
    torch.testing.assert_close(of.quantile(0.25), found[2], rtol=0, atol=1e-12 if draws != 2 else 1e-9)
    assert of.quantile(LEVELS.reshape(2, 3)).shape == (2, 3, 5)


def test_a_quantile_between_narrow_modes_is_found() -> None:
    """Newton's method alone would leave: the density between the modes is 0."""
    of = NormalMixture(torch.tensor([[0.0], [100.0], [1e6]]), torch.tensor([[1e-3], [1.0], [5.0]]))
    q = torch.tensor([0.1, 0.333, 0.334, 0.5, 0.66, 0.67, 0.99], dtype=torch.float64)
    found = of.quantile(q).squeeze(1)
    assert (found.diff() > 0).all()
    torch.testing.assert_close(of.cdf(found.unsqueeze(1)).squeeze(1), q, rtol=0, atol=1e-11)


def test_intervals_are_central() -> None:
    of = mixture(20, 7)
    low, high = of.interval(0.8)
    for end, q in ((low, 0.1), (high, 0.9)):
        torch.testing.assert_close(of.cdf(end), torch.full((7,), q, dtype=torch.float64), rtol=0, atol=1e-12)
    wider = of.interval(torch.tensor([0.8, 0.95], dtype=torch.float64))
    assert wider[0].shape == wider[1].shape == (2, 7)
    torch.testing.assert_close(wider[1][0], high, rtol=0, atol=1e-12)
    assert (wider[1][1] > high).all() and (wider[0][1] < low).all()


def quadrature(of: NormalMixture, row: int, y: float, points: int = 6001) -> float:
    """The CRPS by its definition, the integral of (F(z) - 1[y <= z])², on both sides of y."""
    ends = [min(-15.0, y - 1), max(15.0, y + 1)]
    total = 0.0
    for low, high, is_above in ((ends[0], y, 0.0), (y, ends[1], 1.0)):
        z = torch.linspace(low, high, points, dtype=torch.float64)
        below = NormalMixture(of.means[:, row, None], of.stds[:, row, None]).cdf(z.unsqueeze(1)).squeeze(1)
        total += float(torch.trapezoid((below - is_above).square(), z))
    return total


@pytest.mark.parametrize("draws", [1, 4, 300])  # by pairs, and by steps
def test_crps_is_the_integral_of_its_definition(draws: int) -> None:
    of = mixture(draws, 3)
    y = torch.tensor([-6.0, 0.3, 2.0], dtype=torch.float64)
    found = of.crps(y)
    for row, target in enumerate(y.tolist()):
        assert float(found[row]) == pytest.approx(quadrature(of, row, target), rel=1e-5)


def test_crps_of_one_normal_is_gneitings() -> None:
    """sd (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)) of Gneiting, Raftery, Westveld, Goldman (2005)."""
    standard, z = NormalDist(), 1.3
    wanted = 2.0 * (z * (2 * standard.cdf(z) - 1) + 2 * standard.pdf(z) - 1 / math.sqrt(math.pi))
    one = NormalMixture(torch.tensor([[5.0]]), torch.tensor([[2.0]]))
    y = torch.tensor([5.0 + 2.0 * z], dtype=torch.float64)
    assert float(one.crps(y)) == pytest.approx(wanted, rel=1e-12)
    alike = NormalMixture(torch.full((80, 1), 5.0), torch.full((80, 1), 2.0))
    assert float(alike.crps(y)) == pytest.approx(wanted, rel=1e-12)


def test_the_two_ways_to_the_spread_agree_to_rounding() -> None:
    of = mixture(40, 6, spread=0.5)
    widest = float((of.means.amax(0) - of.means.amin(0) + 18 * of.stds.amax(0)).max())
    steps = math.ceil(widest / (0.5 * float(of.stds.min())))
    found = _half_distance_by_steps(of.means, of.stds, steps)
    torch.testing.assert_close(found, _half_distance(of.means, of.stds), rtol=1e-13, atol=0)


def test_samples_have_the_distribution_and_share_draws_over_rows() -> None:
    of = mixture(5, 2, spread=20.0)
    drawn = of.sample(20_000, seed=1)
    for q in (0.1, 0.5, 0.9):
        below = (drawn <= of.quantile(q)).double().mean(0)
        assert (below - q).abs().max() < 0.015  # four standard errors
    assert torch.equal(drawn, of.sample(20_000, seed=1)) and not torch.equal(drawn, of.sample(20_000, seed=2))
    nearest = (drawn.unsqueeze(1) - of.means).abs().argmin(1)  # means are far apart for their noise
    assert (nearest[:, 0] == nearest[:, 1]).double().mean() > 0.9
    torch.manual_seed(3)
    state = torch.get_rng_state()
    of.sample(2, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    first = of.sample(2)
    torch.set_rng_state(state)
    assert torch.equal(of.sample(2), first)


def test_blocks_of_rows_change_nothing() -> None:
    of = mixture(70, 3000)
    y = torch.randn(2, 3000, dtype=torch.float64)
    few = NormalMixture(of.means[:, 2500:2510], of.stds[:, 2500:2510])
    for name in ("cdf", "log_prob", "crps"):
        whole, part = getattr(of, name)(y), getattr(few, name)(y[:, 2500:2510])
        assert whole.shape == y.shape
        torch.testing.assert_close(whole[:, 2500:2510], part, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(of.quantile(LEVELS)[:, 2500:2510], few.quantile(LEVELS), rtol=1e-9, atol=1e-9)


def test_original_units_lose_no_digits() -> None:
    """Years: a mean of 2,000 and a spread of .01 leave three digits in single precision."""
    means, stds = torch.randn(9, 4), torch.rand(9, 4) + 0.5
    scaled = NormalMixture(means, stds).scaled(mean=2000.0, std=0.01)
    given = NormalMixture(means, stds)
    torch.testing.assert_close(scaled.quantile(0.9), 2000 + 0.01 * given.quantile(0.9), rtol=0, atol=1e-11)
    y = torch.randn(4, dtype=torch.float64)
    torch.testing.assert_close(scaled.crps(2000 + 0.01 * y), 0.01 * given.crps(y), rtol=1e-8, atol=0)
    torch.testing.assert_close(scaled.log_prob(2000 + 0.01 * y), given.log_prob(y) - math.log(0.01))
    torch.testing.assert_close(scaled.std, 0.01 * given.std)


@pytest.mark.parametrize(
    ("means", "stds", "message"),
    [
        (torch.zeros(3), torch.ones(3), r"means must have shape \(draws, rows\)"),
        (torch.zeros(0, 3), torch.ones(0, 3), "at least one of each"),
        (torch.zeros(2, 3), torch.ones(2, 1), r"stds must have shape \(2, 3\), got \(2, 1\)"),
        (torch.full((2, 3), math.nan), torch.ones(2, 3), "means must be finite, got 6"),
        (torch.zeros(2, 3), torch.full((2, 3), math.inf), "stds must be finite, got 6"),
        (torch.zeros(2, 3), torch.zeros(2, 3), "stds must be positive, got 0"),
    ],
)
def test_bad_draws(means: Tensor, stds: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NormalMixture(means, stds)


def test_bad_questions() -> None:
    of = mixture(2, 3)
    for q in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="q must be between 0 and 1"):
            of.quantile(q)
        with pytest.raises(ValueError, match="level must be between 0 and 1"):
            of.interval(q)
    for name in ("cdf", "log_prob", "crps"):
        for y, message in ((torch.zeros(2), r"y must have shape \(\*batch, 3\)"), (torch.full((3,), math.nan), "NaN")):
            with pytest.raises(ValueError, match=message):
                getattr(of, name)(y)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        of.sample(0)
    with pytest.raises(ValueError, match="std must be positive and finite, got 0"):
        of.scaled(std=0.0)
    with pytest.raises(ValueError, match="mean must be finite, got inf"):
        of.scaled(mean=math.inf)
