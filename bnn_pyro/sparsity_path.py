"""sparsity_path: networks from dense to sparse, each scored on held-out rows, and the one to take."""

import copy
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from pyro.infer import ELBO
from pyro.infer.autoguide import AutoGuide
from torch import Tensor

from bnn_pyro.arguments import check_callable, check_reals, check_seed, check_type
from bnn_pyro.evaluation.metrics import paired_difference, standard_error
from bnn_pyro.inference.checkpoint import Checkpoint
from bnn_pyro.inference.checks import Data, as_pair, hold_out
from bnn_pyro.inference.generators import seeded
from bnn_pyro.inference.svi.fit import fit
from bnn_pyro.inference.svi.schedule import LearningRates, Schedule
from bnn_pyro.inference.training.batches import Change
from bnn_pyro.inference.training.compute import Compute
from bnn_pyro.likelihoods.base import targets_alone, weights_of
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.empty_groups import empty_groups
from bnn_pyro.posterior.guide import GuidePosterior, copies
from bnn_pyro.posterior.prune import prune
from bnn_pyro.posterior.sampled import SampledPosterior
from bnn_pyro.posterior.scores import log_scores
from bnn_pyro.posterior.tempering import tempering
from bnn_pyro.refinement import Refinement, refine, sample_whole
from guides import AutoProgram

logger = logging.getLogger(__name__)

KL_WEIGHTS = (0.03, 0.1, 0.3, 1.0)

_DRAWS = 64  # of a guide
_UNDECIDED = 0.95  # inclusion probability of open gates where a fit begins, as in a guide that is new


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

    @property
    def tempering(self) -> str:
        """In words how the posterior is tempered that selected the nodes; empty if it is not."""
        return tempering(self.selected.kl_weight)


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

    def records(self, *, y_std: float = 1.0) -> list[dict[str, Any]]:
        """Return the points as JSON values, for a table, a picture or a file.

        Each has ``kl_weight``, ``weights``, ``nodes``, ``refined``, whether it is ``chosen``, and of the held-out rows
        the mean negative log score ``nll``, the standard error ``nll_error`` of that of the best candidate's,
        the ``loss`` against the best candidate and its standard error ``loss_error``; errors of a single row are None.

        Args:
            y_std: Standard deviation by which targets were divided, so that ``nll`` is on their original scale.
        """
        chosen, own = self.chosen, standard_error(self.best_scores)
        records = []
        for point in self.points:
            loss, error = self.loss(point)
            records.append(
                {
                    "kl_weight": point.kl_weight,
                    "weights": point.weights,
                    "nodes": point.nodes,
                    "refined": point.predictor is not point.selected,
                    "nll": math.log(y_std) - float(point.scores.mean()),
                    "nll_error": None if math.isnan(own) else own,
                    "loss": loss,
                    "loss_error": None if math.isnan(error) else error,
                    "chosen": point is chosen,
                }
            )
        return records

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
        if words := chosen.tempering:
            lines.append(f"the chosen nodes were selected by a {words}")
        return "\n".join(lines)


