"""Partial dependence of what a posterior predicts on one input."""

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from torch import Tensor, nn

from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.sampled import SampledPosterior
from bnn_pyro.priors import Gaussian
from bnn_pyro.reports.plots.partial_dependence import partial_dependence, plot_partial_dependence
from tests.posterior.test_sampled import CHAINS, DRAWS, draws_of
from tests.reports.finished import classification, regression
from tests.reports.plots.reading import along_x, along_y, texts
from tests.reports.plots.test_bands import SLOPES, linear, rows

DOUBLE = torch.float64


class _Product(nn.Module):
    """w * x1 * x2, whose partial dependence on the one is w times the mean of the other."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(1, 1, bias=False).double()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.scale(x[:, :1] * x[:, 1:2])
        return out


def product() -> SampledPosterior:
    x = torch.zeros(2, 2, dtype=DOUBLE)
    model = SparseNetwork(_Product(), x, prior=Gaussian(), likelihood=GaussianNoise(5.0), num_data=9)
    weight = torch.linspace(1, 3, CHAINS * DRAWS, dtype=DOUBLE).reshape(CHAINS, DRAWS, 1, 1)
    return SampledPosterior(model, draws_of({"scale.weight": weight}))


def test_others_are_averaged_over_and_not_held() -> None:
    """In original units, with bands of the mean function: noise of 5 does not widen them."""
    x = torch.rand(80, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(2)) ** 4  # mean is not median
    (found,) = partial_dependence(product(), x, [0], level=0.8, num_samples=None, y_mean=100.0, y_std=10.0)
    other = x[:, 1].mean()
    weights = torch.linspace(1, 3, CHAINS * DRAWS, dtype=DOUBLE)
    assert found.points.shape == (21,) and found.number == 0
    torch.testing.assert_close(found.mean[0], 100 + 10 * 2 * other * found.points)
    for edge, q in ((found.low, 0.1), (found.high, 0.9)):
        torch.testing.assert_close(edge[0], 100 + 10 * weights.quantile(q) * other * found.points)
    assert found.spread == pytest.approx(float(20 * other * found.points.std(correction=0)))


def test_of_many_rows_some_are_averaged() -> None:
    x = torch.stack([torch.linspace(0, end, 1000, dtype=DOUBLE) for end in (1, 2)], 1)
    (found,) = partial_dependence(product(), x, [0], num_samples=None)
    torch.testing.assert_close(found.mean[0], 2 * found.points, rtol=0, atol=1e-9)  # evenly spaced: the mean is 1
    assert float(found.points[0]) == pytest.approx(0.01, abs=1e-6) and len(found.points) == 21


def test_few_values_are_the_points() -> None:
    x = rows(50).double()
    x[:, 1] = (x[:, 1] > 0.5).double()
    x[:, 3] = 0.0
    x[0, 3] = 1.0
    flag, rare = partial_dependence(linear(), x, [1, 3])
    assert flag.points.tolist() == rare.points.tolist() == [0.0, 1.0]
    assert float(flag.mean[0, 1] - flag.mean[0, 0]) == pytest.approx(SLOPES[1], abs=0.05)
    figure = plot_partial_dependence(linear(), x)
    (panel,) = (axes for axes in figure.axes if axes.get_xlabel() == "input 2")
    assert along_x(panel.lines[0]) == [0.0, 1.0]


def test_panels_are_kept_inputs_in_the_order_of_their_spread() -> None:
    """Input 3, the steepest, is closed."""
    figure = plot_partial_dependence(linear(), rows(), input_names=("a", "b", "c", "d" * 40))
    names = [axes.get_xlabel() for axes in figure.axes]
    assert names == ["b", "d" * 29 + "…", "a"]
    limits = {axes.get_ylim() for axes in figure.axes}
    assert len(limits) == 1
    assert "90 % of the draws' curves, without noise" in texts(figure)
    ticks = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    assert len(ticks[0].get_paths()) == 60


def test_inputs_have_their_original_units() -> None:
    mean, std = torch.tensor([0.0, 50.0, 0.0, 0.0]), torch.tensor([1.0, 4.0, 1.0, 1.0])
    plain = plot_partial_dependence(linear(), rows())
    found = plot_partial_dependence(linear(), rows(), x_mean=mean, x_std=std, target_name="price")
    np.testing.assert_allclose(along_x(found.axes[0].lines[0]), 50 + 4 * np.array(along_x(plain.axes[0].lines[0])))
    np.testing.assert_allclose(along_y(found.axes[0].lines[0]), along_y(plain.axes[0].lines[0]))
    assert "price" in texts(found)


def test_classes_show_those_that_change_most() -> None:
    torch.manual_seed(0)
    figure = plot_partial_dependence(classification(select_inputs=True).posterior, rows())
    assert len(figure.axes) == 3 and "probability" in texts(figure) and "class 2" in texts(figure)
    binary = plot_partial_dependence(linear(outputs=2), rows())
    assert "class 1" in texts(binary) and "class 0" not in texts(binary)
    five = plot_partial_dependence(linear(outputs=5), rows())
    assert len([name for name in texts(five).splitlines() if name.startswith("class ")]) == 3


def test_at_most_twelve_panels_those_of_the_most_influence() -> None:
    x = torch.rand(30, 20, dtype=DOUBLE)
    net = nn.Sequential(nn.Linear(20, 1)).double()
    model = SparseNetwork(net, x, prior=Gaussian(), likelihood=GaussianNoise(1.0), num_data=30)
    weight = torch.arange(20, dtype=DOUBLE).expand(CHAINS, DRAWS, 1, 20).clone()
    values = {"0.weight": weight, "0.bias": torch.zeros(CHAINS, DRAWS, 1, dtype=DOUBLE)}
    figure = plot_partial_dependence(SampledPosterior(model, draws_of(values)), x)
    assert {axes.get_xlabel() for axes in figure.axes} == {f"input {number}" for number in range(9, 21)}


def test_draws_made_afresh_are_shared_by_the_inputs() -> None:
    torch.manual_seed(1)
    posterior = regression().posterior
    x = rows()
    torch.manual_seed(5)
    first = partial_dependence(posterior, x, [0, 2], num_samples=20)
    torch.manual_seed(5)
    again = partial_dependence(posterior, x, [2], num_samples=20)
    torch.testing.assert_close(first[1].mean, again[0].mean)


def test_bad_calls_are_refused() -> None:
    posterior, x = linear(), rows()
    with pytest.raises(ValueError, match="level must be between 0 and 1, got 1"):
        partial_dependence(posterior, x, [0], level=1)
    for numbers in ([], [4], [-1]):
        with pytest.raises(ValueError, match="numbers must be those of some of 4 inputs, from 0"):
            partial_dependence(posterior, x, numbers)
    with pytest.raises(ValueError, match=r"x must have shape \(rows, 4\)"):
        partial_dependence(posterior, x[:, :3], [0])
    with pytest.raises(ValueError, match="input_names must hold one value per input, 4, got 1"):
        plot_partial_dependence(posterior, x, input_names=("a",))
    with pytest.raises(ValueError, match="x_std must hold one value per input, 4, got 2"):
        plot_partial_dependence(posterior, x, x_std=torch.ones(2))
    with pytest.raises(ValueError, match="posterior must keep an input"):
        plot_partial_dependence(linear(closed=(0, 1, 2, 3)), x)
