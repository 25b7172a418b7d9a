"""Plots of the first layer: pictures of kept nodes, and the map of a table."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from bnn_pyro.reports.plots import plot_first_layer
from tests.reports.plots.reading import image, texts


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
