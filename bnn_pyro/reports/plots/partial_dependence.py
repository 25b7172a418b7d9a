"""What a posterior predicts as a function of one input, averaged over the others, with bands of its uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from bnn_pyro.evaluation.spacing import evenly_spaced
from bnn_pyro.likelihoods import Classes
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.reports.figures import COLORS, MUTED, new_panels, numpy_values, set_title, style_axes
from bnn_pyro.reports.plots.bands import draw_rows, input_influence, kept_inputs, rows_of

_POINTS = 21  # along an input; all of its values where there are no more
_FEW_POINTS = 5  # which are drawn one by one
_AVERAGED = 100  # rows, at most; fewer where there are many classes
_LEAST_AVERAGED = 20
_TAIL = 0.01  # of an input's values, on either side, that is not drawn
_MOST_PANELS = 12
_MOST_CLASSES = 3
_LONGEST_NAME = 30
_OPACITY = 0.3


@dataclass(frozen=True, eq=False)
class PartialDependence:
    """The partial dependence of what is predicted on one input.

    Attributes:
        number: The input's number, from 0.
        points: Values of the input, on the scale of the model's inputs, ``(points,)``.
        mean: Mean over the draws, ``(curves, points)``: one curve of a regression, one per class of a classifier.
        low: Lower end of the central band of the draws' curves, of the same shape.
        high: Upper end, likewise.
    """

    number: int
    points: Tensor
    mean: Tensor
    low: Tensor
    high: Tensor

    @property
    def spread(self) -> float:
        """The standard deviation of the mean curve over the points, the largest of the classes'."""
        return float(self.mean.std(1, correction=0).max())


