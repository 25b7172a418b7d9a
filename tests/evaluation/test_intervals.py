"""Scores of intervals: calibrated targets, by hand, mixtures that are no normals."""

from statistics import NormalDist

import pytest
import torch

from bnn_pyro.evaluation import NormalMixture
from bnn_pyro.evaluation.intervals import LEVELS, interval_metrics
from tests.evaluation.test_normal_mixture import mixture


def test_targets_of_the_mixture_are_covered_at_every_level() -> None:
    """With 4,000 rows a covered share has a standard error of .008 at most."""
    of = mixture(6, 4000)
    rows = torch.arange(4000)
    chosen = torch.randint(6, (4000,), generator=torch.Generator().manual_seed(7))  # a draw for each row, independently
    y = of.means[chosen, rows] + of.stds[chosen, rows] * torch.randn(4000, generator=torch.Generator().manual_seed(8))
    found = interval_metrics(of, y)
    for level in LEVELS:
        assert found[f"coverage{round(100 * level)}"] == pytest.approx(level, abs=0.03)
    assert found["crps"] == pytest.approx(float(of.crps(y).mean()))
    wide = interval_metrics(NormalMixture(of.means, 8 * of.stds), y)
    assert wide["coverage50"] > 0.7 and wide["width50"] > 2 * found["width50"] and wide["crps"] > found["crps"]


def test_widths_of_one_normal() -> None:
    stds = torch.tensor([[1.0, 3.0]])
    found = interval_metrics(NormalMixture(torch.zeros(1, 2), stds), torch.tensor([0.0, 3.1]))
    for level in LEVELS:
        wanted = 2 * 2 * NormalDist().inv_cdf((1 + level) / 2)
        assert found[f"width{round(100 * level)}"] == pytest.approx(wanted, rel=1e-9)
    assert [found[f"coverage{name}"] for name in (50, 80, 90, 95)] == [0.5, 1.0, 1.0, 1.0]
    names = (50, 80, 90, 95)
    assert list(found) == ["crps", *(f"coverage{name}" for name in names), *(f"width{name}" for name in names)]


def test_intervals_are_those_of_the_mixture_and_not_of_its_moments() -> None:
    """One draw in 50 is wide: half of the targets are near 0, where the moments' normal puts 8 % of them."""
    stds = torch.full((50, 1), 0.1)
    stds[0] = 50.0
    of = NormalMixture(torch.zeros(50, 1), stds)
    assert interval_metrics(of, torch.tensor([0.2]))["coverage50"] == 0.0  # inside .674 * 7.07 = 4.8 of the moments
    assert interval_metrics(of, torch.tensor([0.05]))["coverage50"] == 1.0
    low, high = of.interval(0.5)
    width = interval_metrics(of, torch.zeros(1))["width50"]
    assert width == pytest.approx(float(high - low), rel=1e-12) and width < 0.15


def test_targets_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"y must have shape \(2,\), got \(3, 2\)"):
        interval_metrics(mixture(2, 2), torch.zeros(3, 2))
