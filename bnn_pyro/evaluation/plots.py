"""Pictures of a run: how training went, which nodes stay, how well calibrated it is, what the first layer looks at.

Each function returns a `matplotlib.figure.Figure` of its own, made without pyplot and so without a display or a global
state; `figure.savefig(path)` writes it. The colours are those of Okabe and Ito (2008), Color universal design, and maps
that colour-blind readers can tell apart too.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from torch import Tensor

from bnn_pyro.evaluation.figures import (
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
from bnn_pyro.evaluation.metrics import Z95, CoverageCurve, ReliabilityCurve

Curve = ReliabilityCurve | CoverageCurve

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_REMOVED = "#DCDCDC"
_PHASES = {"open": ("#DCEBF7", "gates held open"), "frozen": ("#E9E9E9", "gates frozen")}
_WARMUP: dict[str, Any] = {"color": MUTED, "linestyle": ":", "linewidth": 1.5}
_MAX_TILES = 64
_MAX_BARS = 40
_MIN_ROWS = 5  # the accuracy of fewer rows says nothing


def plot_training(history: Sequence[Mapping[str, Any]], totals: Mapping[str, int] | None = None) -> Figure:
    """Draw the loss and the score over the epochs, and beside them the nodes kept in each group.

    The epochs in which the gates were held open or frozen are shaded. A tempered posterior is called so in the title.

    Args:
        history: One record an epoch, as `posterior.history` holds them.
        totals: Number of nodes of each group before pruning, to tell beside those kept; None leaves it out.

    Returns:
        The figure, without the panel of nodes if there are no groups.

    Raises:
        ValueError: If history is empty.
    """
    if not history:
        raise ValueError("history must hold at least one epoch, got none: give the history of a fitted posterior.")
    score = next((key for key in history[0] if key.endswith(("accuracy", "rmse"))), None)
    groups = list(history[0].get("nodes_kept", {}))
    rows = 1 if score is None else 2
    figure = new_figure(10.5 if groups else 6.5, 2.5 * rows + 0.9)
    grid = figure.add_gridspec(rows, 2 if groups else 1)
    _draw_loss(figure.add_subplot(grid[0, 0]), history)
    if score is not None:
        _draw_score(figure.add_subplot(grid[1, 0]), history, score)
    if groups:
        _draw_nodes(figure.add_subplot(grid[:, 1]), history, groups, totals or {})
    for axes in figure.axes:
        _finish_epochs(axes, history, shade=bool(groups))
    _add_legend(figure, history, shade=bool(groups))
    set_title(figure, f"Training{_tempering(history)}")
    return figure


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
    set_title(figure, "Inclusion probabilities: a node stays where γ > ½")
    return figure


def plot_calibration(curves: Curve | Mapping[str, Curve]) -> Figure:
    """Draw how far predicted probabilities can be trusted: a reliability diagram, or the coverage of quantiles.

    A classifier's accuracy stands against its confidence, with the share of the rows in each bin below. A regression's
    observed share of targets below each predicted quantile stands against the quantile's level.

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


def plot_first_layer(
    weight: Tensor,
    input_shape: Sequence[int],
    keep_inputs: Tensor | None = None,
    keep_nodes: Tensor | None = None,
) -> Figure:
    """Draw the weights of the first layer: as pictures for images, otherwise as a map of their sizes.

    For images (`input_shape` of two dimensions, or of three with one channel) the left panel shows how strongly each
    pixel is read, the right one the incoming weights of the kept nodes, strongest first. Inputs that are not kept are
    grey. For anything else the map has a row an input and a column a kept node.

    Args:
        weight: Weights of the layer, `(nodes, inputs)`.
        input_shape: Shape of one input, whose product is the number of inputs.
        keep_inputs: Bool mask of the inputs that are kept, `(inputs,)`; None keeps all.
        keep_nodes: Bool mask of the nodes that are kept, `(nodes,)`; None keeps all.

    Returns:
        The figure.

    Raises:
        ValueError: If a shape does not fit the weights, or no node or input is kept.
    """
    inputs, nodes = _checked_masks(weight, input_shape, keep_inputs, keep_nodes)
    kept = numpy_values(weight)[nodes]
    order = np.argsort(-np.linalg.norm(kept[:, inputs], axis=1), kind="stable")
    is_image = len(input_shape) == 2 or (len(input_shape) == 3 and input_shape[0] == 1)
    if is_image:
        height, width = input_shape[-2:]
        return _plot_tiles(kept[order].reshape(-1, height, width), inputs.reshape(height, width), len(nodes))
    return _plot_heat_map(kept[order].T, inputs, len(nodes))


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


