"""A sparsity path: the score on held-out rows and the nodes kept in each group, from dense to sparse."""

import math
from collections.abc import Mapping, Sequence
from typing import TypedDict, cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from bnn_pyro.posterior.tempering import tempering
from bnn_pyro.reports.figures import COLORS, MARKERS, MUTED, SHADES, new_figure, set_title, style_axes


class Record(TypedDict):
    """What is drawn of a point of a path."""

    kl_weight: float
    nodes: Mapping[str, int]
    refined: bool
    nll: float
    nll_error: float | None
    loss: float
    loss_error: float | None
    chosen: bool


def plot_path(records: Sequence[Mapping[str, object]], totals: Mapping[str, int] | None = None) -> Figure:
    """Draw the score and the nodes kept in each group against the KL weight, which stands on a logarithmic axis.

    The bar of a point is the standard error of its difference from the best candidate; the best one has none. The band
    is one standard error of the best candidate's own score: the chosen network is the smallest one in the band whose
    bar reaches the best.

    Args:
        records: The points, by their KL weights, as `bnn_pyro.sparsity_path.SparsityPath.records` gives them.
        totals: Number of nodes of each group before pruning, to tell beside those kept; None leaves it out.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no point.
    """
    if not records:
        raise ValueError("records must hold at least one point, got none: give those of a SparsityPath.")
    points = cast(Sequence[Record], records)
    figure = new_figure(8.6, 5.6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    _draw_scores(upper, points)
    _draw_nodes(lower, points, totals or {})
    chosen = next(point for point in points if point["chosen"])
    for axes in (upper, lower):
        axes.axvline(chosen["kl_weight"], color=MUTED, linestyle=":", linewidth=1.5, zorder=0)
        style_axes(axes)
    _finish_weights(lower, points)
    set_title(figure, _title(chosen))
    return figure


def _title(chosen: Record) -> str:
    words = tempering(chosen["kl_weight"])
    if not words:
        return f"Sparsity path; KL weight {chosen['kl_weight']:g} chosen"
    return f"Sparsity path; chosen: {'nodes of a ' if chosen['refined'] else ''}{words}"


def _draw_scores(axes: Axes, points: Sequence[Record]) -> None:
    weights = [point["kl_weight"] for point in points]
    scores = [point["nll"] for point in points]
    errors = [point["loss_error"] or 0.0 for point in points]
    best = min(point["nll"] - point["loss"] for point in points)  # of a candidate that may not be on the path
    own = points[0]["nll_error"]
    if own is not None:
        axes.axhspan(best, best + own, color=SHADES[0], zorder=0, linewidth=0, label="one s.e. of the best")
    axes.axhline(best, color=MUTED, linewidth=1.0, zorder=1, label="best")
    axes.errorbar(
        weights,
        scores,
        yerr=errors,
        color=COLORS[0],
        marker=MARKERS[0],
        linewidth=1.8,
        elinewidth=1.4,
        capsize=4,
        label="network, ± s.e. of its difference",
    )
    chosen = next(point for point in points if point["chosen"])
    axes.plot(
        [chosen["kl_weight"]],
        [chosen["nll"]],
        linestyle="",
        marker="o",
        markersize=14,
        markerfacecolor="none",
        markeredgecolor=COLORS[1],
        markeredgewidth=2,
        label="chosen",
    )
    how = "refined networks" if any(point["refined"] for point in points) else "draws of the guide"
    axes.set_title(f"Score on held-out rows, {how}", loc="left", fontsize="medium")
    axes.set_ylabel("NLL, nats per row")
    axes.margins(y=0.15)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda number: labels[number] != "chosen")
    axes.legend(
        [handles[number] for number in order],
        [labels[number] for number in order],
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        frameon=False,
        fontsize="small",
    )


def _draw_nodes(axes: Axes, points: Sequence[Record], totals: Mapping[str, int]) -> None:
    weights = [point["kl_weight"] for point in points]
    for number, name in enumerate(points[0]["nodes"]):
        label = f"{name}, of {totals[name]}" if name in totals else name
        axes.plot(
            weights,
            [point["nodes"][name] for point in points],
            color=COLORS[number % len(COLORS)],
            marker=MARKERS[number % len(MARKERS)],
            linewidth=1.8,
            markersize=5,
            label=label,
        )
    axes.set_title("Nodes kept (γ > ½)", loc="left", fontsize="medium")
    axes.set_ylabel("nodes")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize="small")


def _finish_weights(axes: Axes, points: Sequence[Record]) -> None:
    """Put a tick at each KL weight that stands apart from those before, on a logarithmic axis."""
    weights = [point["kl_weight"] for point in points]
    axes.set_xscale("log")
    span = math.log(weights[-1] / weights[0]) or 1.0
    ticks: list[float] = []
    for weight in weights:
        if not ticks or math.log(weight / ticks[-1]) > 0.06 * span:
            ticks.append(weight)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("KL weight, dense to sparse")
