"""Pictures of a comparison: what is drawn is what was given."""

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection

from bnn_pyro.comparison.plots import plot_agreement, plot_inclusions, plot_predictions
from bnn_pyro.likelihoods import Classes, Normals
from tests.comparison.test_page import made_metrics


def test_predictions_of_a_regression_are_on_the_original_scale() -> None:
    """In the order of the targets, less the target: N(y + 1, 2²) of a standardised y, times 10."""
    targets = torch.tensor([0.3, -1.0, 2.0])
    mean = (targets + 1).expand(60, -1)
    figure = plot_predictions({"one": Normals(mean, torch.full_like(mean, 2.0))}, targets, y_mean=5.0, y_std=10.0)
    (axes,) = figure.axes
    assert np.allclose(axes.lines[0].get_ydata(), 10.0)
    (bars,) = axes.collections
    assert isinstance(bars, LineCollection)
    low, high = np.array(bars.get_segments())[0, :, 1]
    assert (high + low) / 2 == pytest.approx(10.0) and high - low == pytest.approx(2 * 1.96 * 20, rel=0.1)
    assert "units" in figure.get_suptitle()


def test_predictions_of_classes_are_in_the_order_of_the_first_method() -> None:
    labels = torch.tensor([0, 1, 1])
    p = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
    draws = p.expand(20, -1, -1)
    found = {"first": Classes(p, draws), "second": Classes(p.flip(1), draws.flip(2))}
    first, second = plot_predictions(found, labels).axes
    assert np.allclose(first.lines[0].get_ydata(), [0.4, 0.7, 0.9])
    assert np.allclose(second.lines[0].get_ydata(), [0.6, 0.3, 0.1])


def test_one_wild_interval_does_not_hide_the_others() -> None:
    mean, sd = torch.zeros(50, 100), torch.full((50, 100), 0.1)
    sd[:, 0] = 1000.0
    (axes,) = plot_predictions({"one": Normals(mean, sd)}, torch.zeros(100)).axes
    assert axes.get_ylim()[1] < 1


def test_inclusions_of_inputs_and_numbers_of_nodes() -> None:
    methods = made_metrics()["methods"]
    inputs, counts, hidden = plot_inclusions(methods).axes
    assert np.allclose(inputs.lines[0].get_ydata(), methods["NUTS"]["inclusion"]["inputs"])
    assert np.allclose(counts.lines[1].get_ydata(), methods["NUTS"]["at_least"]["inputs"])
    assert [line.get_linestyle() for line in hidden.lines] == ["-", "--"]  # exact, relaxed
    assert np.array_equal(hidden.lines[0].get_xdata(), [1, 2, 3, 4, 5])


@pytest.mark.parametrize("groups", [("hidden1",), ("inputs", "hidden1")])
def test_the_legend_of_inclusions_fits_on_the_figure(groups: tuple[str, ...]) -> None:
    row = made_metrics()["methods"]["NUTS"]
    row |= {key: {name: row[key][name] for name in groups} for key in ("inclusion", "at_least")}
    titles = ("AutoSpikeSlab", "AutoCentered", "AutoSpikeSlab, relaxed", "AutoNormal", "ChEES", "NUTS", "exact spikes")
    figure = plot_inclusions(dict.fromkeys(titles, row))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    extent = legend.get_window_extent()
    assert len(legend.get_texts()) == 7
    assert extent.x0 >= 0 and extent.x1 <= figure.bbox.x1


def test_agreement_writes_every_number() -> None:
    figure = plot_agreement(made_metrics()["distances"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.25"] * 4
    assert [text.get_text() for text in figure.axes[1].texts] == ["1.20"] * 4
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["AutoSpikeSlab", "NUTS"]


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one method"):
        plot_predictions({}, torch.zeros(1))
    with pytest.raises(ValueError, match="at least one with gates"):
        plot_inclusions({"NUTS": {"failed": "it broke"}})
    with pytest.raises(ValueError, match="at least one method"):
        plot_agreement({})