def sparsity_path(
    model: SparseNetwork,
    data: Data,
    *,
    kl_weights: Sequence[float] = KL_WEIGHTS,
    epochs: int = 50,
    batch_size: int = 256,
    schedule: Schedule = Schedule(),  # noqa: B008  (frozen)
    rates: LearningRates = LearningRates(),  # noqa: B008  (frozen)
    clip_norm: float | None = None,
    guide: AutoGuide | None = None,
    elbo: ELBO | None = None,
    augmentation: Change | None = None,
    compute: Compute = Compute(),  # noqa: B008  (frozen)
    validation: Data | float = 0.2,
    refinement: Refinement | None = None,
    reference: bool = False,
    seed: int | None = None,
    progress: bool | None = None,
    checkpoint: Callable[[str], Checkpoint] | None = None,
) -> SparsityPath:
    """Fit a network at several KL weights, each from where the one before ended, and score each on held-out rows.

    The smaller the KL weight, the more nodes are kept. The first fit, at the smallest weight, has all ``epochs`` and
    the whole schedule. Each further one starts from the guide and the points of the one before, with no warm-up and
    with gates that are free at once, at inclusion probabilities of .95 at most. It has half of the epochs at
    most, and all of them together have as many as the first, so that the path costs little more than two fits however
    fine it is. Nodes that have closed may stay closed: a path goes from dense to sparse.

    Each network is scored by the mean log score of the held-out rows, of the guide's draws or, with a ``refinement``,
    of draws from the posterior of the pruned network, as is the whole network, sampled, where it is asked for. The one
    to take is the smallest that loses at most one standard error against the best (`SparsityPath.chosen`). It has not
    seen the held-out rows; fit it on all rows then: ``fit(model, data, kl_weight=path.chosen.kl_weight)``.

    Args:
        model: The network; its prior has gates. Its ``num_data`` does not matter: the path takes that of the rows that
            are left to learn from.
        data: (x, y).
        kl_weights: The KL weights, in any order; below 1 a selection is that of a tempered (cold) posterior.
        epochs: Epochs of the first fit.
        batch_size: Rows a step.
        schedule: What changes in the course of the first fit; of the others ``freeze`` is in proportion, ``hold`` and
            ``kl_warmup`` are 0, and a falling ``temperature`` stays at its last value. With ``patience`` the held-out
            rows decide, too, which epochs are scored.
        rates: Learning rates by the role of a parameter.
        clip_norm: Largest norm of the gradient of a step; None does not clip.
        guide: The guide of the first fit, as in ``fit``.
        elbo: The bound, as in ``fit``.
        augmentation: What changes the inputs of each batch at random, as in ``fit``.
        compute: How steps are computed.
        validation: (x, y) to score, or the fraction of the rows of ``data`` to hold out.
        refinement: How pruned networks are sampled, each by itself; None scores the draws of guides, at no cost.
        reference: Whether the whole network is sampled too, in the same way.
        seed: Seed of this call; None continues from the global random state.
        progress: Whether to show progress bars; None shows them on a terminal.
        checkpoint: Gives where a part of the path is saved, by its name such as ``path-0.1`` (a file per fit, and per
            network that is sampled), and resumed from if it was stopped; needs a seed. None saves nothing.

    Returns:
        The path.

    Raises:
        ValueError: If there is no KL weight or one is not positive, the prior has no gates, the data do not fit, or an
            option of ``fit`` is out of range.

    Source: Hastie, Tibshirani, Friedman (2009), *The elements of statistical learning*, section 7.10, for the rule of
    one standard error; Friedman, Hastie, Tibshirani (2010), *Regularization paths for generalized linear models via
    coordinate descent*, for warm starts along a path.
    """
    weights = check_kl_weights(kl_weights)
    if reference and refinement is None:
        raise ValueError("reference needs a refinement, by which the whole network is sampled, got None")
    check_type("model", model, SparseNetwork)
    check_seed(seed, progress)
    if model.spike is None:
        raise ValueError("model must have a prior with gates, such as SpikeSlab, got a bare slab")
    if checkpoint is not None:
        check_callable("checkpoint", checkpoint, "a function from a part's name to a Checkpoint")
    if checkpoint is not None and seed is None:
        raise ValueError("seed must be given with a checkpoint, got None")
    x, y = as_pair("data", data, model.layout, likelihood=model.likelihood)
    with seeded(seed, x.device):
        train, held_out = hold_out(x, y, validation, model.layout, model.likelihood)
        if held_out is None:
            raise ValueError("validation must be rows to score, or a fraction of the data, got None")
        part, own_guide = (copy.deepcopy(model), None) if guide is None else copies(model, guide)
        part.num_data = len(train[0])
        start, further = (part, own_guide), _continued(schedule, epochs, len(weights) - 1)
        points = []
        for number, weight in enumerate(weights):
            length, phases = (epochs, schedule) if number == 0 else further
            saving = None if checkpoint is None else checkpoint(f"path-{weight:g}")
            selected = fit(
                start[0],
                train,
                epochs=length,
                batch_size=batch_size,
                kl_weight=weight,
                schedule=phases,
                rates=rates,
                clip_norm=clip_norm,
                guide=start[1],
                elbo=elbo,
                augmentation=augmentation,
                validation=held_out,
                seed=int(torch.randint(2**31, ())),
                progress=progress,
                compute=compute,
                checkpoint=saving,
            )
            start = _undecided(selected)
            saving = None if checkpoint is None else checkpoint(f"path-{weight:g}-refined")
            points.append(_point(selected, weight, train, held_out, refinement, progress, saving))
        if not (reference and refinement is not None):
            return SparsityPath(tuple(points))
        saving = None if checkpoint is None else checkpoint("path-reference")
        own_seed = int(torch.randint(2**31, ()))
        whole = sample_whole(part, train, refinement, seed=own_seed, progress=progress, checkpoint=saving)
        return SparsityPath(tuple(points), whole, _scores(whole, held_out))


