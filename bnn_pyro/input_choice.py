"""choose_inputs: which input features the sampled network can do without, by rows that were held out."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from bnn_pyro.arguments import check_seed, check_types
from bnn_pyro.evaluation.metrics import paired_difference, standard_error
from bnn_pyro.inference.checks import Data, as_pair
from bnn_pyro.inference.generators import seeded
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.sampled import SampledPosterior
from bnn_pyro.posterior.scores import log_scores
from bnn_pyro.refinement import Refinement, refine

logger = logging.getLogger(__name__)

_REPEATS = 5  # permutations of a column
_DRAWS = 200  # that permuted columns are predicted with


@dataclass(frozen=True, eq=False)
class Trial:
    """A set of inputs that was tried.

    Attributes:
        inputs: Which features are read, bool, shape ``(features,)``.
        loss: Mean log score per held-out row that is lost against all inputs; negative where the few do better.
        error: Standard error: that of the loss, of paired rows, or that of the score of all inputs if it is smaller, so
            that a bad set is not excused by its own spread.
    """

    inputs: Tensor
    loss: float
    error: float

    @property
    def is_harmless(self) -> bool:
        """Whether no more is lost than one standard error."""
        return self.loss <= self.error


@dataclass(frozen=True, eq=False)
class InputChoice:
    """The inputs that are needed, and how that was found.

    Attributes:
        inputs: Which features are needed, bool, shape ``(features,)``.
        refined: The posterior of the pruned network that reads them, sampled on the rows that it was chosen by.
        importance: What a permuted column costs in log score per row, shape ``(features,)``; 0 of those not read.
        trials: The sets that were tried, in their order.
    """

    inputs: Tensor
    refined: SampledPosterior
    importance: Tensor
    trials: tuple[Trial, ...]


def choose_inputs(
    posterior: Posterior,
    data: Data,
    held_out: Data,
    settings: Refinement = Refinement(),  # noqa: B008  (frozen)
    *,
    order: Tensor | None = None,
    seed: int | None = None,
    progress: bool | None = None,
) -> InputChoice:
    r"""Drop the inputs that the sampled network predicts as well without.

    Gates on inputs are the wrong judge where a mean field has little confidence in what an input adds. Here the pruned
    network is sampled, its inputs are ranked by what held-out rows lose when a column is permuted
    (:func:`permutation_importance`), and networks that read the first k of them are sampled in their turn: k is found
    by bisection, as the smallest that loses at most one standard error in log score against all inputs. That takes
    about :math:`1 + \log_2` (features) runs of `refine`. As the same rows rank the inputs and judge the sets, the
    losses are a little optimistic.

    Args:
        posterior: The posterior that chooses the hidden nodes, of ``data`` alone.
        data: (x, y), the training rows.
        held_out: (x, y), the rows to judge by, which the posterior has not seen.
        settings: How networks are sampled.
        order: Numbers of the features from the most to the least needed, shape ``(features,)``, such as inclusion
            probabilities of a posterior with input gates give; None ranks them by permutation.
        seed: Seed of this call; None continues from the global random state.
        progress: Whether to show progress bars; None shows them on a terminal.

    Returns:
        The choice; `refine` it on all rows with ``inputs=choice.inputs``.

    Raises:
        ValueError: If the data do not fit, the inputs are no rows of features, or ``order`` is no order of them.

    Source: Breiman (2001), *Random forests*, for the importance of a permuted column.
    """
    check_types({"posterior": (posterior, Posterior), "settings": (settings, Refinement)})
    check_seed(seed, progress)
    layout = posterior.model.layout
    train, (x, y) = as_pair("data", data, layout), as_pair("held_out", held_out, layout)
    x, y = x.to(train[0]), y.to(train[1])
    if x.dim() != 2 or not layout.is_plain:
        got = tuple(x.shape) if layout.is_plain else layout
        raise ValueError(f"held_out must have inputs of shape (rows, features), got {got}")
    features = x.shape[1]
    if order is not None and (
        order.dtype != torch.int64
        or order.shape != (features,)
        or not torch.equal(order.sort().values, _numbers(order))
    ):
        raise ValueError(f"order must have each of the numbers 0 to {features - 1} once, got {order.tolist()}")
    with seeded(seed, x.device):
        own_seed = int(torch.randint(2**31, (), device="cpu"))
        whole = refine(posterior, train, settings, seed=own_seed, progress=progress)
        everything, importance = _scores(whole, x, y), permutation_importance(whole, x, y)
        read = _read(whole, features)
        ranked = importance.argsort(descending=True) if order is None else order.to(x.device)
        ranked = ranked[read[ranked]]
        best, found, trials = whole, read, []
        low, high = 1, len(ranked)  # the smallest number that is harmless lies between them
        while low < high:
            count = (low + high) // 2
            inputs = torch.zeros_like(read).index_fill(0, ranked[:count], True)
            candidate = refine(posterior, train, settings, inputs=inputs, seed=own_seed, progress=progress)
            loss, error = paired_difference(everything, _scores(candidate, x, y))
            trial = Trial(inputs, loss, min(error, standard_error(everything)))
            logger.info("%d of %d inputs lose %.4f (%.4f)", count, features, trial.loss, trial.error)
            trials.append(trial)
            if trial.is_harmless:
                best, found, high = candidate, inputs, count
            else:
                low = count + 1
    return InputChoice(found, best, importance, tuple(trials))


@torch.no_grad()
def permutation_importance(posterior: Posterior, x: Tensor, y: Tensor) -> Tensor:
    """Return what each input adds: the log score per row that is lost when its column is permuted.

    Args:
        posterior: The posterior that predicts.
        x: Inputs, shape ``(rows, features)``.
        y: Observations, shape ``(rows,)``.

    Returns:
        Means over five permutations from the global random state, shape ``(features,)``; 0 of inputs that are not read.
    """
    before = _scores(posterior, x, y).mean()
    losses = torch.zeros(x.shape[1], dtype=before.dtype, device=before.device)
    for feature in _read(posterior, x.shape[1]).nonzero().flatten().tolist():
        for _ in range(_REPEATS):
            permuted = x.clone()
            permuted[:, feature] = x[torch.randperm(len(x), device="cpu").to(x.device), feature]
            losses[feature] += (before - _scores(posterior, permuted, y).mean()) / _REPEATS
    return losses


def _scores(posterior: Posterior, x: Tensor, y: Tensor) -> Tensor:
    draws = min(_DRAWS, posterior.num_draws or _DRAWS)
    return log_scores(posterior.predict(x, num_samples=draws, return_draws=True), y)


def _read(posterior: Posterior, features: int) -> Tensor:
    """Return which features the network reads."""
    selection, device = posterior.model.selection, next(posterior.model.net.parameters()).device
    if selection is None:
        return torch.ones(features, dtype=torch.bool, device=device)
    return torch.zeros(features, dtype=torch.bool, device=device).index_fill(0, selection, True)


def _numbers(order: Tensor) -> Tensor:
    return torch.arange(len(order), dtype=order.dtype, device=order.device)
