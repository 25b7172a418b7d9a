"""Plot of the training: the numbers that are drawn, and the words beside them."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from bnn_pyro.reports.plots import plot_training
from tests.reports.plots.reading import along_x, along_y, history, texts


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


def test_training_draws_the_scores_that_there_are() -> None:
    """Of a long run not every epoch has one."""
    records = history()
    some = [record if i % 3 == 0 else _without_scores(record) for i, record in enumerate(records)]
    loss, score, _ = plot_training(some).axes
    assert along_x(loss.lines[0]) == [record["epoch"] for record in records]
    assert along_x(score.lines[0]) == [record["epoch"] for record in records[::3]]
    assert along_y(score.lines[0]) == [record["train_accuracy"] for record in records[::3]]


def _without_scores(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if not key.startswith("train_")}
