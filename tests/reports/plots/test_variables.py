"""How strongly inputs are read, and the picture of it."""

import pytest
import torch

from bnn_pyro.reports.plots.variables import plot_variables, reading_strength
from tests.posterior.test_ensemble import ensemble


def test_strength_is_the_mean_absolute_weight() -> None:
    posterior = ensemble()
    weights = posterior.median_model().get_parameter("hidden1.weight")
    expected = weights.abs().mean(0)
    torch.testing.assert_close(reading_strength(posterior), expected)
    assert reading_strength(posterior).nonzero().flatten().tolist() == [2, 5]
    assert reading_strength(posterior, "hidden2").shape == (3,)


def test_unknown_group() -> None:
    with pytest.raises(ValueError, match="group must be one of inputs, hidden1, hidden2, got 'hidden9'"):
        reading_strength(ensemble(), "hidden9")


def history() -> list[dict[str, object]]:
    return [{"epoch": epoch, "nodes_kept": {"inputs": max(3, 60 - 10 * epoch)}} for epoch in range(1, 9)]


def test_picture_tells_true_from_false_and_missed() -> None:
    strength, relevant = torch.zeros(60), torch.zeros(60, dtype=torch.bool)
    strength[[0, 1, 40]] = torch.tensor([0.3, 0.2, 0.1])
    relevant[:3] = True
    figure = plot_variables(strength, relevant, history())
    left, right = figure.axes
    labels = [text.get_text() for text in left.get_legend().get_texts()]  # type: ignore[union-attr]
    assert labels == ["kept", "kept, but does not matter", "missed"]
    assert left.get_title(loc="left") == "3 of 60 inputs are read"
    assert [text.get_text() for text in left.texts] == ["inputs 1, 2, 41"]
    drawn = {line.get_label(): list(map(float, line.get_xdata())) for line in left.lines}  # type: ignore[arg-type]
    assert drawn == {"kept": [1, 2], "kept, but does not matter": [41], "missed": [3]}
    assert right.texts[0].get_text() == "3"
    figure.canvas.draw()


def test_picture_without_truth_or_history() -> None:
    figure = plot_variables(torch.rand(50) + 0.1)
    (axes,) = figure.axes
    assert axes.get_legend() is None and not axes.texts, "fifty numbers are too many to name"
    figure.canvas.draw()


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"strength and relevant must have shape \(inputs,\) both"):
        plot_variables(torch.rand(5), torch.ones(4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"strength and relevant must have shape \(inputs,\) both"):
        plot_variables(torch.rand(5, 2))
    with pytest.raises(ValueError, match="group must be one that history counts, got 'pixels'"):
        plot_variables(torch.rand(5), history=history(), group="pixels")
