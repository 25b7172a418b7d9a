"""Pictures of a comparison: what each method predicts, which nodes it keeps, and how far the methods agree.

Each function returns a `matplotlib.figure.Figure` of its own, made without pyplot; `figure.savefig(path)` writes it.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from bnn_pyro.comparison.page import MethodRow
from bnn_pyro.evaluation.agreement import mixture_points
from bnn_pyro.evaluation.spacing import evenly_spaced
from bnn_pyro.likelihoods import Classes, Normals
from bnn_pyro.reports.figures import (
    COLORS,
    INK,
    MARKERS,
    MUTED,
    Values,
    columns_of,
    new_figure,
    new_panels,
    numpy_values,
    set_title,
    style_axes,
)

_INTERVAL = (0.025, 0.975)
_LEGEND = 9.0  # inches that three columns of a legend of methods need


def plot_predictions(
    predicted: Mapping[str, Classes | Normals], targets: Tensor, *, y_mean: float = 0.0, y_std: float = 1.0
) -> Figure:
    """Draw what each method predicts for the same rows, side by side.

    A regression's rows are in the order of their targets, with the predictive mean and its 95 % interval, noise
    included, less the target, so that intervals of different widths can be told apart. A classification's rows are in
    the order of the first method's probability of the label, with that of each method and the 95 % interval of its
    draws.

    Args:
        predicted: What each method's draws predict, by its title.
        targets: Targets of the rows, or their labels, `(rows,)`.
        y_mean: What was taken from the targets.
        y_std: What the targets were divided by.

    Returns:
        The figure, one panel a method, all on one scale.

    Raises:
        ValueError: If there is no method.
    """
    if not predicted:
        raise ValueError("predicted must hold at least one method, got none.")
    bands = {title: _band(found, targets, y_std) for title, found in predicted.items()}
    is_classification = isinstance(next(iter(predicted.values())), Classes)
    first = next(iter(bands.values()))[1]
    order = np.argsort(first if is_classification else numpy_values(targets), kind="stable")
    figure, panels = new_panels(len(bands), 3.0, 2.6)
    limits = None if is_classification else _limits(list(bands.values()))
    for number, (axes, (title, band)) in enumerate(zip(panels, bands.items(), strict=True)):
        _draw_band(axes, [part[order] for part in band], COLORS[number % len(COLORS)])
        axes.set_title(title, loc="left", fontsize="medium")
        axes.set_xlabel("test rows, " + ("hardest first" if is_classification else "smallest target first"))
        if limits is not None:
            axes.axhline(0, color=INK, linewidth=1)
            axes.set_ylim(limits)
        else:
            axes.set_ylim(-0.02, 1.02)
        if number % columns_of(len(bands)) == 0:
            axes.set_ylabel("probability of the label" if is_classification else "prediction less target")
    what = "Probability of the label, and 95 % of its draws" if is_classification else _regression_title(y_mean, y_std)
    set_title(figure, what)
    return figure


def plot_inclusions(methods: Mapping[str, Mapping[str, object]]) -> Figure:
    """Draw the inclusion probabilities of inputs, and of every group how many nodes are open, side by side.

    Hidden nodes can change places, so that their numbers mean nothing from one method to another; of those groups the
    probability that at least k nodes are open is drawn. Inputs have their names for good, and are drawn one by one too.

    Args:
        methods: Rows of `comparison.json` by title; those that failed are left out.

    Returns:
        The figure.

    Raises:
        ValueError: If no method has a group of nodes.
    """
    done = {title: cast(MethodRow, row) for title, row in methods.items() if row.get("inclusion")}
    if not done:
        raise ValueError("methods must hold at least one with gates, got none.")
    groups = list(next(iter(done.values()))["inclusion"])
    kinds = [("one by one", name) for name in groups if name == "inputs"] + [("number", name) for name in groups]
    figure, panels = new_panels(len(kinds), max(4.4, _LEGEND / len(kinds)), 3.2, most=3)
    for axes, (kind, group) in zip(panels, kinds, strict=True):
        if kind == "one by one":
            _draw_inputs(axes, {title: row["inclusion"][group] for title, row in done.items()})
        else:
            _draw_counts(axes, group, done)
    handles = [
        Line2D([], [], label=f"{title} ({done[title]['gates']} gates)", color=color, marker=marker, linestyle=style)
        for title, (color, marker, style) in _styles(done).items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    set_title(figure, "Which nodes are needed")
    return figure


def plot_agreement(distances: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """Draw the matrix of distances between all methods: total variation, and R-hat with methods as chains.

    On the diagonal stand the distances between a method's own halves, of which no distance can be expected to be less.

    Args:
        distances: Title -> title -> `total_variation` and `r_hat`.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no method.
    """
    if not distances:
        raise ValueError("distances must hold at least one method, got none.")
    size = len(distances)
    figure = new_figure(2 * (2.6 + 0.55 * size), 2.6 + 0.42 * size)
    left, right = figure.subplots(1, 2)
    _draw_matrix(left, distances, "total_variation", "Total variation of predictions", (0.0, 1.0), "{:.2f}")
    _draw_matrix(right, distances, "r_hat", "R-hat of the function, the worst row", (1.0, 2.0), "{:.2f}")
    right.set_yticklabels([])
    set_title(figure, "How far the methods agree (diagonal: a method's own halves)")
    return figure


# ---- predictions -----------------------------------------------------------------------------------------------------


def _band(found: Classes | Normals, targets: Tensor, y_std: float) -> tuple[Values, Values, Values]:
    """Return the lower end, the mean and the upper end, each `(rows,)`."""
    if isinstance(found, Normals):
        size = len(found.mean)
        chosen = evenly_spaced(size, 500)
        points = y_std * (mixture_points(found.mean[chosen], found.sd[chosen]) - targets)
        middle = y_std * (found.mean.mean(0) - targets)
    else:
        rows = torch.arange(len(targets), device=targets.device)
        points, middle = found.draws[:, rows, targets], found.probabilities[rows, targets]
    low, high = points.double().quantile(torch.tensor(_INTERVAL, dtype=torch.float64, device=points.device), 0)
    return numpy_values(low), numpy_values(middle), numpy_values(high)


def _limits(bands: list[tuple[Values, Values, Values]]) -> tuple[float, float]:
    """Return what most intervals fit into, so that a wild one does not make all others a line."""
    low = np.concatenate([band[0] for band in bands])
    high = np.concatenate([band[2] for band in bands])
    bottom, top = float(np.quantile(low, 0.02)), float(np.quantile(high, 0.98))
    room = 0.08 * (top - bottom)
    return bottom - room, top + room


def _draw_band(axes: Axes, band: list[Values], color: str) -> None:
    low, middle, high = band
    place = np.arange(1, len(middle) + 1)
    axes.vlines(place, low, high, color=color, linewidth=2.2, alpha=0.45)
    axes.plot(place, middle, "o", color=color, markersize=3)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    style_axes(axes)


def _regression_title(y_mean: float, y_std: float) -> str:
    scale = "" if (y_mean, y_std) == (0.0, 1.0) else ", in the target's units"
    return f"Predictive mean and 95 % interval less the target{scale}"


# ---- inclusion -------------------------------------------------------------------------------------------------------


def _styles(titles: Mapping[str, MethodRow]) -> dict[str, tuple[str, str, Literal["-", "--"]]]:
    return {
        title: (COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)], "--" if row["gates"] == "relaxed" else "-")
        for i, (title, row) in enumerate(titles.items())
    }


def _draw_inputs(axes: Axes, inclusion: Mapping[str, Sequence[float]]) -> None:
    size = len(next(iter(inclusion.values())))
    for number, values in enumerate(inclusion.values()):
        shift = 0.7 * ((number + 0.5) / len(inclusion) - 0.5)
        color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
        axes.plot(np.arange(1, size + 1) + shift, values, marker, color=color, markersize=5 if size < 20 else 2.5)
    axes.axhline(0.5, color=MUTED, linewidth=1, linestyle=":")
    axes.set(xlim=(0.4, size + 0.6), ylim=(-0.03, 1.03), xlabel="input", ylabel="inclusion probability")
    axes.set_title("inputs, one by one", loc="left", fontsize="medium")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    style_axes(axes)


def _draw_counts(axes: Axes, group: str, done: Mapping[str, MethodRow]) -> None:
    size = 0
    for title, (color, marker, style) in _styles(done).items():
        tail = done[title]["at_least"][group]
        size = len(tail)
        axes.plot(
            range(1, size + 1),
            tail,
            color=color,
            linestyle=style,
            linewidth=1.2,
            marker=marker,
            markersize=5 if size < 20 else 2.5,
        )
    axes.set(xlim=(0.4, size + 0.6), ylim=(-0.03, 1.03), xlabel="k", ylabel="probability of k open nodes or more")
    axes.set_title(f"{group}: number of open nodes", loc="left", fontsize="medium")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    style_axes(axes)


# ---- agreement -------------------------------------------------------------------------------------------------------


def _draw_matrix(
    axes: Axes,
    distances: Mapping[str, Mapping[str, Mapping[str, float]]],
    key: str,
    title: str,
    limits: tuple[float, float],
    form: str,
) -> None:
    titles = list(distances)
    values = np.array([[distances[a][b][key] for b in titles] for a in titles])
    axes.imshow(values, cmap="viridis_r", vmin=limits[0], vmax=limits[1])
    middle = sum(limits) / 2
    for row, column in np.ndindex(values.shape):
        color = "white" if values[row, column] > middle else INK
        axes.text(
            column, row, form.format(values[row, column]), ha="center", va="center", color=color, fontsize="small"
        )
    axes.set_xticks(range(len(titles)), titles, rotation=40, ha="right", fontsize="small")
    axes.set_yticks(range(len(titles)), titles, fontsize="small")
    axes.set_title(title, loc="left", fontsize="medium")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
