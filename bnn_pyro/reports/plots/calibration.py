"""How far predicted probabilities can be trusted."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bnn_pyro.evaluation.metrics import Z95, CoverageCurve, ReliabilityCurve
from bnn_pyro.reports.figures import (
    COLORS,
    GRID,
    MARKERS,
    MUTED,
    Values,
    new_figure,
    new_panels,
    numpy_values,
    set_title,
    style_axes,
)

Curve = ReliabilityCurve | CoverageCurve

_MIN_ROWS = 5  # the accuracy of fewer rows says nothing


def plot_calibration(curves: Curve | Mapping[str, Curve]) -> Figure:
    """Draw how far predicted probabilities can be trusted: a reliability diagram, or the coverage of quantiles.

    A classifier's accuracy stands against its confidence, with the share of the rows in each bin below. Of a regression
    the share of targets below each predicted quantile stands against the quantile's level, and beside it the share in
    each central interval, its coverage, against the interval's probability. At each level the share of calibrated
    predictions is in the grey band with a probability of 95 %, for the number of rows.

    Args:
        curves: A curve of `reliability_curve` or `coverage_curve`, or several of one kind by the name to show.

    Returns:
        The figure; the legend tells each curve's expected calibration error.

    Raises:
        ValueError: If there is no curve, or the curves are of two kinds.
    """
    named = dict(curves) if isinstance(curves, Mapping) else {"predictions": curves}
    reliability = {name: curve for name, curve in named.items() if isinstance(curve, ReliabilityCurve)}
    coverage = {name: curve for name, curve in named.items() if isinstance(curve, CoverageCurve)}
    if bool(reliability) == bool(coverage):
        raise ValueError(f"curves must be one curve or several of one kind, got {len(named)} of two kinds or none.")
    return _plot_reliability(reliability) if reliability else _plot_coverage(coverage)


def _plot_reliability(curves: Mapping[str, ReliabilityCurve]) -> Figure:
    figure = new_figure(5.8, 6.6)
    grid = figure.add_gridspec(2, 1, height_ratios=(3, 1))
    above, below = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    _draw_diagonal(above)
    for number, (name, curve) in enumerate(curves.items()):
        _draw_reliability(above, number, name, curve)
        _draw_histogram(below, number, curve)
    above.set(ylabel="accuracy, with 95 % intervals", xlim=(0, 1.01), ylim=(0, 1.02))
    above.set_title("Calibration on test rows", loc="left", fontweight="bold")
    below.set(ylabel="share of rows", xlabel="confidence: probability of the predicted class", xlim=(0, 1.01))
    rows = max(float(curve.counts.sum()) for curve in curves.values())
    below.set_yscale("log")
    below.set_ylim(0.5 / rows, 1.3)
    below.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    style_axes(above)
    style_axes(below)
    figure.legend(
        *above.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize="small"
    )
    return figure


def _draw_reliability(axes: Axes, number: int, name: str, curve: ReliabilityCurve) -> None:
    """Draw one curve over the bins with rows enough, with the intervals of Wilson (1927) for their accuracies."""
    counts, color = numpy_values(curve.counts), COLORS[number % len(COLORS)]
    full = counts > 0
    gaps = np.abs(numpy_values(curve.accuracy) - numpy_values(curve.confidence))[full]
    ece = float((counts[full] * gaps).sum() / counts.sum())
    shown = counts >= min(_MIN_ROWS, counts.max())
    confidence, accuracy = numpy_values(curve.confidence)[shown], numpy_values(curve.accuracy)[shown]
    axes.vlines(confidence, *_wilson(accuracy, counts[shown]), color=color, linewidth=1.2, alpha=0.6)
    label, marker = f"{name} (ECE {ece:.3f})", MARKERS[number % len(MARKERS)]
    axes.plot(confidence, accuracy, color=color, marker=marker, markersize=6, linewidth=1, label=label, clip_on=False)


def _wilson(share: Values, rows: Values) -> tuple[Values, Values]:
    center = (share + Z95**2 / (2 * rows)) / (1 + Z95**2 / rows)
    width = Z95 * np.sqrt(share * (1 - share) / rows + Z95**2 / (4 * rows**2)) / (1 + Z95**2 / rows)
    return center - width, center + width


def _draw_histogram(axes: Axes, number: int, curve: ReliabilityCurve) -> None:
    counts, color = numpy_values(curve.counts), COLORS[number % len(COLORS)]
    share, edges = counts / counts.sum(), np.linspace(0, 1, len(counts) + 1)
    if number == 0:
        axes.stairs(share, edges, color=color, fill=True, alpha=0.3)
    axes.stairs(share, edges, color=color, linewidth=1.6)


def _plot_coverage(curves: Mapping[str, CoverageCurve]) -> Figure:
    figure, (quantiles, intervals) = new_panels(2, 4.4, 4.2)
    rows = min((curve.rows for curve in curves.values() if curve.rows is not None), default=None)
    for axes in (quantiles, intervals):
        _draw_diagonal(axes)
        if rows is not None:
            _draw_calibrated(axes, rows)
    for number, (name, curve) in enumerate(curves.items()):
        nominal, observed = numpy_values(curve.nominal), numpy_values(curve.observed)
        label = f"{name} (ECE {np.abs(nominal - observed).mean():.3f})"
        color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
        for axes, points in ((quantiles, (nominal, observed)), (intervals, map(numpy_values, curve.intervals()))):
            axes.plot(*points, color=color, marker=marker, markersize=4.5, linewidth=1.5, label=label)
    quantiles.set(xlabel="level of the predicted quantile", ylabel="share of targets below it")
    quantiles.set_title("Quantiles", loc="left", fontsize="medium")
    intervals.set(xlabel="probability of the central interval", ylabel="share of targets in it")
    intervals.set_title("Coverage of intervals", loc="left", fontsize="medium")
    for axes in (quantiles, intervals):
        axes.set(xlim=(0, 1), ylim=(0, 1))
        style_axes(axes)
    set_title(figure, "Calibration on test rows")
    handles, labels = quantiles.get_legend_handles_labels()
    columns = min(3, len(labels))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize="small")
    return figure


def _draw_calibrated(axes: Axes, rows: int) -> None:
    """Draw where the shares of calibrated predictions are, by the normal approximation of the binomial."""
    level = np.linspace(0, 1, 101)
    error = Z95 * np.sqrt(level * (1 - level) / rows)
    label = f"95 % of shares of {rows:,} rows, if calibrated"
    axes.fill_between(level, level - error, level + error, color=GRID, linewidth=0, zorder=0, label=label)


def _draw_diagonal(axes: Axes) -> None:
    axes.plot((0, 1), (0, 1), color=MUTED, linewidth=1, linestyle="--", label="calibrated")
