"""What there is to draw, and what a figure shows."""

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor


def history(epochs: int = 10, *, kl_weight: float = 1.0, groups: int = 2) -> list[dict[str, Any]]:
    def gates(epoch: int) -> str:
        return "open" if epoch <= 2 else "frozen" if epoch > epochs - 3 else "free"

    return [
        {
            "epoch": epoch,
            "loss": 2.0 + 1.0 / epoch,
            "kl_weight": kl_weight * min(1, epoch / 2),
            "gates": gates(epoch),
            "nodes_kept": {f"hidden{number}": 50 - 3 * epoch - number for number in range(groups)},
            "train_accuracy": 1 - 0.5 / epoch,
        }
        for epoch in range(1, epochs + 1)
    ]


def probabilities(rows: int = 400) -> tuple[Tensor, Tensor]:
    logits = 2 * torch.randn(rows, 5)
    return logits.softmax(1), torch.distributions.Categorical(logits=logits / 2).sample()


def texts(figure: Figure) -> str:
    """All words of a figure."""
    found = [figure.get_suptitle(), *(text.get_text() for legend in figure.legends for text in legend.get_texts())]
    for axes in figure.axes:
        found += [axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel(), *(t.get_text() for t in axes.texts)]
    return "\n".join(found)


def along_x(line: Line2D) -> list[float]:
    return [float(value) for value in np.asarray(line.get_xdata())]


def along_y(line: Line2D) -> list[float]:
    return [float(value) for value in np.asarray(line.get_ydata())]


def image(axes: Axes) -> Any:
    """The values of a panel's only image, masked where there are none."""
    (found,) = axes.images
    return found.get_array()
