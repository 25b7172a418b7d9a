"""What posteriors predict along one input, with bands of their uncertainty."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor
from torch.distributions import constraints

from bnn_pyro.evaluation import NormalMixture
from bnn_pyro.evaluation.spacing import evenly_spaced
from bnn_pyro.likelihoods import Classes, Mixture, Normals, Prediction
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.scores import of_one_form
from bnn_pyro.reports.figures import COLORS, MUTED, new_panels, numpy_values, set_title, style_axes

_POINTS = 101  # along the input
_LEVELS = 19  # quantiles at which an input's influence is looked at
_MOST_CLASSES = 3
_MOST_TICKS = 300
_OUTER, _INNER = 0.22, 0.4  # opacity


# ---- which input -----------------------------------------------------------------------------------------------------
def kept_inputs(posterior: Posterior) -> Tensor:
    """Return the numbers of the inputs that the median model of a posterior reads.

    Args:
        posterior: A posterior of a network whose inputs are vectors.

    Returns:
        Numbers among all inputs, shape ``(kept,)``, on the CPU; those of all inputs where these have no gates.

    Raises:
        ValueError: If the inputs are no vectors.
    """
    model = posterior.model
    _check_vectors(posterior)
    read = torch.arange(model.input_shape[0], device="cpu") if model.selection is None else model.selection.cpu()
    gated = [name for name, group in model.groups.items() if not group.writers and group.size == len(read)]
    return read[posterior.keep()[gated[0]].cpu()] if gated else read


def input_influence(posterior: Posterior, x: Tensor, *, num_samples: int | None = 100) -> Tensor:
    """Return how much the prediction varies along each kept input's own quantiles, all others at their medians.

    Predictions are taken at the quantiles 0.05, 0.1, ..., 0.95 of the input; they vary by the standard deviation of the
    predictive means, or by the largest one of a class's probability.

    Args:
        posterior: A posterior of a network whose inputs are vectors.
        x: Rows, such as the training rows, shape ``(rows, inputs)``.
        num_samples: How many draws, as in ``posterior.predict``.

    Returns:
        Shape ``(kept,)``, in the order of `kept_inputs`, on the CPU.

    Raises:
        ValueError: If the inputs are no vectors, x is not of their shape, or no input is kept.
    """
    kept = kept_inputs(posterior)
    if not len(kept):
        raise ValueError("posterior must keep an input, got one that keeps none")
    values = rows_of(posterior, x)
    levels = torch.arange(1, _LEVELS + 1, dtype=values.dtype, device=values.device) / (_LEVELS + 1)
    swept = values.median(0).values.repeat(len(kept), _LEVELS, 1)
    for place, number in enumerate(kept.tolist()):
        swept[place, :, number] = values[:, number].quantile(levels)
    predicted = posterior.predict(swept.flatten(0, 1), num_samples=num_samples, batch_size=len(kept) * _LEVELS)
    return predicted.reshape(len(kept), _LEVELS, -1).std(1).amax(1).cpu()


def most_influential_input(posterior: Posterior, x: Tensor, *, num_samples: int | None = 100) -> int:
    """Return the number, from 0, of the kept input whose `input_influence` is the largest.

    Args:
        posterior: As for `input_influence`.
        x: Likewise.
        num_samples: Likewise.

    Raises:
        ValueError: As for `input_influence`.
    """
    return int(kept_inputs(posterior)[int(input_influence(posterior, x, num_samples=num_samples).argmax())])


# ---- the picture -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Band:
    """A line, the central band of the draws' own lines, and for a regression that of the targets: `(points,)` each."""

    label: str
    line: Tensor
    inner: tuple[Tensor, Tensor]
    outer: tuple[Tensor, Tensor] | None = None

    @property
    def widest(self) -> tuple[Tensor, Tensor]:
        """The band of the targets, or of the draws where there is none."""
        return self.outer or self.inner


