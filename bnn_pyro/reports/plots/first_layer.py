"""What the first layer looks at."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from bnn_pyro.reports.figures import REMOVED, Values, new_figure, numpy_values, set_title

_MAX_TILES = 64


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
    sequential = colormaps["viridis"].with_extremes(bad=REMOVED)
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


def _mosaic(tiles: Values, inputs: NDArray[np.bool_], color: Callable[[Values], Values]) -> Values:
    """Lay pictures out on a white square, coloured, with removed inputs in grey; shape `(height, width, 4)`."""
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    height, width = tiles.shape[1:]
    gap = max(1, round(width / 14))
    canvas = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 4))
    grey = np.array([int(REMOVED[i : i + 2], 16) / 255 for i in (1, 3, 5)] + [1.0])
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
    colors = colormaps["viridis"].with_extremes(bad=REMOVED)
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
