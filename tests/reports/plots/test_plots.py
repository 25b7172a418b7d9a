"""All pictures: panels are named, nothing overlaps, and no global state is left."""

from collections.abc import Callable
from itertools import combinations

import matplotlib
import pytest
import torch
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bnn_pyro.evaluation.metrics import coverage_curve, reliability_curve
from bnn_pyro.reports.measures import Run
from bnn_pyro.reports.plots import (
    plot_bands,
    plot_calibration,
    plot_first_layer,
    plot_inclusion,
    plot_nodes_kept,
    plot_training,
)
from tests.reports.finished import classification, regression
from tests.reports.plots.reading import history, probabilities


def draw_inclusion() -> Figure:
    return plot_inclusion({"inputs": torch.rand(64), "hidden1": torch.rand(400), "a.long.name": torch.ones(3)})


def draw_reliability() -> Figure:
    p, y = probabilities()
    return plot_calibration(
        {"dense net": reliability_curve(p, y), "32 draws": reliability_curve(p.sqrt() / p.sqrt().sum(1, True), y)}
    )


def draw_coverage() -> Figure:
    y = torch.randn(50)
    return plot_calibration(coverage_curve(torch.zeros(1, 50), torch.ones(1, 50), y))


def draw_tiles() -> Figure:
    return plot_first_layer(torch.randn(70, 64), (1, 8, 8), torch.rand(64) < 0.7)


def draw_heat_map() -> Figure:
    return plot_first_layer(torch.randn(20, 13), (13,), torch.rand(13) < 0.7, torch.rand(20) < 0.5)


def draw_bands(run: Run, *, panels: int) -> Figure:
    posteriors = {f"a long name {number}": run.posterior for number in range(panels)}
    return plot_bands(posteriors, run.test[0], 2, num_samples=9, y_mean=3.0, y_std=run.y_std, target_name="resistance")


FIGURES: dict[str, Callable[[], Figure]] = {
    "training": lambda: plot_training(history()),
    "training, tempered": lambda: plot_training(history(kl_weight=0.05)),
    "training without gates": lambda: plot_training(history(groups=0)),
    "training of one epoch": lambda: plot_training(history(1)),
    "inclusion": draw_inclusion,
    "nodes kept": lambda: plot_nodes_kept({"inputs": (3, 64), "hidden1": (0, 400), "a.long.name": (7, 7)}),
    "nodes kept in many groups": lambda: plot_nodes_kept({f"blocks.{n}.conv1": (n, 100) for n in range(85)}),
    "reliability": draw_reliability,
    "coverage": draw_coverage,
    "tiles": draw_tiles,
    "one tile": lambda: plot_first_layer(torch.randn(1, 64), (8, 8)),
    "heat map": draw_heat_map,
    "bands": lambda: draw_bands(regression(), panels=3),
    "bands of one posterior": lambda: draw_bands(regression(), panels=1),
    "bands of classes": lambda: draw_bands(classification(), panels=4),
}


@pytest.mark.parametrize("name", FIGURES)
def test_panels_are_named_and_do_not_overlap_or_leave_the_figure(name: str) -> None:
    figure = FIGURES[name]()
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    boxes = [box for axes in figure.axes if (box := axes.get_tightbbox(canvas.get_renderer())) is not None]
    assert len(boxes) == len(figure.axes) > 0
    width, height = figure.get_size_inches() * figure.dpi
    for box in boxes:
        assert box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1
    for one, other in combinations(boxes, 2):
        x = min(one.x1, other.x1) - max(one.x0, other.x0)
        y = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert x <= 1 or y <= 1
    for axes in figure.axes:
        assert axes.has_data()
        assert axes.get_title(loc="left") or axes.get_xlabel() or axes.get_ylabel()


def test_figures_leave_no_global_state() -> None:
    before = dict(matplotlib.rcParams)
    for draw in FIGURES.values():
        draw()
    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == before