def plot_bands(
    posteriors: Mapping[str, Posterior],
    x: Tensor,
    number: int,
    *,
    level: float = 0.9,
    num_samples: int | None = 400,
    y_mean: float = 0.0,
    y_std: float = 1.0,
    input_name: str | None = None,
    target_name: str = "target",
) -> Figure:
    """Draw what posteriors predict along one input, all others at their medians, side by side on the same axes.

    Of a regression a panel shows the predictive mean, the central band of the draws' mean functions, and the wider one
    of the predictive distribution, the mixture of all draws with their noise. Of classes it shows the mean probability
    of up to 3, those whose probability changes most, each with the central band of the draws' probabilities. Dashed
    lines repeat the wider band of the first regression in the other panels. Counts and other numbers are drawn as a
    regression, a label of two values as the probability of 1. Ticks at the bottom are rows of x.

    Args:
        posteriors: Posteriors by the name to show, of networks that take the same vectors and predict the same target.
        x: Rows, such as the training rows, shape ``(rows, inputs)``; the line goes from their least to their largest
            value of the input.
        number: The input's number, from 0, such as `most_influential_input` returns.
        level: Probability of the bands.
        num_samples: How many draws, as in ``posterior.predict``.
        y_mean: What was taken away from the target before it was divided by ``y_std``; not used for classes.
        y_std: What the target was divided by, so that the axis has its original units; not used for classes.
        input_name: The input's name on the axis; None for its number, from 1.
        target_name: The target's name on the axis.

    Returns:
        The figure. A panel's title has the mean width of its wider bands.

    Raises:
        ValueError: If there is no posterior, they predict several kinds of targets, the inputs are no vectors or x not
            of their shape, there is no such input, or ``level`` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    if not posteriors:
        raise ValueError("posteriors must hold at least one, got none")
    values = [rows_of(posterior, x) for posterior in posteriors.values()][0]
    if not 0 <= number < values.shape[1]:
        raise ValueError(f"number must be that of one of {values.shape[1]} inputs, from 0, got {number}")
    points = torch.linspace(
        float(values[:, number].min()),
        float(values[:, number].max()),
        _POINTS,
        dtype=values.dtype,
        device=values.device,
    )
    swept = values.median(0).values.repeat(_POINTS, 1)
    swept[:, number] = points
    predicted = {
        name: _of_one_number(posterior.predict(swept, num_samples=num_samples, return_draws=True))
        for name, posterior in posteriors.items()
    }
    bands = _bands(predicted, level, y_mean, y_std)
    figure, panels = new_panels(len(bands), 3.8 if len(bands) > 1 else 5.4, 3.4, most=3)
    first_name, first = next(iter(bands.items()))
    for axes, (name, own) in zip(panels, bands.items(), strict=True):
        _draw_panel(axes, name, points, own, dashed=() if name == first_name else first[0].outer or ())
        draw_rows(axes, values[:, number])
        axes.set_xlabel(f"input {number + 1}, others at their medians" if input_name is None else input_name)
        axes.set_ylabel(target_name if first[0].outer else "probability")
    _share_axes(panels, bounded=first[0].outer is None)
    set_title(figure, "Predictions along one input")
    handles = _legend(first, level, first_name if len(bands) > 1 else None)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(3, 1 + len(bands)), frameon=False, fontsize="small"
    )
    return figure


def _of_one_number(predicted: Prediction) -> Prediction:
    """Return a prediction of classes, or of one number per row, or raise."""
    found = of_one_form(predicted)
    if isinstance(found, Mixture) and found.expected.dim() != 2:
        shape = tuple(found.expected.shape[2:])
        raise ValueError(f"posteriors must predict classes or one number per row, got targets of shape {shape}")
    return found


def _bands(predicted: Mapping[str, Prediction], level: float, y_mean: float, y_std: float) -> dict[str, list[_Band]]:
    """Return what each panel shows, on the CPU."""
    classes = {name: found for name, found in predicted.items() if isinstance(found, Classes)}
    numbers = {name: found for name, found in predicted.items() if not isinstance(found, Classes)}
    if classes and numbers:
        raise ValueError(f"posteriors must predict one kind of target, got classes of {', '.join(classes)} alone")
    if numbers:
        return {
            name: [
                _regression_band(found, level, y_mean, y_std)
                if isinstance(found, Normals)
                else _mixture_band(found.scaled(mean=y_mean, std=y_std), level)
            ]
            for name, found in numbers.items()
        }
    means = torch.stack([found.probabilities.cpu().double() for found in classes.values()])
    change = (means.amax(1) - means.amin(1)).amax(0)
    shown = sorted(change.topk(min(_MOST_CLASSES, len(change))).indices.tolist())
    return {name: [_class_band(found, level, number) for number in shown] for name, found in classes.items()}


def _mixture_band(found: Mixture, level: float) -> _Band:
    """Return the band of counts and other numbers, or of the probability of a label of two values."""
    draws = (found.expected * found.scale + found.shift).cpu().double()
    inner = draws.quantile((1 - level) / 2, 0), draws.quantile((1 + level) / 2, 0)
    support = found.draws.support
    if isinstance(getattr(support, "base_constraint", support), type(constraints.boolean)):
        return _Band("label 1", draws.mean(0), inner)
    low, high = found.interval(level)
    return _Band("", draws.mean(0), inner, (low.cpu().double(), high.cpu().double()))


def _regression_band(found: Normals, level: float, y_mean: float, y_std: float) -> _Band:
    mean, sd = y_mean + y_std * found.mean.cpu().double(), y_std * found.sd.cpu().double()
    low, high = (1 - level) / 2, (1 + level) / 2
    outer = NormalMixture(mean, sd).interval(level)
    return _Band("", mean.mean(0), (mean.quantile(low, 0), mean.quantile(high, 0)), outer)


def _class_band(found: Classes, level: float, number: int) -> _Band:
    draws = found.draws[:, :, number].cpu().double()
    inner = draws.quantile((1 - level) / 2, 0), draws.quantile((1 + level) / 2, 0)
    return _Band(f"class {number}", draws.mean(0), inner)


def _draw_panel(axes: Axes, name: str, points: Tensor, bands: list[_Band], *, dashed: Sequence[Tensor]) -> None:
    at = numpy_values(points)
    for band, color in zip(bands, COLORS, strict=False):
        for edges, opacity in ((band.outer, _OUTER), (band.inner, _INNER)):
            if edges is not None:
                low, high = map(numpy_values, edges)
                axes.fill_between(at, low, high, color=color, alpha=opacity, linewidth=0)
        axes.plot(at, numpy_values(band.line), color=color, linewidth=1.6)
    for edge in dashed:
        axes.plot(at, numpy_values(edge), color=MUTED, linewidth=0.9, linestyle="--")
    width = sum(float((band.widest[1] - band.widest[0]).mean()) for band in bands) / len(bands)
    axes.set_title(f"{name}: mean band width {width:.3g}", loc="left", fontsize="medium")
    style_axes(axes)


def draw_rows(axes: Axes, values: Tensor) -> None:
    """Draw a tick at the bottom for each row, or for so many of them, evenly spaced in their order.

    Args:
        axes: The panel.
        values: Where the rows are on the horizontal axis, shape ``(rows,)``.
    """
    places = evenly_spaced(len(values), _MOST_TICKS)
    at = numpy_values(values.sort().values[places])
    axes.vlines(at, 0, 0.03, transform=axes.get_xaxis_transform(), color=MUTED, linewidth=0.6, alpha=0.6)


def _share_axes(panels: list[Axes], *, bounded: bool) -> None:
    for axes in panels[1:]:
        axes.sharex(panels[0])
        axes.sharey(panels[0])
    limits = [axes.dataLim.intervaly for axes in panels]
    low, high = min(float(pair[0]) for pair in limits), max(float(pair[1]) for pair in limits)
    margin = 0.05 * (high - low)
    panels[0].set_ylim(*((-0.05, 1.02) if bounded else (low - 2 * margin, high + margin)))
    for axes in panels:
        axes.label_outer()


def _legend(bands: list[_Band], level: float, first: str | None) -> list[Artist]:
    """Return what the legend says of the lines and bands of a panel."""
    handles: list[Artist] = []
    percent = f"{100 * level:.3g} %"
    if bands[0].outer is not None:
        handles.append(Line2D([], [], color=COLORS[0], linewidth=1.6, label="predictive mean"))
        handles.append(
            Patch(color=COLORS[0], alpha=_OUTER + _INNER, linewidth=0, label=f"{percent} of the draws' means")
        )
        handles.append(Patch(color=COLORS[0], alpha=_OUTER, linewidth=0, label=f"{percent} of the targets"))
    else:
        lines = [Line2D([], [], color=c, linewidth=1.6, label=b.label) for b, c in zip(bands, COLORS, strict=False)]
        handles += [*lines, Patch(color=MUTED, alpha=_INNER, linewidth=0, label=f"{percent} of the draws")]
    if first is not None and bands[0].outer is not None:
        handles.append(Line2D([], [], color=MUTED, linewidth=0.9, linestyle="--", label=f"band of {first}"))
    tick = Line2D([], [], color=MUTED, marker="|", linestyle="none", markersize=7, label="rows of data")
    return [*handles, tick]


# ---- checks ----------------------------------------------------------------------------------------------------------
def _check_vectors(posterior: Posterior) -> None:
    layout = posterior.model.layout
    if not layout.are_features:
        got = f"inputs of shape {layout.shape}" if layout.is_plain else layout
        raise ValueError(f"posterior must be of a network whose inputs are vectors, got {got}")


def rows_of(posterior: Posterior, x: Tensor) -> Tensor:
    """Return rows on the CPU in double precision.

    Args:
        posterior: A posterior of a network whose inputs are vectors.
        x: The rows, shape ``(rows, inputs)``.

    Raises:
        ValueError: If the posterior's network does not take them.
    """
    _check_vectors(posterior)
    wanted = posterior.model.input_shape[0]
    if x.dim() != 2 or x.shape[1] != wanted or not len(x):
        raise ValueError(f"x must have shape (rows, {wanted}) and a row, got {tuple(x.shape)}")
    return x.detach().cpu().double()
