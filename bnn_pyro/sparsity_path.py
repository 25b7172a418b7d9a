"""sparsity_path: networks from dense to sparse, each scored on held-out rows, and the one to take."""

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from bnn_pyro.evaluation.metrics import paired_difference, standard_error
from bnn_pyro.inference.checks import Data, as_pair, hold_out
from bnn_pyro.inference.generators import seeded
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.posterior.prune import prune
from bnn_pyro.posterior.sampled import SampledPosterior
from bnn_pyro.posterior.scores import log_scores
from bnn_pyro.refinement import Refinement, refine, sample_whole

logger = logging.getLogger(__name__)

KL_WEIGHTS = (0.03, 0.1, 0.3, 1.0)
_DRAWS = 64  # of a guide

FitAt = Callable[[SparseNetwork, tuple[Tensor, Tensor], float], GuidePosterior]
"""From a network, its training rows and a KL weight to the posterior that selects nodes."""


@dataclass(frozen=True, eq=False)
class PathPoint:
    """One network of a path.

    Attributes:
        kl_weight: That its nodes were selected at.
        selected: The posterior that selects them.
        predictor: What its scores are of: the posterior of the pruned network, sampled; or ``selected`` where that was
            not asked for, or a group has no node left.
        weights: Parameters of the pruned network.
        nodes: Group -> how many of its nodes are kept.
        scores: Log score of each held-out row, on the scale of the targets that the model saw, shape ``(rows,)``.
    """

    kl_weight: float
    selected: GuidePosterior
    predictor: Posterior
    weights: int
    nodes: dict[str, int]
    scores: Tensor


@dataclass(frozen=True, eq=False)
class SparsityPath:
    """Networks from dense to sparse, and which of them to take.

    Printed, it is a table.

    Attributes:
        points: The networks, by their KL weights from the smallest on.
        reference: The posterior of the whole network, sampled; None where it was not asked for.
        reference_scores: Its log score of each held-out row; None likewise.
    """

    points: tuple[PathPoint, ...]
    reference: SampledPosterior | None = None
    reference_scores: Tensor | None = None

    @property
    def best_scores(self) -> Tensor:
        """The log scores of the candidate, a network of the path or the whole one, with the highest mean."""
        scores = [point.scores for point in self.points]
        if self.reference_scores is not None:
            scores.append(self.reference_scores)
        return max(scores, key=lambda each: float(each.mean()))

    def loss(self, point: PathPoint) -> tuple[float, float]:
        """Return what a network loses against the best candidate: mean log score per row, and its standard error.

        Args:
            point: One of the path's.
        """
        return paired_difference(self.best_scores, point.scores)

    @property
    def chosen(self) -> PathPoint:
        """The smallest network that loses at most one standard error; the best one where all lose more.

        Of two errors the smaller counts: that of the paired difference, which is large of a bad network, and that of
        the best candidate's own score. Of networks of one size the best is taken.
        """
        own = standard_error(self.best_scores)
        by_size = sorted(self.points, key=lambda point: (point.weights, -float(point.scores.mean())))
        within = (point for point in by_size if (loss := self.loss(point))[0] <= min(loss[1], own))
        return next(within, max(self.points, key=lambda point: float(point.scores.mean())))

    def __str__(self) -> str:
        chosen, groups = self.chosen, list(self.points[0].nodes)
        columns = ["KL weight", "weights", *groups, "log score", "loss", "s.e."]
        widths = [max(10, len(name) + 2) for name in columns]
        lines = ["".join(name.rjust(width) for name, width in zip(columns, widths, strict=True))]
        for point in self.points:
            cells = [f"{point.kl_weight:g}", str(point.weights), *(str(point.nodes[name]) for name in groups)]
            cells += [f"{value:.4f}" for value in (float(point.scores.mean()), *self.loss(point))]
            line = "".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
            lines.append(line + ("  <- chosen" if point is chosen else ""))
        if self.reference_scores is not None:
            lines.append(f"log score of the whole network, sampled: {float(self.reference_scores.mean()):.4f}")
        return "\n".join(lines)


