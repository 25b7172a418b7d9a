"""Figures are made without a display, their panels stand in rows as full as can be, values come as doubles."""

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg

from bnn_pyro.reports.figures import (
    INK,
    MAX_COLUMNS,
    columns_of,
    new_figure,
    new_panels,
    numpy_values,
    set_title,
    style_axes,
)


def test_a_figure_has_a_canvas_of_its_own_and_pyplot_knows_nothing_of_it() -> None:
    figure = new_figure(3.0, 2.0)
    assert isinstance(figure.canvas, FigureCanvasAgg)
    assert figure.get_size_inches().tolist() == [3.0, 2.0]
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize(("panels", "columns"), [(1, 1), (4, 4), (5, 3), (6, 3), (7, 4), (9, 3)])
def test_rows_are_as_full_as_can_be(panels: int, columns: int) -> None:
    assert columns_of(panels) == columns <= MAX_COLUMNS
    assert -(-panels // columns) == -(-panels // MAX_COLUMNS)


def test_panels_stand_in_rows() -> None:
    figure, panels = new_panels(5, 2.0, 1.0, most=3)
    figure.draw_without_rendering()
    tops = [round(axes.get_position().y1, 3) for axes in panels]
    assert len(panels) == 5
    assert len(set(tops[:3])) == len(set(tops[3:])) == 1
    assert tops[0] > tops[3]


def test_a_title_stands_on_the_left() -> None:
    figure = new_figure(3.0, 2.0)
    set_title(figure, "What is seen")
    assert figure.get_suptitle() == "What is seen"
    (title,) = figure.texts
    assert title.get_horizontalalignment() == "left"
    assert title.get_color() == INK


def test_a_styled_panel_has_no_frame_above_and_on_the_right() -> None:
    _, (axes,) = new_panels(1, 2.0, 2.0)
    style_axes(axes)
    assert {side: spine.get_visible() for side, spine in axes.spines.items()} == {
        "left": True,
        "bottom": True,
        "top": False,
        "right": False,
    }


def test_values_are_doubles_without_a_graph() -> None:
    values = numpy_values(torch.tensor([1.5, 2.5], requires_grad=True))
    assert values.dtype == np.float64
    assert values.tolist() == [1.5, 2.5]
