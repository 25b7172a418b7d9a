"""Plots of inclusion probabilities and of nodes kept."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection
from torch import Tensor

from bnn_pyro.reports.plots import plot_inclusion, plot_nodes_kept
from tests.reports.plots.reading import along_y


def filled(axes: Axes) -> FillBetweenPolyCollection:
    return next(shape for shape in axes.collections if isinstance(shape, FillBetweenPolyCollection))


def test_inclusion_is_sorted_and_split_at_one_half() -> None:
    figure = plot_inclusion({"hidden1": torch.tensor([0.1, 0.9, 0.5, 0.7])})
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "hidden1: 2 of 4 kept"
    assert along_y(axes.lines[0]) == [0.5, 0.5]
    outline = np.asarray(filled(axes).get_paths()[0].vertices)
    assert sorted(set(outline[:, 1])) == pytest.approx([0, 0.5, 0.7, 0.9])


def test_inclusion_has_no_empty_panels() -> None:
    figure = plot_inclusion({f"hidden{number}": torch.rand(5) for number in range(6)})
    assert len(figure.axes) == 6
    grid = figure.axes[0].get_gridspec()
    assert grid is not None and grid.get_geometry() == (2, 3)


@pytest.mark.parametrize("values", [torch.tensor([]), torch.tensor([1.2]), torch.tensor([math.nan])])
def test_inclusion_rejects_what_is_no_probability(values: Tensor) -> None:
    with pytest.raises(ValueError, match=r"inclusion\['hidden1'\] must hold at least one probability"):
        plot_inclusion({"hidden1": values})
    with pytest.raises(ValueError, match="inclusion must hold at least one group"):
        plot_inclusion({})


# ---- nodes kept ------------------------------------------------------------------------------------------------------


def test_nodes_kept_has_a_bar_and_the_numbers_of_each_group_from_the_top() -> None:
    figure = plot_nodes_kept({"conv1": [16, 64], "conv2": [0, 128], "head": [5, 5]})
    (axes,) = figure.axes
    bars: list[Any] = list(axes.patches)
    assert [bar.get_width() for bar in bars] == [1, 1, 1, 0.25, 0, 1]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["conv1", "conv2", "head"]
    assert [text.get_text() for text in axes.texts] == ["16 of 64", "0 of 128", "5 of 5"]
    bottom, top = axes.get_ylim()
    assert bottom > 2 and top < 0
    assert figure.get_suptitle() == "Nodes kept in each group: 21 of 197 (10.7%)"


def test_many_groups_stand_in_columns_of_one_height() -> None:
    figure = plot_nodes_kept({f"layer{n}": (n, 100) for n in range(85)})
    assert [len(axes.get_yticks()) for axes in figure.axes] == [29, 29, 27]
    assert len({axes.get_ylim() for axes in figure.axes}) == 1


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({}, "kept must hold at least one group of nodes"),
        ({"a": (3, 2)}, r"kept\['a'\] must be nodes kept and all nodes, at least one, got 3 and 2"),
        ({"a": (0, 0)}, "got 0 and 0"),
        ({"a": (-1, 2)}, "got -1 and 2"),
    ],
)
def test_nodes_kept_refuses_what_cannot_be(kept: dict[str, tuple[int, int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_nodes_kept(kept)