def sparsity_path(
    model: SparseNetwork,
    data: Data,
    fit_at: FitAt,
    *,
    kl_weights: Sequence[float] = KL_WEIGHTS,
    validation: Data | float = 0.2,
    refinement: Refinement | None = Refinement(),  # noqa: B008  (frozen)
    reference: bool = False,
    seed: int | None = None,
    progress: bool | None = None,
) -> SparsityPath:
    """Select networks at several KL weights and score each on held-out rows, by the posterior that is then used.

    The smaller the KL weight, the more nodes are kept. Each selection is refined, i.e. its pruned network is sampled,
    and scored by the mean log score of the held-out rows, as is the whole network, sampled, where it is asked for.
    The one to take is the smallest that loses at most one standard error against the best (`SparsityPath.chosen`).
    Fit it on all rows then: ``fit(model, data, kl_weight=path.chosen.kl_weight)``, and `refine`.

    Args:
        model: The network; its prior has gates.
        data: (x, y).
        fit_at: Fits a network to training rows at a KL weight, such as
            ``lambda model, rows, kl_weight: fit(model, rows, kl_weight=kl_weight, epochs=100)``.
        kl_weights: The KL weights.
        validation: (x, y) to score, or the fraction of the rows of ``data`` to hold out.
        refinement: How pruned networks are sampled; None scores the draws of what ``fit_at`` returns.
        reference: Whether the whole network is sampled too, in the same way.
        seed: Seed of what is drawn here; None continues from the global random state.
        progress: Whether to show progress bars; None shows them on a terminal.

    Returns:
        The path.

    Raises:
        ValueError: If there is no KL weight or one is not positive, the prior has no gates, or the data do not fit.

    Source: Hastie, Tibshirani, Friedman (2009), *The elements of statistical learning*, section 7.10, for the rule of
    one standard error.
    """
    weights = sorted(set(kl_weights))
    if not weights or not weights[0] > 0:
        raise ValueError(f"kl_weights must be positive, and one at least, got {list(kl_weights)}")
    if reference and refinement is None:
        raise ValueError("reference needs a refinement, by which the whole network is sampled, got None")
    if model.spike is None:
        raise ValueError("model must have a prior with gates, such as SpikeSlab, got a bare slab")
    x, y = as_pair("data", data)
    with seeded(seed, x.device):
        train, held_out = hold_out(x, y, validation)
        if held_out is None:
            raise ValueError("validation must be rows to score, or a fraction of the data, got None")
        part = copy.deepcopy(model)
        part.num_data = len(train[0])
        points = tuple(_point(part, train, held_out, fit_at, weight, refinement, progress) for weight in weights)
        if not (reference and refinement is not None):
            return SparsityPath(points)
        whole = sample_whole(part, train, refinement, progress=progress)
    return SparsityPath(points, whole, _scores(whole, held_out))


def _point(
    model: SparseNetwork,
    train: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    fit_at: FitAt,
    kl_weight: float,
    refinement: Refinement | None,
    progress: bool | None,
) -> PathPoint:
    selected = fit_at(model, train, kl_weight)
    keep = selected.keep()
    predictor: Posterior = selected
    if refinement is not None:
        if empty := [name for name, mask in keep.items() if not mask.any()]:
            logger.warning(
                "at KL weight %g no node of %r is left: it is scored by the guide's draws", kl_weight, empty[0]
            )
        else:
            predictor = refine(selected, train, refinement, progress=progress)
    return PathPoint(
        kl_weight,
        selected,
        predictor,
        sum(parameter.numel() for parameter in prune(selected).parameters()),
        {name: int(mask.sum()) for name, mask in keep.items()},
        _scores(predictor, held_out),
    )


def _scores(posterior: Posterior, rows: tuple[Tensor, Tensor]) -> Tensor:
    x, y = rows
    draws = _DRAWS if posterior.num_draws is None else None
    return log_scores(posterior.predict(x, num_samples=draws, return_draws=True), y)
