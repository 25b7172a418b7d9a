"""How training went: loss, score and nodes kept over the epochs."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TypedDict, cast

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from bnn_pyro.posterior.tempering import tempering
from bnn_pyro.reports.figures import COLORS, MUTED, SHADES, new_figure, set_title, style_axes

_PHASES = {"open": (SHADES[0], "gates held open"), "frozen": (SHADES[1], "gates frozen")}


class Record(TypedDict, total=False):
    """What is drawn of an epoch's record, besides its scores; some of it only where there are gates, or a sampler."""

    epoch: int
    loss: float
    nodes_kept: Mapping[str, int]
    gates: str
    kl_weight: float
    temperature: float


def plot_training(history: Sequence[Mapping[str, object]], totals: Mapping[str, int] | None = None) -> Figure:
    """Draw the loss and the score over the epochs, and beside them the nodes kept in each group.

    The epochs in which the gates were held open or frozen are shaded. A tempered posterior is called so in the title.

    Args:
        history: One record per epoch, as `posterior.history` holds them.
        totals: Number of nodes of each group before pruning, to tell beside those kept; None leaves it out.

    Returns:
        The figure, without the panel of nodes if there are no groups.

    Raises:
        ValueError: If history is empty.
    """
    if not history:
        raise ValueError("history must hold at least one epoch, got none: give the history of a fitted posterior.")
    score = next((key for key in history[0] if key.endswith(("accuracy", "rmse"))), None)
    records = cast(Sequence[Record], history)
    groups = list(records[0].get("nodes_kept", {}))
    rows = 1 if score is None else 2
    figure = new_figure(10.5 if groups else 6.5, 2.5 * rows + 0.9)
    grid = figure.add_gridspec(rows, 2 if groups else 1)
    _draw_loss(figure.add_subplot(grid[0, 0]), records)
    if score is not None:
        _draw_score(figure.add_subplot(grid[1, 0]), records, score)
    if groups:
        _draw_nodes(figure.add_subplot(grid[:, 1]), records, groups, totals or {})
    for axes in figure.axes:
        _finish_epochs(axes, records, shade=bool(groups))
    _add_legend(figure, records, shade=bool(groups))
    set_title(figure, f"Training{_tempering(records)}")
    return figure


def _draw_loss(axes: Axes, history: Sequence[Record]) -> None:
    loss = [record["loss"] for record in history]
    _line(axes, _epochs(history), loss, COLORS[0])
    if min(loss) > 0 and max(loss) > 10 * min(loss):
        axes.set_yscale("log")
    warmup = _warmup(history)
    if warmup is not None:
        _dotted(axes.axvline(warmup))
    what = "negative log-likelihood" if "temperature" in history[0] else "negative ELBO"
    axes.set_title(f"Loss: {what}", loc="left", fontsize="medium")
    axes.set_ylabel("nats per datum")


def _dotted(line: Line2D) -> Line2D:
    """Give a line the look of the end of the KL warm-up."""
    line.set(color=MUTED, linestyle=":", linewidth=1.5)
    return line


def _draw_score(axes: Axes, history: Sequence[Record], key: str) -> None:
    where, _, name = key.rpartition("_")
    scored = [record for record in history if key in record]  # of long runs not every epoch is
    _line(axes, _epochs(scored), [cast(Mapping[str, float], record)[key] for record in scored], COLORS[1])
    rows = {"train": "training rows", "validation": "validation rows"}.get(where, where)
    if name == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_title(f"{'Accuracy' if name == 'accuracy' else 'RMSE'} on {rows}", loc="left", fontsize="medium")
    axes.set_ylabel("rows classified correctly" if name == "accuracy" else "units of the scaled target")


def _draw_nodes(axes: Axes, history: Sequence[Record], groups: Sequence[str], totals: Mapping[str, int]) -> None:
    """Draw the number of nodes kept in each group, named at the end of its line."""
    counts = {name: [record["nodes_kept"][name] for record in history] for name in groups}
    top = 1.05 * max(1, *(max(values) for values in counts.values()))
    axes.set_ylim(0, top)
    places = _spread([values[-1] / top for values in counts.values()], gap=0.045)
    for number, (name, values) in enumerate(counts.items()):
        color = COLORS[number % len(COLORS)]
        _line(axes, _epochs(history), values, color, linestyle="-" if number < len(COLORS) else "--")
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


def _epochs(history: Sequence[Record]) -> list[int]:
    return [record["epoch"] for record in history]


def _line(axes: Axes, x: Sequence[float], y: Sequence[float], color: str, linestyle: str = "-") -> None:
    axes.plot(x, y, color=color, linestyle=linestyle, linewidth=1.8, marker="o" if len(x) < 15 else "", markersize=4)


def _finish_epochs(axes: Axes, history: Sequence[Record], *, shade: bool) -> None:
    """Label the axis of epochs and shade the phases; a record stands at the end of its epoch."""
    first, last = history[0]["epoch"], history[-1]["epoch"]
    axes.set_xlim(first - 1, last + 0.01 * (last - first + 1))
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    for phase, start, end in _phases(history) if shade else ():
        axes.axvspan(start, end, color=_PHASES[phase][0], zorder=0, linewidth=0)
    style_axes(axes)


def _phases(history: Sequence[Record]) -> Iterable[tuple[str, int, int]]:
    """Yield (phase, begin, end) for each run of epochs in which the gates were held open or frozen."""
    for phase, records in groupby(history, key=lambda record: record.get("gates", "free")):
        epochs = _epochs(list(records))
        if phase in _PHASES:
            yield str(phase), epochs[0] - 1, epochs[-1]


def _add_legend(figure: Figure, history: Sequence[Record], *, shade: bool) -> None:
    """Say below the panels what the shades and the dotted line are."""
    shown = {phase for phase, _, _ in _phases(history)} if shade else set()
    weights = [record.get("kl_weight", 1.0) for record in history if record.get("gates") != "frozen"]
    weight = history[-1].get("kl_weight", 1.0)
    notes = {"frozen": f", KL weight {weight:g}" if weights and weights[-1] != weight else ""}
    handles: list[Artist] = [
        Patch(color=color, label=label + notes.get(phase, ""))
        for phase, (color, label) in _PHASES.items()
        if phase in shown
    ]
    if _warmup(history) is not None:
        handles.insert(0, _dotted(Line2D([], [], label="KL warm-up ends")))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize="small")


def _warmup(history: Sequence[Record]) -> float | None:
    """Return the epoch at whose end the KL weight has stopped rising; None if it does not rise at the start."""
    weights = [record.get("kl_weight", 1.0) for record in history]
    rises = [after > before for before, after in zip(weights, weights[1:], strict=False)]
    last = rises.index(False) if False in rises else len(rises)
    return float(history[last]["epoch"]) if last else None


def _tempering(history: Sequence[Record]) -> str:
    """Return what the title says of a posterior that is tempered."""
    words = tempering(history[-1].get("kl_weight", 1.0))
    return f" of a {words}" if words else ""
