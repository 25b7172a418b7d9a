"""Plots: the numbers that are drawn, the words beside them, and that nothing overlaps."""

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from bnn_pyro.evaluation.metrics import classification_metrics, coverage_curve, regression_metrics, reliability_curve
from bnn_pyro.evaluation.plots import (
    Curve,
    plot_calibration,
    plot_first_layer,
    plot_inclusion,
    plot_nodes_kept,
    plot_training,
)


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


def filled(axes: Axes) -> FillBetweenPolyCollection:
    return next(shape for shape in axes.collections if isinstance(shape, FillBetweenPolyCollection))


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


# training


def test_training_draws_loss_score_and_nodes_of_the_history() -> None:
    records = history()
    loss, score, nodes = plot_training(records).axes
    assert along_y(loss.lines[0]) == [record["loss"] for record in records]
    assert along_y(score.lines[0]) == [record["train_accuracy"] for record in records]
    assert [along_y(line) for line in nodes.lines] == [
        [record["nodes_kept"][name] for record in records] for name in ("hidden0", "hidden1")
    ]
    assert [text.get_text() for text in nodes.texts] == ["hidden0: 20", "hidden1: 19"]
    nodes = plot_training(records, {"hidden0": 50, "hidden1": 60}).axes[2]
    assert [text.get_text() for text in nodes.texts] == ["hidden0: 20 of 50", "hidden1: 19 of 60"]


def test_training_shades_the_epochs_of_held_and_frozen_gates() -> None:
    figure = plot_training(history())
    for axes in figure.axes:
        spans = [(span.get_x(), span.get_x() + span.get_width()) for span in axes.patches]  # type: ignore[attr-defined]
        assert spans == [(0, 2), (7, 10)]
    assert "gates held open" in texts(figure) and "gates frozen" in texts(figure)


def test_training_without_gates_has_no_panel_of_nodes_and_no_shades() -> None:
    figure = plot_training(history(groups=0))
    assert len(figure.axes) == 2
    assert not any(axes.patches for axes in figure.axes)
    assert "gates" not in texts(figure)


def test_training_says_that_a_posterior_is_tempered() -> None:
    assert "tempered (cold) posterior, KL weight 0.05" in texts(plot_training(history(kl_weight=0.05)))
    assert "tempered" not in texts(plot_training(history()))


def test_training_marks_the_end_of_the_warm_up() -> None:
    assert along_x(plot_training(history()).axes[0].lines[1]) == [2, 2]
    constant = [{**record, "kl_weight": 1.0} for record in history()]
    assert len(plot_training(constant).axes[0].lines) == 1


def test_training_tells_the_kl_weight_of_the_posterior_that_is_left() -> None:
    records = [{**record, "kl_weight": 0.3 if record["gates"] == "frozen" else 2.0} for record in history()]
    shown = texts(plot_training(records))
    assert "tempered (cold) posterior, KL weight 0.3" in shown
    assert "gates frozen, KL weight 0.3" in shown
    assert "warm-up" not in shown
    assert "frozen, KL weight" not in texts(plot_training(history()))


def test_training_has_a_logarithmic_loss_where_it_falls_far() -> None:
    steep = [{**record, "loss": 10.0 ** (3 - record["epoch"])} for record in history()]
    assert plot_training(steep).axes[0].get_yscale() == "log"
    assert plot_training(history()).axes[0].get_yscale() == "linear"
    negative = [{**record, "loss": 5 - record["epoch"]} for record in history()]
    assert plot_training(negative).axes[0].get_yscale() == "linear"


def test_names_of_lines_that_end_together_do_not_overlap() -> None:
    records = [{**record, "nodes_kept": dict.fromkeys("abcdef", 10)} for record in history()]
    figure = plot_training(records)
    assert isinstance(figure.canvas, FigureCanvasAgg)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[2].texts]
    assert len(boxes) == 6
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_training_needs_an_epoch() -> None:
    with pytest.raises(ValueError, match="history must hold at least one epoch"):
        plot_training([])


# inclusion


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


# nodes kept


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


# calibration


def test_reliability_shows_the_curve_and_the_ece_of_the_metrics() -> None:
    p, y = probabilities()
    curve = reliability_curve(p, y)
    figure = plot_calibration({"net": curve})
    assert f"net (ECE {classification_metrics(p, y)['ece']:.3f})" in texts(figure)
    line = figure.axes[0].lines[1]
    enough = curve.counts >= 5
    np.testing.assert_allclose(along_x(line), curve.confidence[enough])
    np.testing.assert_allclose(along_y(line), curve.accuracy[enough])