# ---- training --------------------------------------------------------------------------------------------------------


def _draw_loss(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    loss = [record["loss"] for record in history]
    _line(axes, _epochs(history), loss, _COLORS[0])
    if min(loss) > 0 and max(loss) > 10 * min(loss):
        axes.set_yscale("log")
    warmup = _warmup(history)
    if warmup is not None:
        axes.axvline(warmup, **_WARMUP)
    what = "negative log-likelihood" if "temperature" in history[0] else "negative ELBO"
    axes.set_title(f"Loss: {what}", loc="left", fontsize="medium")
    axes.set_ylabel("nats per datum")


def _draw_score(axes: Axes, history: Sequence[Mapping[str, Any]], key: str) -> None:
    where, _, name = key.rpartition("_")
    values = [record.get(key, math.nan) for record in history]
    _line(axes, _epochs(history), values, _COLORS[1])
    rows = {"train": "training rows", "validation": "validation rows"}.get(where, where)
    if name == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_title(f"{'Accuracy' if name == 'accuracy' else 'RMSE'} on {rows}", loc="left", fontsize="medium")
    axes.set_ylabel("rows classified right" if name == "accuracy" else "units of the scaled target")


def _draw_nodes(
    axes: Axes, history: Sequence[Mapping[str, Any]], groups: Sequence[str], totals: Mapping[str, int]
) -> None:
    """Draw the number of nodes kept in each group, named at the end of its line."""
    counts = {name: [record["nodes_kept"][name] for record in history] for name in groups}
    top = 1.05 * max(1, *(max(values) for values in counts.values()))
    axes.set_ylim(0, top)
    places = _spread([values[-1] / top for values in counts.values()], gap=0.045)
    for number, (name, values) in enumerate(counts.items()):
        color = _COLORS[number % len(_COLORS)]
        _line(axes, _epochs(history), values, color, linestyle="-" if number < len(_COLORS) else "--")
        label = f"{name}: {values[-1]} of {totals[name]}" if name in totals else f"{name}: {values[-1]}"
        axes.text(1.02, places[number], label, color=color, transform=axes.transAxes, va="center", fontsize="small")
    axes.set_title("Nodes kept" if "temperature" in history[0] else "Nodes kept (γ > ½)", loc="left", fontsize="medium")
    axes.set_ylabel("nodes")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def _spread(places: Sequence[float], gap: float) -> list[float]:
    """Push places in [0, 1] apart, in their order, until none is nearer than a gap to the next."""
    order = sorted(range(len(places)), key=lambda number: places[number])
    moved = np.array([places[number] for number in order])
    for _ in range(200):
        lacking = np.maximum(gap - np.diff(moved), 0) / 2
        moved[:-1] -= lacking
        moved[1:] += lacking
        moved = np.clip(moved, 0, 1)
    return [float(moved[order.index(number)]) for number in range(len(places))]


def _epochs(history: Sequence[Mapping[str, Any]]) -> list[int]:
    return [record["epoch"] for record in history]


def _line(axes: Axes, x: Sequence[float], y: Sequence[float], color: str, linestyle: str = "-") -> None:
    axes.plot(x, y, color=color, linestyle=linestyle, linewidth=1.8, marker="o" if len(x) < 15 else "", markersize=4)


def _finish_epochs(axes: Axes, history: Sequence[Mapping[str, Any]], *, shade: bool) -> None:
    """Label the axis of epochs and shade the phases; a record stands at the end of its epoch."""
    first, last = history[0]["epoch"], history[-1]["epoch"]
    axes.set_xlim(first - 1, last + 0.01 * (last - first + 1))
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    for phase, start, end in _phases(history) if shade else ():
        axes.axvspan(start, end, color=_PHASES[phase][0], zorder=0, linewidth=0)
    style_axes(axes)


def _phases(history: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, int, int]]:
    """Yield (phase, begin, end) for each run of epochs in which the gates were held open or frozen."""
    for phase, records in groupby(history, key=lambda record: record.get("gates", "free")):
        epochs = _epochs(list(records))
        if phase in _PHASES:
            yield str(phase), epochs[0] - 1, epochs[-1]


