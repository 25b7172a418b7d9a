"""Bands of what posteriors predict along one input."""

from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from torch import Tensor, nn

from bnn_pyro.likelihoods import Bernoulli, Categorical, GaussianNoise, Mixture, Poisson
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.ensemble import Ensemble, Snapshot
from bnn_pyro.posterior.sampled import SampledPosterior
from bnn_pyro.priors import Gaussian, SpikeSlab
from bnn_pyro.pruning.cutting import kept_positions
from bnn_pyro.pruning.shrink import smaller_model
from bnn_pyro.reports.plots.bands import kept_inputs, most_influential_input, plot_bands
from tests.posterior.test_sampled import CHAINS, DRAWS, draws_of, sampled
from tests.reports.finished import classification, regression
from tests.reports.plots.reading import along_x, along_y, texts

DOUBLE = torch.float64
SLOPES = (0.0, -2.0, 5.0, 1.0)


def linear(
    spread: float = 0.1, noise: float = 0.5, *, outputs: int = 1, closed: tuple[int, ...] = (2,), likelihood: Any = None
) -> SampledPosterior:
    """Linear functions with these slopes, more or less, without the closed inputs; of classes the last one rises."""
    net = nn.Sequential(nn.Linear(4, outputs)).double()
    likelihood = likelihood or (GaussianNoise(noise) if outputs == 1 else Categorical())
    prior = SpikeSlab(Gaussian(), inclusion=0.5)
    x = torch.zeros(2, 4, dtype=DOUBLE)
    model = SparseNetwork(net, x, prior=prior, likelihood=likelihood, num_data=9, select_inputs=True)
    weight = torch.zeros(CHAINS, DRAWS, outputs, 4, dtype=DOUBLE)
    weight[:, :, -1] = torch.tensor(SLOPES) + spread * torch.linspace(-1, 1, CHAINS * DRAWS).reshape(CHAINS, DRAWS, 1)
    gates = torch.ones(CHAINS, DRAWS, 4, dtype=DOUBLE)
    gates[..., list(closed)] = 0
    bias = torch.zeros(CHAINS, DRAWS, outputs, dtype=DOUBLE)
    return SampledPosterior(model, draws_of({"0.weight": weight, "0.bias": bias, "inputs.gate": gates}))


def rows(size: int = 60) -> Tensor:
    return torch.rand(size, 4, generator=torch.Generator().manual_seed(1))


def bands_of(axes: Axes) -> list[tuple[list[float], list[float]]]:
    """The lower and the upper edge of each filled band."""
    found = []
    for band in axes.collections:
        if isinstance(band, PolyCollection):
            corners = np.asarray(band.get_paths()[0].vertices)
            edges = {float(at): corners[corners[:, 0] == at, 1] for at in np.unique(corners[:, 0])}
            found.append(([float(e.min()) for e in edges.values()], [float(e.max()) for e in edges.values()]))
    return found


# ---- which input -----------------------------------------------------------------------------------------------------


def test_the_input_whose_prediction_varies_most_among_the_kept() -> None:
    posterior, x = linear(), rows()
    assert kept_inputs(posterior).tolist() == [0, 1, 3]
    assert most_influential_input(posterior, x) == 1
    assert most_influential_input(posterior, x * torch.tensor([1, 0.1, 1, 1])) == 3  # whose own quantiles are wider now
    assert most_influential_input(linear(closed=()), x) == 2


def test_of_classes_the_probabilities_vary() -> None:
    assert most_influential_input(linear(outputs=3), rows()) == 1


def test_inputs_that_a_smaller_network_selects_have_their_own_numbers() -> None:
    whole = sampled(1, likelihood=GaussianNoise(0.3)).model
    keep = {
        "inputs": torch.tensor([False, True, False, True]),
        "hidden1": torch.ones(5) > 0,
        "hidden2": torch.ones(3) > 0,
    }
    small = smaller_model(whole, keep, kept_positions(whole.net, whole.nodes.groups, keep))
    values = {p.name: torch.ones(CHAINS, DRAWS, *p.shape, dtype=DOUBLE) for p in small.bayesian}
    values["hidden1.weight"][..., 0] = 0
    values |= {f"{n}.gate": torch.ones(CHAINS, DRAWS, g.size, dtype=DOUBLE) for n, g in small.groups.items()}
    posterior = SampledPosterior(small, draws_of(values))
    assert kept_inputs(posterior).tolist() == [1, 3]
    assert most_influential_input(posterior, rows()) == 3


def test_all_inputs_are_kept_where_none_has_a_gate() -> None:
    assert kept_inputs(regression().posterior).tolist() == [0, 1, 2, 3]


def test_there_may_be_no_input() -> None:
    posterior = linear(closed=(0, 1, 2, 3))
    assert kept_inputs(posterior).tolist() == []
    with pytest.raises(ValueError, match="posterior must keep an input"):
        most_influential_input(posterior, rows())


# ---- the picture -----------------------------------------------------------------------------------------------------