def test_reliability_intervals_cover_a_calibrated_classifier() -> None:
    """Each of about 60 intervals misses at 5 %: 3 expected, more than 10 with a probability of 4e-4."""
    missed = shown = 0
    for _ in range(6):
        logits = 1.5 * torch.randn(2000, 4)
        y = torch.distributions.Categorical(logits=logits).sample()
        axes = plot_calibration(reliability_curve(logits.softmax(1), y)).axes[0]
        for (x, low), (_, high) in axes.collections[0].get_segments():  # type: ignore[attr-defined]
            shown += 1
            missed += not low <= x <= high
    assert shown > 50
    assert missed <= 10


def test_coverage_shows_the_curve_and_the_ece_of_the_metrics() -> None:
    mean, sd, y = torch.zeros(3, 80), 0.5 * torch.ones(3, 80), torch.randn(80)
    figure = plot_calibration({"32 draws": coverage_curve(mean, sd, y)})
    assert f"32 draws (ECE {regression_metrics(mean, sd, y)['ece']:.3f})" in texts(figure)
    assert len(figure.axes) == 1


def test_calibration_needs_curves_of_one_kind() -> None:
    p, y = probabilities()
    coverage = coverage_curve(torch.zeros(1, 9), torch.ones(1, 9), torch.randn(9))
    wrong: list[dict[str, Curve]] = [{}, {"a": reliability_curve(p, y), "b": coverage}]
    for curves in wrong:
        with pytest.raises(ValueError, match="of one kind"):
            plot_calibration(curves)


# first layer


def test_tiles_show_kept_nodes_strongest_first_and_removed_inputs_in_grey() -> None:
    weight = torch.zeros(3, 16)
    weight[0], weight[2] = 1.0, -2.0
    keep_inputs = torch.arange(16) >= 4  # the first row of pixels is removed
    figure = plot_first_layer(weight, (4, 4), keep_inputs, torch.tensor([True, False, True]))
    assert "Inputs: 12 of 16 kept (removed: grey)" in texts(figure)
    assert "Nodes: 2 of 3 kept" in texts(figure)
    strength, mosaic = (image(axes) for axes in figure.axes[:2])
    assert bool(strength.mask[0].all()) and not strength.mask[1:].any()
    np.testing.assert_allclose(strength[1:], math.sqrt(5))
    assert mosaic.shape == (4, 9, 4)  # two pictures of 4 x 4 and a gap
    first, second = mosaic[1:, :4], mosaic[1:, 5:]
    assert (first[..., 2] > first[..., 0]).all()  # -2: blue
    assert (second[..., 0] > second[..., 2]).all()  # 1: red
    grey = mosaic[0, :4, :3]
    assert np.ptp(grey) == 0 and 0.5 < grey[0, 0] < 1


def test_tiles_are_the_64_strongest() -> None:
    figure = plot_first_layer(torch.randn(80, 16), (1, 4, 4))
    assert "80 of 80 kept; the 64 strongest" in texts(figure)


def test_tables_have_a_heat_map() -> None:
    weight = torch.tensor([[1.0, 0.0, -3.0], [4.0, 0.0, 5.0]])
    keep_inputs = torch.tensor([True, False, True])
    axes = plot_first_layer(weight, (3,), keep_inputs).axes[0]
    sizes = image(axes)
    np.testing.assert_allclose(sizes[[0, 2]], [[4, 1], [5, 3]])  # the second node is the stronger one
    assert bool(sizes.mask[1].all())
    assert axes.get_title(loc="left") == "2 of 3 inputs (removed: grey), 2 of 2 nodes kept"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (4,)}, r"weight must have shape \(nodes, 4\)"),
        ({"input_shape": (3,), "keep_inputs": torch.zeros(3, dtype=torch.bool)}, "keep_inputs must have shape"),
        ({"input_shape": (3,), "keep_nodes": torch.ones(5, dtype=torch.bool)}, "keep_nodes must have shape"),
    ],
)
def test_first_layer_rejects_what_does_not_fit(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_first_layer(torch.randn(2, 3), **arguments)