def _add_legend(figure: Figure, history: Sequence[Mapping[str, Any]], *, shade: bool) -> None:
    """Say below the panels what the shades and the dotted line are."""
    shown = {phase for phase, _, _ in _phases(history)} if shade else set()
    weights = [record.get("kl_weight", 1.0) for record in history if record.get("gates") != "frozen"]
    weight = history[-1].get("kl_weight", 1.0)
    notes = {"frozen": f", KL weight {weight:g}" if weights and weights[-1] != weight else ""}
    handles: list[Any] = [
        Patch(color=color, label=label + notes.get(phase, ""))
        for phase, (color, label) in _PHASES.items()
        if phase in shown
    ]
    if _warmup(history) is not None:
        handles.insert(0, Line2D([], [], label="KL warm-up ends", **_WARMUP))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize="small")


def _warmup(history: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the epoch at whose end the KL weight has stopped rising; None if it does not rise at the start."""
    weights = [record.get("kl_weight", 1.0) for record in history]
    rises = [after > before for before, after in zip(weights, weights[1:], strict=False)]
    last = rises.index(False) if False in rises else len(rises)
    return float(history[last]["epoch"]) if last else None


def _tempering(history: Sequence[Mapping[str, Any]]) -> str:
    """Return what the title says of a posterior that is tempered."""
    weight = history[-1].get("kl_weight", 1.0)
    return f" of a tempered (cold) posterior, KL weight {weight:g}" if weight < 1 else ""


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
    axes.fill_between(edges[: kept + 1], heights[: kept + 1], step="post", color=_COLORS[0], alpha=0.85, linewidth=0)
    axes.fill_between(edges[kept:], heights[kept:], step="post", color=_COLORS[1], alpha=0.85, linewidth=0)
    axes.axhline(0.5, color=INK, linewidth=1, linestyle="--")
    axes.set(xlim=(0, len(gamma)), ylim=(0, 1.02), xlabel="nodes, most probable first")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]))
    axes.set_title(f"{name}: {kept} of {len(gamma)} kept", loc="left", fontsize="medium")
    style_axes(axes)


# ---- nodes kept ------------------------------------------------------------------------------------------------------


def _draw_kept(axes: Axes, groups: Sequence[tuple[str, Sequence[int]]], rows: int) -> None:
    """Draw a bar a group, the first on top, in a panel with room for so many of them."""
    places = range(len(groups))
    axes.barh(places, [1.0] * len(groups), color=_REMOVED, height=0.72)
    axes.barh(places, [left / total for _, (left, total) in groups], color=_COLORS[0], height=0.72)
    for place, (_, (left, total)) in zip(places, groups, strict=True):
        axes.text(1.02, place, f"{left} of {total}", va="center", fontsize="small", color=INK)
    axes.set_yticks(places, [name for name, _ in groups])
    axes.set(xlim=(0, 1.28), ylim=(rows - 0.4, -0.6), xlabel="part of the nodes kept")
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    style_axes(axes)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="y", length=0)


# ---- calibration -----------------------------------------------------------------------------------------------------


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
    counts, color = numpy_values(curve.counts), _COLORS[number % len(_COLORS)]
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
    counts, color = numpy_values(curve.counts), _COLORS[number % len(_COLORS)]
    share, edges = counts / counts.sum(), np.linspace(0, 1, len(counts) + 1)
    if number == 0:
        axes.stairs(share, edges, color=color, fill=True, alpha=0.3)
    axes.stairs(share, edges, color=color, linewidth=1.6)


def _plot_coverage(curves: Mapping[str, CoverageCurve]) -> Figure:
    figure = new_figure(5.6, 5.4)
    axes = figure.add_subplot()
    _draw_diagonal(axes)
    for number, (name, curve) in enumerate(curves.items()):
        nominal, observed = numpy_values(curve.nominal), numpy_values(curve.observed)
        label = f"{name} (ECE {np.abs(nominal - observed).mean():.3f})"
        color, marker = _COLORS[number % len(_COLORS)], MARKERS[number % len(MARKERS)]
        axes.plot(nominal, observed, color=color, marker=marker, markersize=4.5, linewidth=1.5, label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="level of the predicted quantile", ylabel="share of targets below it")
    axes.set_title("Calibration on test rows", loc="left", fontweight="bold")
    style_axes(axes)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    return figure


def _draw_diagonal(axes: Axes) -> None:
    axes.plot((0, 1), (0, 1), color=MUTED, linewidth=1, linestyle="--", label="calibrated")


# ---- the first layer -------------------------------------------------------------------------------------------------


def _checked_masks(
    weight: Tensor, input_shape: Sequence[int], keep_inputs: Tensor | None, keep_nodes: Tensor | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which inputs and nodes are kept, or raise."""
    if weight.ndim != 2 or weight.shape[1] != math.prod(input_shape):
        raise ValueError(
            f"weight must have shape (nodes, {math.prod(input_shape)}) for inputs of shape {tuple(input_shape)}, "
            f"got {tuple(weight.shape)}."
        )
    masks = []
    for name, mask, size in (
        ("keep_inputs", keep_inputs, weight.shape[1]),
        ("keep_nodes", keep_nodes, weight.shape[0]),
    ):
        kept = np.ones(size, dtype=bool) if mask is None else mask.detach().cpu().numpy().astype(bool)
        if kept.shape != (size,) or not kept.any():
            raise ValueError(
                f"{name} must have shape ({size},) and keep at least one, got {kept.sum()} of {kept.shape}."
            )
        masks.append(kept)
    return masks[0], masks[1]


def _plot_tiles(tiles: Values, inputs: NDArray[np.bool_], total: int) -> Figure:
    """Draw how strongly each pixel is read, and the incoming weights of each node as a picture."""
    figure = new_figure(10.5, 4.8)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.12))
    strength = np.where(inputs, np.linalg.norm(tiles, axis=0), np.nan)
    sequential = colormaps["viridis"].with_extremes(bad=_REMOVED)
    image = left.imshow(strength, cmap=sequential, vmin=0, interpolation="nearest")
    _colorbar(figure, left, image, "norm of a pixel's outgoing weights")
    left.set_title(f"Inputs: {inputs.sum()} of {inputs.size} kept{_grey(inputs)}", loc="left", fontsize="medium")
    shown, norm = tiles[:_MAX_TILES], Normalize(-_limit(tiles), _limit(tiles))
    colors = colormaps["RdBu_r"]
    right.imshow(_mosaic(shown, inputs, lambda values: colors(norm(values))), interpolation="nearest")
    _colorbar(figure, right, ScalarMappable(norm, colors), "incoming weight", extend="both")
    which = "" if len(shown) == len(tiles) else f"; the {len(shown)} strongest"
    right.set_title(f"Nodes: {len(tiles)} of {total} kept{which}", loc="left", fontsize="medium")
    for axes in (left, right):
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    set_title(figure, "What the first layer looks at")
    return figure


