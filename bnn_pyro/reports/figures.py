"""What the pictures share: a figure without a display, its colours and markers, panels side by side.

The colours are those of Okabe and Ito (2008), *Color universal design*, which colour-blind readers can tell apart.
"""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from bnn_pyro.storage import whole_file

Values = NDArray[np.float64]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
REMOVED = "#DCDCDC"  # what pruning took away
SHADES = ("#DCEBF7", "#EFEFEF")  # behind what is drawn
GRID = "#E4E4E4"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, MUTED = "#222222", "#767676"
MAX_COLUMNS = 4


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, made without pyplot.

    Args:
        width: In inches.
        height: In inches.
    """
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def columns_of(panels: int, most: int = MAX_COLUMNS) -> int:
    """Return how many of the panels stand side by side, so that the rows are as full as can be.

    Args:
        panels: Number of panels.
        most: Largest number side by side.
    """
    return math.ceil(panels / math.ceil(panels / most))


def new_panels(panels: int, width: float, height: float, *, most: int = MAX_COLUMNS) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels, in rows.

    Args:
        panels: Number of panels.
        width: Of a panel, in inches.
        height: Of a panel, in inches.
        most: Largest number side by side.
    """
    across = columns_of(panels, most)
    down = math.ceil(panels / across)
    figure = new_figure(width * across + 0.4, height * down + 0.7)
    return figure, [figure.add_subplot(down, across, number) for number in range(1, panels + 1)]


def set_title(figure: Figure, title: str) -> None:
    """Give a figure its title.

    Args:
        figure: The figure.
        title: The title.
    """
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", color=INK)


def style_axes(axes: Axes) -> None:
    """Give a panel its frame and its grid.

    Args:
        axes: The panel.
    """
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(color=MUTED, labelcolor=INK, labelsize="small")
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def numpy_values(tensor: Tensor) -> Values:
    """Return a tensor's values in double precision, outside of torch.

    Args:
        tensor: The tensor, on any device.
    """
    values: Values = tensor.detach().double().cpu().numpy()
    return values


def write_figure(figure: Figure | None, path: str | Path) -> None:
    """Write a picture; one that is there and is no more is removed.

    Args:
        figure: The picture; None if there is none.
        path: The file.
    """
    if figure is None:
        Path(path).unlink(missing_ok=True)
        return
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=150)