def check_kl_weights(kl_weights: Sequence[float]) -> list[float]:
    """Return the KL weights of a path in order, each once.

    Args:
        kl_weights: The KL weights.

    Raises:
        ValueError: If there is none, or one is not positive and finite.
    """
    if isinstance(kl_weights, str) or not isinstance(kl_weights, Iterable):
        raise TypeError(f"kl_weights must be numbers, got {kl_weights!r}")
    for weight in kl_weights:
        check_reals({"kl_weights": 0 if weight is None else weight})
    weights = sorted(set(kl_weights))
    if not weights or not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise ValueError(f"kl_weights must be positive and finite, and one at least, got {list(kl_weights)}")
    return weights


def _continued(schedule: Schedule, epochs: int, count: int) -> tuple[int, Schedule]:
    """Return how many epochs each fit has that starts from another one, and its schedule."""
    if not count:
        return epochs, schedule
    length = max(1, int(epochs * min(0.5, 1 / count)))
    phases = replace(schedule, hold=0, kl_warmup=0.0).stretched(length / epochs)
    temperatures = schedule.temperatures
    return length, phases if temperatures is None else replace(phases, temperature=temperatures[1])


def _undecided(posterior: GuidePosterior) -> tuple[SparseNetwork, AutoGuide]:
    """Return copies of a network and its guide to start from, with gates that another KL weight can close soon.

    Logits of open gates rise as long as a fit goes on; inclusion probabilities of the copy are at most `_UNDECIDED`.
    """
    model, guide = copies(posterior.model, posterior.guide)
    if isinstance(guide, AutoProgram):
        with torch.no_grad():
            for role, _, logits in guide.named_site_parameters():
                if role == "logits":
                    logits.clamp_(max=math.log(_UNDECIDED / (1 - _UNDECIDED)))
    return model, guide


def _point(
    selected: GuidePosterior,
    kl_weight: float,
    train: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    refinement: Refinement | None,
    progress: bool | None,
    checkpoint: Checkpoint | None,
) -> PathPoint:
    keep = selected.keep()
    predictor: Posterior = selected
    if refinement is not None:
        if empty := empty_groups(keep):
            logger.warning(
                "at KL weight %g no node of %r is left: it is scored by the guide's draws", kl_weight, empty[0]
            )
        else:
            seed = int(torch.randint(2**31, ()))
            predictor = refine(selected, train, refinement, seed=seed, progress=progress, checkpoint=checkpoint)
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
    likelihood, draws = posterior.model.likelihood, _DRAWS if posterior.num_draws is None else None
    weight = weights_of(likelihood, y)
    found = log_scores(posterior.predict(x, num_samples=draws, return_draws=True), targets_alone(likelihood, y))
    return found if weight is None else found * weight / weight.mean()  # whose mean is the weighted one
