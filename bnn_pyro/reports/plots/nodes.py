"""Which nodes stay: inclusion probabilities, and how much is left of each group."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from bnn_pyro.reports.figures import (
    COLORS,
    INK,
    REMOVED,
    Values,
    columns_of,
    new_figure,
    new_panels,
    numpy_values,
    set_title,
    style_axes,
)

_MAX_BARS = 40


def plot_inclusion(inclusion: Mapping[str, Tensor]) -> Figure:
    """Draw the inclusion probabilities of each group, from the largest down, with the line at 1/2 that decides.

    Args:
        inclusion: Group -> inclusion probability of each node, `(nodes,)`, as `posterior.inclusion()` returns them.

    Returns:
        The figure, one panel a group.

    Raises:
        ValueError: If there is no group, or a group has no node or values outside [0, 1].
    """
    if not inclusion:
        raise ValueError("inclusion must hold at least one group of nodes, got none: a prior without gates has none.")
    figure, panels = new_panels(len(inclusion), 3.4, 2.7)
    for number, (axes, (name, values)) in enumerate(zip(panels, inclusion.items(), strict=True)):
        _draw_inclusion(axes, name, _probabilities(name, values))
        if number % columns_of(len(inclusion)) == 0:
            axes.set_ylabel("inclusion probability γ")
    set_title(figure, "Inclusion probabilities: a node is kept where γ > ½")
    return figure


def plot_nodes_kept(kept: Mapping[str, Sequence[int]]) -> Figure:
    """Draw how much is left of each layer: a bar a group of nodes, in the order of the network, beside its numbers.

    Args:
        kept: Group -> number of nodes kept and number of all, as `bnn_pyro.evaluation.nodes_kept` counts them.

    Returns:
        The figure; of many groups it has several columns, to be read one after the other.

    Raises:
        ValueError: If there is no group, or a group has no node, or not between none and all of them kept.
    """
    if not kept:
        raise ValueError("kept must hold at least one group of nodes, got none: a prior without gates has none.")
    for name, (left, total) in kept.items():
        if not 0 <= left <= total or total < 1:
            raise ValueError(f"kept[{name!r}] must be nodes kept and all nodes, at least one, got {left} and {total}.")
    groups = list(kept.items())
    columns = math.ceil(len(groups) / _MAX_BARS)
    rows = math.ceil(len(groups) / columns)
    figure = new_figure(5.4 * columns + 0.4, 0.24 * rows + 1.3)
    for number, axes in enumerate(figure.subplots(1, columns, squeeze=False)[0]):
        _draw_kept(axes, groups[number * rows : (number + 1) * rows], rows)
    left, total = (sum(counts[i] for counts in kept.values()) for i in (0, 1))
    title = f"Nodes kept in each group: {left:,} of {total:,} ({left / total:.1%})"
    set_title(figure, title)
    return figure


# ---- inclusion -------------------------------------------------------------------------------------------------------


def _probabilities(name: str, values: Tensor) -> Values:
    """Return a group's probabilities from the largest down, or raise."""
    gamma = np.sort(numpy_values(values).reshape(-1))[::-1]
    if not gamma.size or not (gamma.min() >= 0 and gamma.max() <= 1):
        raise ValueError(f"inclusion[{name!r}] must hold at least one probability in [0, 1], got {values}.")
    return gamma


def _draw_inclusion(axes: Axes, name: str, gamma: Values) -> None:
    kept, edges = int((gamma > 0.5).sum()), np.arange(len(gamma) + 1)
    heights = np.append(gamma, gamma[-1])
    axes.fill_between(edges[: kept + 1], heights[: kept + 1], step="post", color=COLORS[0], alpha=0.85, linewidth=0)
    axes.fill_between(edges[kept:], heights[kept:], step="post", color=COLORS[1], alpha=0.85, linewidth=0)
    axes.axhline(0.5, color=INK, linewidth=1, linestyle="--")
    axes.set(xlim=(0, len(gamma)), ylim=(0, 1.02), xlabel="nodes, most probable first")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]))
    axes.set_title(f"{name}: {kept} of {len(gamma)} kept", loc="left", fontsize="medium")
    style_axes(axes)


# ---- nodes kept ------------------------------------------------------------------------------------------------------


def _draw_kept(axes: Axes, groups: Sequence[tuple[str, Sequence[int]]], rows: int) -> None:
    """Draw a bar a group, the first on top, in a panel with room for so many of them."""
    places = range(len(groups))
    axes.barh(places, [1.0] * len(groups), color=REMOVED, height=0.72)
    axes.barh(places, [left / total for _, (left, total) in groups], color=COLORS[0], height=0.72)
    for place, (_, (left, total)) in zip(places, groups, strict=True):
        axes.text(1.02, place, f"{left} of {total}", va="center", fontsize="small", color=INK)
    axes.set_yticks(places, [name for name, _ in groups])
    axes.set(xlim=(0, 1.28), ylim=(rows - 0.4, -0.6), xlabel="fraction of the nodes kept")
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    style_axes(axes)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="y", length=0)