def partial_dependence(
    posterior: Posterior,
    x: Tensor,
    numbers: Sequence[int],
    *,
    level: float = 0.9,
    num_samples: int | None = 100,
    y_mean: float = 0.0,
    y_std: float = 1.0,
) -> list[PartialDependence]:
    r"""Return the partial dependence of what is predicted on each of some inputs, with bands.

    With the rows :math:`x_1, \dots, x_n` the curve of draw s for input j is

    .. math:: g_s(v) = \frac{1}{n} \sum_i f_s(x_{i1}, \dots, x_{ij} = v, \dots, x_{ip}),

    where f is the mean of a regression, or a class's probability. All inputs are asked with the same draws. The band
    holds the central part of the draws' curves at each point: it is of the mean function, without the noise. At most
    100 rows, evenly spaced, are averaged over, fewer of classifiers with many classes; the points go from the 1 % to
    the 99 % quantile of the input, or are its values where these are at most 21.

    Args:
        posterior: A posterior of a network whose inputs are vectors.
        x: Rows, such as the training rows, shape ``(rows, inputs)``.
        numbers: The inputs' numbers, from 0.
        level: Probability of the bands.
        num_samples: How many draws, as in ``posterior.predict``.
        y_mean: What was taken away from the target before it was divided by ``y_std``; not used for classes.
        y_std: What the target was divided by, so that curves are in original units; not used for classes.

    Returns:
        The partial dependences in the order of ``numbers``, on the CPU in double precision.

    Raises:
        ValueError: If the inputs are no vectors, x is not of their shape, there is no such input, no number is given,
            or ``level`` is not between 0 and 1.

    Source: Friedman (2001), *Greedy function approximation: a gradient boosting machine*, section 8.2.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    values = rows_of(posterior, x)
    if not numbers or not all(0 <= number < values.shape[1] for number in numbers):
        raise ValueError(f"numbers must be those of some of {values.shape[1]} inputs, from 0, got {list(numbers)}")
    averaged = values[evenly_spaced(len(values), _rows_to_average(posterior, values[:1]))]
    grids = [_grid(values[:, number]) for number in numbers]
    swept = torch.cat([_swept(averaged, number, grid) for number, grid in zip(numbers, grids, strict=True)])
    predicted = posterior.predict(swept, num_samples=num_samples, return_draws=True)
    if isinstance(predicted, Classes):
        outputs = predicted.draws.cpu().double()
    else:
        outputs = y_mean + y_std * predicted.mean.cpu().double().unsqueeze(-1)
    curves = outputs.unflatten(1, (-1, len(averaged))).mean(2).movedim(-1, 1)  # (draws, curves, points of all inputs)
    found = []
    for number, grid, own in zip(numbers, grids, curves.split([len(grid) for grid in grids], -1), strict=True):
        low, high = own.quantile((1 - level) / 2, 0), own.quantile((1 + level) / 2, 0)
        found.append(PartialDependence(number, grid, own.mean(0), low, high))
    return found


def plot_partial_dependence(
    posterior: Posterior,
    x: Tensor,
    *,
    level: float = 0.9,
    num_samples: int | None = 100,
    y_mean: float = 0.0,
    y_std: float = 1.0,
    x_mean: Tensor | None = None,
    x_std: Tensor | None = None,
    input_names: Sequence[str] = (),
    target_name: str = "target",
    title: str = "Partial dependence",
) -> Figure:
    """Draw the partial dependence of what is predicted on each kept input, a panel each, on one vertical axis.

    Of more than 12 kept inputs those 12 are drawn along whose own quantiles the prediction varies most. The panels are
    in the order of the spread of their curves, the widest first. Bands hold the central part of the draws' curves and
    are without the noise of the targets, see `partial_dependence`. Of classes there are up to 3, those whose
    probability changes most; of two classes the second. Ticks at the bottom are rows of x.

    Args:
        posterior: A posterior of a network whose inputs are vectors.
        x: Rows, such as the training rows, shape ``(rows, inputs)``.
        level: Probability of the bands.
        num_samples: How many draws, as in ``posterior.predict``.
        y_mean: As for `partial_dependence`.
        y_std: Likewise.
        x_mean: What was taken away from each input, shape ``(inputs,)``, so that axes have original units; None for 0.
        x_std: What each input was divided by then, shape ``(inputs,)``; None for 1.
        input_names: Name of each input; empty for their numbers, from 1.
        target_name: The target's name on the axis.
        title: Title of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: If no input is kept, names or scales are not one per input, or as for `partial_dependence`.
    """
    values, kept = rows_of(posterior, x), kept_inputs(posterior)
    if not len(kept):
        raise ValueError("posterior must keep an input, got one that keeps none")
    size = values.shape[1]
    for name, given in {"x_mean": x_mean, "x_std": x_std, "input_names": input_names or None}.items():
        if given is not None and len(given) != size:
            raise ValueError(f"{name} must hold one value per input, {size}, got {len(given)}")
    if len(kept) > _MOST_PANELS:
        influence = input_influence(posterior, x, num_samples=num_samples)
        kept = kept[influence.topk(_MOST_PANELS).indices]
    found = partial_dependence(
        posterior, x, kept.tolist(), level=level, num_samples=num_samples, y_mean=y_mean, y_std=y_std
    )
    found.sort(key=lambda dependence: -dependence.spread)
    shown = _shown_curves(found)
    shift = torch.zeros(size, device="cpu") if x_mean is None else x_mean.cpu().double()
    scale = torch.ones(size, device="cpu") if x_std is None else x_std.cpu().double()
    figure, panels = new_panels(len(found), 2.9 if len(found) > 1 else 4.6, 2.4 if len(found) > 1 else 3.0)
    for axes, dependence in zip(panels, found, strict=True):
        number = dependence.number
        _draw_panel(axes, dependence, shift[number] + scale[number] * dependence.points, shown)
        draw_rows(axes, shift[number] + scale[number] * values[:, number])
        name = input_names[number] if input_names else f"input {number + 1}"
        axes.set_xlabel(name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…")
        if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            axes.set_ylabel(target_name if _is_regression(found) else "probability")
    _share_axis(panels)
    set_title(figure, title)
    handles = _legend(found, shown, level)
    columns = len(handles) if len(panels) > 2 else 2
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize="small")
    return figure


def _is_regression(found: Sequence[PartialDependence]) -> bool:
    return len(found[0].mean) == 1


# ---- where it is computed --------------------------------------------------------------------------------------------
def _rows_to_average(posterior: Posterior, x: Tensor) -> int:
    """Return how many rows are averaged over, so that memory does not grow with the classes."""
    like = next(posterior.model.net.parameters())
    outputs = posterior.median_model()(x.to(like)).shape[-1] if posterior.is_classification else 1
    return max(_LEAST_AVERAGED, min(_AVERAGED, 2 * _AVERAGED // outputs))


def _grid(values: Tensor) -> Tensor:
    """Return the points of an input with these values."""
    distinct: Tensor = values.unique()
    if len(distinct) <= _POINTS:
        return distinct
    low, high = (float(values.quantile(q)) for q in (_TAIL, 1 - _TAIL))
    if low == high:  # nearly all values are one
        low, high = float(distinct[0]), float(distinct[-1])
    return torch.linspace(low, high, _POINTS, dtype=values.dtype, device=values.device)


def _swept(rows: Tensor, number: int, grid: Tensor) -> Tensor:
    """Return the rows with each value of the grid in the place of the input: ``(points * rows, inputs)``."""
    swept = rows.repeat(len(grid), 1, 1)
    swept[:, :, number] = grid.unsqueeze(1)
    flat: Tensor = swept.flatten(0, 1)
    return flat


# ---- how it is drawn -------------------------------------------------------------------------------------------------
def _shown_curves(found: Sequence[PartialDependence]) -> list[int]:
    """Return which curves are drawn: of classes those that change most, in their order."""
    curves = len(found[0].mean)
    if curves <= 2:
        return [curves - 1]
    change = torch.stack([each.mean.amax(1) - each.mean.amin(1) for each in found]).amax(0)
    return sorted(change.topk(min(_MOST_CLASSES, curves)).indices.tolist())


def _draw_panel(axes: Axes, dependence: PartialDependence, points: Tensor, shown: Sequence[int]) -> None:
    at = numpy_values(points)
    for curve, color in zip(shown, COLORS, strict=False):
        mean, low, high = (numpy_values(each[curve]) for each in (dependence.mean, dependence.low, dependence.high))
        if len(at) <= _FEW_POINTS:
            axes.vlines(at, low, high, color=color, linewidth=6, alpha=_OPACITY)
            axes.plot(at, mean, color=color, marker="o", markersize=4, linewidth=0.8, linestyle=":")
        else:
            axes.fill_between(at, low, high, color=color, alpha=_OPACITY, linewidth=0)
            axes.plot(at, mean, color=color, linewidth=1.6)
    margin = 0.04 * float(at[-1] - at[0]) or 1.0
    axes.set_xlim(at[0] - margin, at[-1] + margin)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    style_axes(axes)


def _share_axis(panels: Sequence[Axes]) -> None:
    limits = [axes.get_ylim() for axes in panels]
    low, high = min(pair[0] for pair in limits), max(pair[1] for pair in limits)
    for axes in panels:
        axes.set_ylim(low - 0.06 * (high - low), high)
        if not axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            axes.tick_params(labelleft=False)


def _legend(found: Sequence[PartialDependence], shown: Sequence[int], level: float) -> list[Artist]:
    band = f"{100 * level:.3g} % of the draws' curves, without noise"
    rows = Line2D([], [], color=MUTED, marker="|", linestyle="none", markersize=7, label="rows of data")
    if _is_regression(found):
        line = Line2D([], [], color=COLORS[0], linewidth=1.6, label="mean over draws")
        return [line, Patch(color=COLORS[0], alpha=_OPACITY, linewidth=0, label=band), rows]
    lines = [Line2D([], [], color=c, linewidth=1.6, label=f"class {n}") for n, c in zip(shown, COLORS, strict=False)]
    return [*lines, Patch(color=MUTED, alpha=_OPACITY, linewidth=0, label=band), rows]
