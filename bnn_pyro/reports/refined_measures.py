"""What is measured of a refined network: scores, differences from the others, mixing, and the cost of its program."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from bnn_pyro.evaluation.metrics import paired_difference
from bnn_pyro.posterior.diagnostics import LEAST_DRAWS, r_hat_summary
from bnn_pyro.posterior.predictive_net import PredictiveNet, predictive_net
from bnn_pyro.posterior.sampled import SampledPosterior, some_rows
from bnn_pyro.posterior.scores import draws_in, log_scores, of_one_form, scores
from bnn_pyro.reports.plots import Curve
from bnn_pyro.reports.predictions import Prediction, calibration_curves
from bnn_pyro.reports.program_costs import program_costs

logger = logging.getLogger(__name__)

ENSEMBLE_DRAWS = 100
IMAGE_DRAWS = 20  # of networks that read images, whose programs are as long as their draws are many
SCORED_DRAWS = 400  # at most, so that memory does not grow with the chains


@dataclass(frozen=True, eq=False)
class RefinedMeasures:
    """What was measured of a refined network.

    Args:
        metrics: The numbers for `metrics.json`.
        ensemble: Its program, of thinned draws; None where it cannot be exported.
        curves: Its calibration, and that of the whole network where that was sampled, by name.
    """

    metrics: dict[str, Any]
    ensemble: PredictiveNet | None
    curves: dict[str, Curve]


def measure_refined(
    refined: SampledPosterior,
    predictions: Mapping[str, Prediction],
    nets: Mapping[str, nn.Module],
    test: tuple[Tensor, Tensor],
    *,
    y_std: float = 1.0,
    reference: SampledPosterior | None = None,
) -> RefinedMeasures:
    """Measure a refined network beside what it came from.

    `refined_test_*` and `reference_test_*` are the scores of the mean over draws, 400 at most, evenly spaced over all
    chains; `refined_scored_draws` is how many they were. `refined_minus_NAME_nll` is the mean difference of the rows'
    negative log scores between the refined network and the prediction of that name, and its standard error: below 0 the
    refined network is better. `refined_r_hat` has the median and the 95 % quantile of R-hat of its predictions on 256
    test rows at most, over all draws, None where there is none. `refined_weights` says how the chains are weighted,
    `"equal"`, `"stacking"`, or `"given"` where the weights are the caller's own, and `refined_largest_weight` is the
    largest weight; of stacking `refined_unreliable_rows` has the number of training rows whose Pareto k is above 0.7
    for most of the weight, and of all of them. `refined_seconds` are those of sampling. `ensemble_draws` is how many
    draws the program has, 0 where there is none; `program_bytes` and `program_latency_ms` set it beside the programs of
    the other networks.

    Args:
        refined: The posterior of the pruned network.
        predictions: What the others predict on the test rows, by their names in `metrics.json`.
        nets: Networks whose programs are compared with the ensemble's, by name.
        test: (x, y): the rows to measure on.
        y_std: Factor by which the targets were divided; errors are reported on their original scale.
        reference: The posterior of the whole network, sampled; None if it was not.
    """
    x, y = test
    drawn = {"refined": refined} | ({} if reference is None else {"reference": reference})
    found = {n: of_one_form(p.predict(x, num_samples=SCORED_DRAWS, return_draws=True)) for n, p in drawn.items()}
    metrics: dict[str, Any] = {}
    for prefix, prediction in found.items():
        scored = scores(prediction, y, y_std=y_std)
        metrics |= {f"{prefix}_test_{name}": value for name, value in scored.items()}
        metrics[f"{prefix}_draws"] = drawn[prefix].num_draws
        metrics[f"{prefix}_scored_draws"] = draws_in(prediction)
        metrics |= _weights(prefix, drawn[prefix])
    metrics |= {"refined_chains": refined.chains, "refined_seconds": refined.draws.seconds}
    metrics["refined_r_hat"] = _r_hat(refined, x)
    curves = calibration_curves(found, y)
    own = log_scores(found.pop("refined"), y, y_std=y_std)
    for name, other in {**predictions, **found}.items():
        difference = paired_difference(log_scores(other, y, y_std=y_std), own)
        metrics[f"refined_minus_{name}_nll"] = list(difference)
    ensemble, costs = _ensemble(refined, nets, x)
    return RefinedMeasures({**metrics, **costs}, ensemble, curves)


def _r_hat(refined: SampledPosterior, x: Tensor) -> list[float | None]:
    """Return the median and the 95 % quantile of R-hat of the predictions on some rows."""
    if refined.draws.energy.shape[1] < LEAST_DRAWS:
        return [None, None]
    summary = r_hat_summary(refined.prediction_r_hat(some_rows(x)))
    return [value if math.isfinite(value) else None for value in summary]


def _weights(prefix: str, sampled: SampledPosterior) -> dict[str, Any]:
    """Return how the chains are weighted."""
    weights, stacking = sampled.chain_weights, sampled.stacking
    kind = "equal" if weights is None else "given" if stacking is None else "stacking"
    largest = 1 / sampled.chains if weights is None else float(weights.max())
    found: dict[str, Any] = {f"{prefix}_weights": kind, f"{prefix}_largest_weight": largest}
    if stacking is not None:
        found[f"{prefix}_unreliable_rows"] = [stacking.unreliable, stacking.pareto_k.shape[1]]
    return found


def _ensemble(
    refined: SampledPosterior, nets: Mapping[str, nn.Module], x: Tensor
) -> tuple[PredictiveNet | None, dict[str, Any]]:
    """Return the program of some draws with its cost; a run is not to be lost because of it."""
    draws = ENSEMBLE_DRAWS if len(refined.model.input_shape) == 1 else IMAGE_DRAWS
    try:
        ensemble = predictive_net(refined, draws=draws)
        costs = program_costs({"ensemble": ensemble, **nets}, x)
    except Exception as error:  # whatever the network's operations make torch.export raise
        logger.warning("the refined network is not written as a program: %s", error)
        return None, {"ensemble_draws": 0}
    return ensemble, {"ensemble_draws": ensemble.draws, **costs}
