"""The picture of a sparsity path: its scores, nodes and the chosen point."""

from typing import Any

import numpy as np
import pytest

from bnn_pyro.reports.plots import plot_path


def record(kl_weight: float, nodes: tuple[int, int], weights: int, nll: float, error: float) -> dict[str, Any]:
    """A point of a path whose best candidate has an NLL of 3.1."""
    return {
        "kl_weight": kl_weight,
        "weights": weights,
        "nodes": dict(zip(("hidden1", "hidden2"), nodes, strict=True)),
        "refined": False,
        "nll": nll,
        "nll_error": 0.06,
        "loss": nll - 3.1,
        "loss_error": error,
        "chosen": kl_weight == 0.3,
    }


RECORDS = [
    record(0.03, (44, 30), 1441, 3.134, 0.015),
    record(0.1, (30, 22), 901, 3.12, 0.0138),
    record(0.3, (22, 20), 700, 3.1, 0.0),
    record(1.0, (18, 6), 181, 3.2, 0.044),
]


def test_scores_and_nodes_stand_at_their_weights() -> None:
    figure = plot_path(RECORDS, {"hidden1": 50, "hidden2": 60})
    scores, nodes = figure.axes
    assert scores.get_xscale() == nodes.get_xscale() == "log"
    weights = [point["kl_weight"] for point in RECORDS]
    lines = {str(line.get_label()): line for line in nodes.get_lines()}
    assert np.asarray(lines["hidden1, of 50"].get_ydata()).tolist() == [44, 30, 22, 18]
    assert np.asarray(lines["hidden2, of 60"].get_xdata()).tolist() == weights
    bars: Any = scores.containers[0]
    curve, _, (segments,) = bars.lines
    assert np.asarray(curve.get_ydata()).tolist() == [point["nll"] for point in RECORDS]
    heights = [(high - low) / 2 for (_, low), (_, high) in segments.get_segments()]
    assert heights == pytest.approx([0.015, 0.0138, 0.0, 0.044])
    chosen = next(line for line in scores.get_lines() if line.get_label() == "chosen")
    assert (np.asarray(chosen.get_xdata()).tolist(), np.asarray(chosen.get_ydata()).tolist()) == ([0.3], [3.1])
    assert [tick.get_text() for tick in nodes.get_xticklabels()] == ["0.03", "0.1", "0.3", "1"]


def test_a_tempered_choice_is_called_so() -> None:
    assert "chosen: tempered (cold) posterior, KL weight 0.3" in plot_path(RECORDS).get_suptitle()
    refined = [{**point, "refined": True} for point in RECORDS]
    assert "chosen: nodes of a tempered (cold) posterior" in plot_path(refined).get_suptitle()
    assert "refined networks" in plot_path(refined).axes[0].get_title(loc="left")
    whole = [{**point, "chosen": point["kl_weight"] == 1} for point in RECORDS]
    assert "empered" not in plot_path(whole).get_suptitle()


def test_a_path_of_one_point_without_an_error() -> None:
    figure = plot_path([{**RECORDS[2], "nll_error": None, "loss_error": None}])
    assert len(figure.axes) == 2
    figure.canvas.draw()


def test_many_weights_share_the_axis() -> None:
    close = [record(0.3 * 1.02**step, (20, 10), 10, 3.1, 0.0) for step in range(40)]
    labels = [tick.get_text() for tick in plot_path(close).axes[1].get_xticklabels()]
    assert 5 < len(labels) < 20


def test_refuses() -> None:
    with pytest.raises(ValueError, match="records must hold at least one point, got none"):
        plot_path([])