def test_bands_of_a_regression_are_in_the_targets_units() -> None:
    posterior, x = linear(spread=1.0, noise=0.5), rows()
    figure = plot_bands({"one": posterior}, x, 1, level=0.8, y_mean=10.0, y_std=3.0)
    (axes,) = figure.axes
    (line,) = axes.lines
    at = torch.tensor(along_x(line), dtype=DOUBLE)
    assert [float(at[0]), float(at[-1])] == pytest.approx([float(x[:, 1].min()), float(x[:, 1].max())])
    swept = x.double().median(0).values.repeat(len(at), 1)
    swept[:, 1] = at
    found = posterior.predict(swept, return_draws=True)
    assert along_y(line) == pytest.approx((10 + 3 * found.mean.mean(0)).tolist())  # type: ignore[union-attr]
    targets, means = bands_of(axes)
    draws = 10 + 3 * found.mean  # type: ignore[union-attr]
    assert means[0] == pytest.approx(draws.quantile(0.1, 0).tolist())
    assert means[1] == pytest.approx(draws.quantile(0.9, 0).tolist())
    simulated = (draws + 1.5 * torch.randn(40_000, *draws.shape, dtype=DOUBLE)).flatten(0, 1)[:, ::20].sort(0).values
    for edge, level in zip(targets, (0.1, 0.9), strict=True):
        np.testing.assert_allclose(edge[::20], simulated[round(level * len(simulated))], atol=0.03)
    assert axes.get_ylabel() == "target" and axes.get_xlabel() == "input 2, others at their medians"


def test_posteriors_stand_side_by_side_on_the_same_axes() -> None:
    figure = plot_bands({"narrow": linear(noise=0.1), "wide": linear(noise=2.0)}, rows(), 1, input_name="speed")
    one, other = figure.axes
    assert one.get_ylim() == other.get_ylim() and one.get_xlim() == other.get_xlim()
    widths = [float(axes.get_title(loc="left").split()[-1]) for axes in (one, other)]
    assert widths[1] > 10 * widths[0] and one.get_xlabel() == "speed"
    (_, upper), _ = bands_of(other)
    assert max(upper) < one.get_ylim()[1]
    dashed = [line for line in other.lines if line.get_linestyle() == "--"]
    (lower, upper), _ = bands_of(one)
    assert [along_y(line) for line in dashed] == [pytest.approx(lower), pytest.approx(upper)]
    assert not [line for line in one.lines if line.get_linestyle() == "--"]
    assert "band of narrow" in texts(figure)


def test_classes_whose_probability_changes_most() -> None:
    figure = plot_bands({"one": linear(outputs=5), "two": linear(outputs=5)}, rows(), 1, level=0.5)
    for axes in figure.axes:
        assert len(axes.lines) == 3 == len(bands_of(axes))
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "class 4" in shown and "50 % of the draws" in shown
    assert figure.axes[0].get_ylabel() == "probability"
    rising = along_y(figure.axes[0].lines[-1])  # the slope is below 0
    assert rising[0] > rising[-1]


def test_rows_are_ticks_of_which_there_are_not_too_many() -> None:
    figure = plot_bands({"one": linear()}, rows(1000), 1)
    (ticks,) = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    assert len(ticks.get_paths()) == 300


def test_snapshots_have_bands_too() -> None:
    whole = linear().model
    keep = {"inputs": torch.ones(4) > 0}
    taken = [Snapshot(smaller_model(whole, keep, {}), keep) for _ in range(2)]
    assert isinstance(plot_bands({"one": Ensemble(whole, taken)}, rows(), 0), Figure)


def test_bad_calls_are_refused() -> None:
    posterior, x = linear(), rows()
    with pytest.raises(ValueError, match="level must be between 0 and 1, got 1"):
        plot_bands({"one": posterior}, x, 0, level=1)
    with pytest.raises(ValueError, match="posteriors must hold at least one"):
        plot_bands({}, x, 0)
    with pytest.raises(ValueError, match="number must be that of one of 4 inputs, from 0, got 4"):
        plot_bands({"one": posterior}, x, 4)
    with pytest.raises(ValueError, match=r"x must have shape \(rows, 4\)"):
        plot_bands({"one": posterior}, x[:, :3], 0)
    with pytest.raises(ValueError, match="posteriors must predict one kind of target, got classes of two alone"):
        plot_bands({"one": posterior, "two": classification().posterior}, x, 0)
    with pytest.raises(ValueError, match="posterior must be of a network whose inputs are vectors"):
        kept_inputs(of_images())


def of_images() -> SampledPosterior:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    x = torch.zeros(2, 2, 2, dtype=DOUBLE)
    model = SparseNetwork(net, x, prior=Gaussian(), likelihood=GaussianNoise(0.3), num_data=9)
    values = {p.name: torch.ones(CHAINS, DRAWS, *p.shape, dtype=DOUBLE) for p in model.bayesian}
    return SampledPosterior(model, draws_of(values))


@pytest.mark.parametrize(("likelihood", "label"), [(Poisson(), "target"), (Bernoulli(), "probability")], ids=str)
def test_other_numbers_and_labels_are_drawn(likelihood: Any, label: str) -> None:
    """Counts have the interval of their distribution, a label of two values its probability."""
    posterior = linear(likelihood=likelihood)
    figure = plot_bands({"a": posterior}, rows(), 1)
    (axes,) = figure.axes
    assert axes.get_ylabel() == label
    swept = rows().double().median(0).values.repeat(101, 1)
    swept[:, 1] = torch.tensor(along_x(axes.lines[0]), dtype=DOUBLE)
    predicted = posterior.predictive(swept)
    assert isinstance(predicted, Mixture)
    assert along_y(axes.lines[0]) == pytest.approx(predicted.mean.tolist())
    if label == "target":
        for edge, expected in zip(bands_of(axes)[0], predicted.interval(0.9), strict=True):
            assert edge == pytest.approx(expected.tolist())
    else:
        assert "label 1" in texts(figure)


def test_several_numbers_per_row_have_no_band() -> None:
    several = linear(outputs=3, likelihood=Bernoulli((1.0, 1.0, 1.0)))
    with pytest.raises(
        ValueError, match=r"posteriors must predict classes or one number per row, got targets of shape"
    ):
        plot_bands({"a": several}, rows(), 1)