def _mosaic(tiles: Values, inputs: NDArray[np.bool_], color: Any) -> Values:
    """Lay pictures out on a white square, coloured, with removed inputs in grey; shape `(height, width, 4)`."""
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    height, width = tiles.shape[1:]
    gap = max(1, round(width / 14))
    canvas = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 4))
    grey = np.array([int(_REMOVED[i : i + 2], 16) / 255 for i in (1, 3, 5)] + [1.0])
    for number, tile in enumerate(tiles):
        y, x = number // columns * (height + gap), number % columns * (width + gap)
        canvas[y : y + height, x : x + width] = np.where(inputs[..., None], color(tile), grey)
    return canvas


def _plot_heat_map(weights: Values, inputs: NDArray[np.bool_], total: int) -> Figure:
    """Draw the sizes of weights `(inputs, nodes)`."""
    rows, columns = weights.shape
    figure = new_figure(min(10.0, 4.2 + 0.14 * columns), min(9.0, 2.4 + 0.24 * rows))
    axes = figure.add_subplot()
    sizes = np.where(inputs[:, None], np.abs(weights), np.nan)
    colors = colormaps["viridis"].with_extremes(bad=_REMOVED)
    image = axes.imshow(sizes, cmap=colors, vmin=0, vmax=_limit(weights), aspect="auto", interpolation="nearest")
    image.set_extent((0.5, columns + 0.5, rows + 0.5, 0.5))
    _colorbar(figure, axes, image, "size of the weight", extend="max")
    axes.set(xlabel="kept nodes, strongest first", ylabel="input")
    axes.spines[:].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=25, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.set_title(
        f"{inputs.sum()} of {rows} inputs{_grey(inputs)}, {columns} of {total} nodes kept",
        loc="left",
        fontsize="medium",
    )
    set_title(figure, "What the first layer looks at")
    return figure


def _grey(inputs: NDArray[np.bool_]) -> str:
    return "" if inputs.all() else " (removed: grey)"


def _limit(weights: Values) -> float:
    """Return the size that the colours go up to: nearly the largest, so that single weights do not pale the rest."""
    return max(float(np.quantile(np.abs(weights[weights != 0]), 0.995)) if weights.any() else 0.0, 1e-12)


def _colorbar(figure: Figure, axes: Axes, image: ScalarMappable, label: str, extend: str = "neither") -> None:
    bar = figure.colorbar(image, ax=axes, label=label, extend=extend, shrink=0.85, aspect=28)
    bar.outline.set_visible(False)
