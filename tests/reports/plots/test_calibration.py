"""Plots of calibration: the curves of the metrics, and what is refused."""

import numpy as np
import pytest
import torch

from bnn_pyro.evaluation.metrics import (
    CoverageCurve,
    classification_metrics,
    coverage_curve,
    regression_metrics,
    reliability_curve,
)
from bnn_pyro.reports.plots import Curve, plot_calibration
from tests.reports.plots.reading import along_x, along_y, probabilities, texts


def test_reliability_shows_the_curve_and_the_ece_of_the_metrics() -> None:
    p, y = probabilities()
    curve = reliability_curve(p, y)
    figure = plot_calibration({"net": curve})
    assert f"net (ECE {classification_metrics(p, y)['ece']:.3f})" in texts(figure)
    line = figure.axes[0].lines[1]
    enough = curve.counts >= 5
    np.testing.assert_allclose(along_x(line), curve.confidence[enough])
    np.testing.assert_allclose(along_y(line), curve.accuracy[enough])


def test_reliability_intervals_cover_a_calibrated_classifier() -> None:
    """Each of about 60 intervals misses at 5 %: 3 expected, more than 10 with a probability of 4e-4."""
    missed = shown = 0
    for _ in range(6):
        logits = 1.5 * torch.randn(2000, 4)
        y = torch.distributions.Categorical(logits=logits).sample()
        axes = plot_calibration(reliability_curve(logits.softmax(1), y)).axes[0]
        for (x, low), (_, high) in axes.collections[0].get_segments():  # type: ignore[attr-defined]
            shown += 1
            missed += not low <= x <= high
    assert shown > 50
    assert missed <= 10


def test_coverage_shows_the_curve_and_the_ece_of_the_metrics() -> None:
    mean, sd, y = torch.zeros(3, 80), 0.5 * torch.ones(3, 80), torch.randn(80)
    figure = plot_calibration({"32 draws": coverage_curve(mean, sd, y)})
    assert f"32 draws (ECE {regression_metrics(mean, sd, y)['ece']:.3f})" in texts(figure)
    assert len(figure.axes) == 2 and "80 rows" in texts(figure)


def test_coverage_of_intervals_stands_beside_that_of_quantiles() -> None:
    """A prediction that is shifted fails at the quantiles, one that is too narrow at the intervals."""
    y = torch.randn(500, generator=torch.Generator().manual_seed(0))
    mean, sd = torch.full((1, 500), 0.3), torch.full((1, 500), 0.5)
    curve = coverage_curve(mean, sd, y)
    line = plot_calibration(curve).axes[1].lines[1]
    np.testing.assert_allclose(along_x(line), [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1], atol=1e-6)
    scores = regression_metrics(mean, sd, y)
    for place, name in ((0, "coverage90"), (1, "coverage80"), (4, "coverage50")):
        assert along_y(line)[place] == pytest.approx(scores[name], abs=1e-6)
    assert plot_calibration(CoverageCurve(curve.nominal, curve.observed)).axes[1].lines  # of unknown rows: no band


def test_calibration_needs_curves_of_one_kind() -> None:
    p, y = probabilities()
    coverage = coverage_curve(torch.zeros(1, 9), torch.ones(1, 9), torch.randn(9))
    wrong: list[dict[str, Curve]] = [{}, {"a": reliability_curve(p, y), "b": coverage}]
    for curves in wrong:
        with pytest.raises(ValueError, match="of one kind"):
            plot_calibration(curves)
