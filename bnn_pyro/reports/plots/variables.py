"""Which inputs a network reads: how strongly it reads each of them, and a picture of it."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from bnn_pyro.posterior.base import Posterior
from bnn_pyro.reports.figures import COLORS, INK, new_figure
from bnn_pyro.reports.plots.training import Record

_TRUE, _FALSE = COLORS[:2]
_MAX_LABELS = 30


def reading_strength(posterior: Posterior, group: str = "inputs") -> Tensor:
    """Returns the mean absolute value of the weights that read each node, in the median model.

    Args:
        posterior: A posterior.
        group: Name of a group of nodes.

    Returns:
        Strengths, shape ``(size,)``; 0 for nodes that were removed.

    Raises:
        ValueError: If there is no such group.
    """
    groups = posterior.model.groups
    if group not in groups:
        raise ValueError(f"group must be one of {', '.join(groups) or '(none)'}, got {group!r}")
    parameters = dict(posterior.median_model().named_parameters())
    size = groups[group].size
    total, count = torch.zeros(
        2, size + 1, dtype=next(iter(parameters.values())).dtype, device="cpu"
    )  # the last: no node
    for axis in groups[group].readers:
        rows = parameters[axis.parameter].abs().movedim(axis.dim, 0).flatten(1).cpu()
        numbers = torch.where(axis.index < 0, size, axis.index).cpu()
        total.index_add_(0, numbers, rows.sum(1))
        count.index_add_(0, numbers, count.new_full((len(rows),), float(rows.shape[1])))
    mean: Tensor = total[:-1] / count[:-1].clamp(min=1)
    return mean


def plot_variables(
    strength: Tensor,
    relevant: Tensor | None = None,
    history: Sequence[Mapping[str, object]] = (),
    group: str = "inputs",
) -> Figure:
    """Draw how strongly each input is read, and how many were left after each epoch.

    Args:
        strength: Strength of each input, `(inputs,)`, as `reading_strength` gives it; 0 for one that was removed.
        relevant: Which inputs matter in truth, bool, `(inputs,)`, if that is known: the others are drawn in another
            colour, and those that were missed are marked.
        history: One record per epoch, as `posterior.history` holds them; without any the second panel is left out.
        group: Name of the inputs' group in the history.

    Returns:
        The figure.

    Raises:
        ValueError: If the shapes differ or the history does not know the group.
    """
    if strength.dim() != 1 or (relevant is not None and relevant.shape != strength.shape):
        other = None if relevant is None else tuple(relevant.shape)
        raise ValueError(
            f"strength and relevant must have shape (inputs,) both, got {tuple(strength.shape)} and {other}"
        )
    records = cast(Sequence[Record], history)
    if records and group not in records[-1]["nodes_kept"]:
        raise ValueError(f"group must be one that history counts, got {group!r}")
    figure = new_figure(10.5 if history else 6.5, 3.4)
    panels = figure.subplots(1, 2 if history else 1, squeeze=False, width_ratios=(2, 1) if history else None)[0]
    _draw_strength(panels[0], strength.detach().cpu(), relevant)
    if history:
        _draw_counts(panels[1], records, group)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_strength(axes: Axes, strength: Tensor, relevant: Tensor | None) -> None:
    kept = strength > 0
    truth = kept if relevant is None else relevant.cpu()
    kinds = {"kept": (kept & truth, _TRUE), "kept, but does not matter": (kept & ~truth, _FALSE)}
    for label, (mask, color) in kinds.items():
        numbers = mask.nonzero().flatten()
        if len(numbers):
            axes.vlines(numbers + 1, 0, strength[numbers], color=color, linewidth=2)
            axes.plot(numbers + 1, strength[numbers], "o", color=color, markersize=5, label=label)
    missed = (truth & ~kept).nonzero().flatten()
    if len(missed):
        axes.plot(missed + 1, torch.zeros(len(missed), device="cpu"), "x", color=_FALSE, label="missed")
    if relevant is not None:
        axes.legend(frameon=False, fontsize="small")
    if int(kept.sum()) <= _MAX_LABELS:
        _name(axes, strength, kept)
    axes.set(xlim=(-0.02 * len(strength), 1.02 * len(strength) + 1), xlabel="number of the input")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("mean absolute weight")
    axes.set_title(f"{int(kept.sum())} of {len(strength)} inputs are read", loc="left", fontsize="medium")


def _name(axes: Axes, strength: Tensor, kept: Tensor) -> None:
    """Write the numbers of the kept inputs, in one line, as neighbours would overlap."""
    numbers = ", ".join(str(int(number) + 1) for number in kept.nonzero().flatten())
    axes.text(0.99, 0.6, f"inputs {numbers}", transform=axes.transAxes, ha="right", color=INK, fontsize="small")


def _draw_counts(axes: Axes, history: Sequence[Record], group: str) -> None:
    epochs = [record["epoch"] for record in history]
    counts = [record["nodes_kept"][group] for record in history]
    axes.step(epochs, counts, where="post", color=COLORS[0], linewidth=1.8)
    axes.set(xscale="log", yscale="log", xlabel="epoch", title="")
    axes.set_title("inputs left", loc="left", fontsize="medium")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4)) if max(counts) < 10 else None
    axes.annotate(str(counts[-1]), (epochs[-1], counts[-1]), xytext=(0, 5), textcoords="offset points", ha="right")
