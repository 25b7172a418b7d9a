"""What is measured of a run: quality, calibration, sparsity and cost."""

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from bnn_pyro.data import TableEncoding
from bnn_pyro.evaluation.cost import Latency, compare_cost, measure_latency, nodes_kept, one_sided_parameters
from bnn_pyro.evaluation.metrics import paired_difference
from bnn_pyro.evaluation.scale import largest_rms, mean_and_sd
from bnn_pyro.likelihoods import Classes, Mixture, Normals
from bnn_pyro.likelihoods.base import latent_site
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.predictive_net import PredictiveNet
from bnn_pyro.posterior.sampled import SampledPosterior
from bnn_pyro.posterior.scores import log_scores, scores
from bnn_pyro.reports.plots import Curve
from bnn_pyro.reports.predictions import Prediction, calibration_curves, output_of, predict_draws, predict_net
from bnn_pyro.reports.refined_measures import measure_refined
from bnn_pyro.reports.run_warnings import run_warnings, worse_than_dense, worse_than_draws

logger = logging.getLogger(__name__)

LATENCY_BATCHES = (1, 256)

NUM_SAMPLES = 32
"""Draws of a guide that the scores of a run are averaged over."""


_LATENCY_REPEATS = 101

_T = TypeVar("_T")
Metrics = dict[str, Any]
"""The numbers of ``metrics.json`` by name: JSON values, of which each name has its own kind."""


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run, ready to be measured and written down.

    Args:
        posterior: The fitted posterior.
        pruned: The network pruned from it.
        dense: The dense network, which the run may have started from, to compare cost and quality with.
        test: (x, y): the rows to measure on, on the networks' device.
        input_shape: Shape of one datum before it was flattened, for the picture of the first layer; None for that of x.
        y_std: Factor by which the targets were divided; errors are reported on their original scale.
        dense_noise: The likelihood's noise for the dense network, in its own shape, as of
            `bnn_pyro.recipes.dense_training.training_noise`; needed where the noise is learned.
        num_samples: Draws that the posterior's predictions are averaged over.
        y_mean: What was taken away from the targets before they were divided, for the picture of the bands.
        train_x: Inputs of training rows, or of some of them, for the same picture; None for those of test.
        train_y: Their targets, whose scale is looked at; None leaves that out.
        validation: (x, y): held-out rows on which the pruned network is compared with the dense one; None for test.
        refined: The posterior of the pruned network, sampled; None if it was not.
        reference: The posterior of the whole network, sampled, to compare with; None if it was not.
        path: Points of the sparsity path that chose the KL weight, as `bnn_pyro.sparsity_path.SparsityPath.records`
            gives them; None if there was none.
        input_trial: What held-out rows said of dropping inputs, as `bnn_pyro.recipes.input_trial.InputTrial.record`
            gives it; None if they were not asked.
        noise_trial: The same of a noise that varies, of `bnn_pyro.recipes.noise_trial.NoiseTrial.record`.
        not_refined: Why it was not refined though asked for, in words; empty otherwise.
        encoding: How the columns of a table became the inputs, so that programs can take raw numbers; None for images.
    """

    posterior: Posterior
    pruned: nn.Module
    dense: nn.Module
    test: tuple[Tensor, Tensor]
    input_shape: tuple[int, ...] | None = None
    y_std: float = 1.0
    dense_noise: Tensor | None = None
    num_samples: int = NUM_SAMPLES
    y_mean: float = 0.0
    train_x: Tensor | None = None
    train_y: Tensor | None = None
    validation: tuple[Tensor, Tensor] | None = None
    refined: SampledPosterior | None = None
    reference: SampledPosterior | None = None
    not_refined: str = ""
    encoding: TableEncoding | None = None
    path: Sequence[Mapping[str, Any]] | None = None
    input_trial: Mapping[str, Any] | None = None
    noise_trial: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured of a run.

    Args:
        metrics: The numbers of `metrics.json`.
        curves: Calibration of the dense network, the median model and the posterior's draws, by name; of a refined run
            also of the refined network, and of the whole network where that was sampled.
        ensemble: The program of the refined network's draws; None if there is none.
    """

    metrics: Metrics
    curves: dict[str, Curve]
    ensemble: PredictiveNet | None = None


# ---- measuring -------------------------------------------------------------------------------------------------------
def evaluate_run(run: Run) -> Evaluation:
    """Measure quality, sparsity and cost of a run.

    `test_*` are the scores of the median-probability model, `posterior_test_*` those of the mean over draws,
    `dense_test_*` and `pruned_test_*` those of the dense and of the pruned network. `params_kept` and `flops_kept` are
    fractions of the dense network, counted two-sided (a weight counts if both its nodes live);
    `params_kept_one_sided` counts a weight if the node that it writes lives. `latency_ratio` is the pruned network's
    time over the dense one's for a batch of 256, both measured in turns. `chains` is there where the posterior's draws
    are of several Markov chains: the pruned network is then a single draw. Of a refined run there are the measures
    of `bnn_pyro.reports.refined_measures.measure_refined` too; `not_refined` says why it is none though asked for.

    `pruned_minus_dense_nll`, and of normals `pruned_minus_dense_mse`, is the mean difference of the
    test rows' negative log scores, or squared errors, and its standard error; `validation_pruned_minus_dense_*` the
    same of the validation rows where there are some. `input_rms` is the largest root mean square of an input column,
    `target_mean_sd` mean and standard deviation of the targets as the networks saw them. `warnings` are those of
    `bnn_pyro.reports.run_warnings.run_warnings`. Those that nothing else has logged are logged: that the pruned network
    is worse than the dense one, or than the mean over draws. `input_trial` has the gain in log score per
    held-out row by dropping inputs, where that was tried, and its standard error; `noise_trial` that by a noise that
    varies.

    Args:
        run: The finished run.

    Returns:
        The metrics, and the calibration curves that belong to them.
    """
    x, y = run.test
    predictions = _predictions(run)
    metrics: Metrics = _prefixed("test", run.posterior.evaluate_median(x, y, y_std=run.y_std))
    for prefix, prediction in predictions.items():
        metrics |= _prefixed(f"{prefix}_test", scores(prediction, y, y_std=run.y_std))
    metrics |= _sparsity(run) | _cost(run)
    metrics |= {"kl_weight": run.posterior.kl_weight, "tempered": run.posterior.tempered}
    if run.posterior.temperature is not None:
        metrics["temperature"] = run.posterior.temperature
    if run.posterior.chains > 1:
        metrics["chains"] = run.posterior.chains
    metrics |= _against_dense(run, run.test, predictions)
    if run.validation is not None:
        metrics |= _prefixed(
            "validation", _against_dense(run, run.validation, _net_predictions(run, run.validation[0]))
        )
    metrics |= _scales(run)
    for name, trial in (("input_trial", run.input_trial), ("noise_trial", run.noise_trial)):
        if trial is not None:
            metrics[name] = dict(trial)
    for warning in (worse_than_dense(metrics), worse_than_draws(metrics)):
        if warning:
            logger.warning(warning)
    difference = output_of(run.pruned, x) - output_of(run.posterior.median_model(), x)
    metrics["pruned_max_abs_diff"] = float(difference.abs().max())
    ensemble, curves = None, calibration_curves(predictions, y, num_samples=run.num_samples)
    if run.refined is not None:
        nets = {"pruned": run.pruned, "dense": run.dense}
        measured = measure_refined(run.refined, predictions, nets, run.test, y_std=run.y_std, reference=run.reference)
        metrics, ensemble, curves = metrics | measured.metrics, measured.ensemble, curves | measured.curves
    elif run.not_refined:
        metrics["not_refined"] = run.not_refined
    metrics["warnings"] = run_warnings(metrics)
    return Evaluation(metrics, curves, ensemble)


def _predictions(run: Run) -> dict[str, Prediction]:
    """Return what the dense network, the pruned network and the posterior predict."""
    x, _ = run.test
    return {"posterior": predict_draws(run.posterior, x, run.num_samples), **_net_predictions(run, x)}


def _net_predictions(run: Run, x: Tensor) -> dict[str, Prediction]:
    """Return what the pruned and the dense network predict."""
    likelihood = run.posterior.model.likelihood
    site = latent_site(likelihood)
    noise = None if site is None else run.posterior.median_values()[site]
    return {
        "pruned": predict_net(run.pruned, likelihood, x, noise),
        "dense": predict_net(run.dense, likelihood, x, run.dense_noise),
    }


def _against_dense(
    run: Run, rows: tuple[Tensor, Tensor], predictions: Mapping[str, Prediction]
) -> dict[str, list[float | None]]:
    """Return how much worse the pruned network is than the dense one, with the standard error of that."""
    _, y = rows
    pruned, dense = predictions["pruned"], predictions["dense"]
    if isinstance(pruned, Classes | Mixture):
        name, pair = "nll", paired_difference(log_scores(dense, y), log_scores(pruned, y))
    else:
        errors = [run.y_std**2 * _squared_errors(prediction, y) for prediction in (pruned, dense)]
        name, pair = "mse", paired_difference(*errors)
    return {f"pruned_minus_dense_{name}": [value if math.isfinite(value) else None for value in pair]}


def _squared_errors(prediction: Prediction, y: Tensor) -> Tensor:
    if not isinstance(prediction, Normals):
        raise TypeError(f"squared errors are of normals, got {type(prediction).__name__}")
    return (prediction.mean.mean(0) - y).square()


def _scales(run: Run) -> dict[str, object]:
    """Return the scales of what the networks were trained on."""
    found: dict[str, object] = {"input_rms": largest_rms(run.test[0] if run.train_x is None else run.train_x)}
    if run.train_y is not None and run.train_y.is_floating_point():
        found["target_mean_sd"] = list(mean_and_sd(run.train_y))
    return found


def _prefixed(prefix: str, scored: Mapping[str, _T]) -> dict[str, _T]:
    return {f"{prefix}_{name}": value for name, value in scored.items()}


def _sparsity(run: Run) -> dict[str, object]:
    inclusion = {name: gamma.cpu() for name, gamma in run.posterior.inclusion().items()}
    return {
        "nodes_kept": nodes_kept(kept_on_cpu(run.posterior)),
        "inclusion": {name: [round(float(value), 6) for value in gamma] for name, gamma in inclusion.items()},
    }


def kept_on_cpu(posterior: Posterior) -> dict[str, Tensor]:
    return {name: mask.cpu() for name, mask in posterior.keep().items()}


def _cost(run: Run) -> dict[str, object]:
    """Count and time the pruned network beside the dense one."""
    x, _ = run.test
    cost = compare_cost(run.dense, run.pruned, x[:1])
    one_sided = one_sided_parameters(copy.deepcopy(run.dense).cpu(), _alive_rows(run.posterior))
    times = {size: measure_latency(_nets(run), _batch(x, size), repeats=_LATENCY_REPEATS) for size in LATENCY_BATCHES}
    return {
        "params_kept": cost.params_kept,
        "params_kept_one_sided": one_sided / cost.dense.parameters,
        "flops_kept": cost.flops_kept,
        "params": [cost.pruned.parameters, cost.dense.parameters],
        "flops": [cost.pruned.flops, cost.dense.flops],
        "latency_ratio": _ratio(times[256]),
        "latency_ratio_batch_1": _ratio(times[1]),
        "latency_ms": {str(size): [1e3 * t["pruned"].median, 1e3 * t["dense"].median] for size, t in times.items()},
    }


def _nets(run: Run) -> dict[str, nn.Module]:
    return {"dense": run.dense, "pruned": run.pruned}


def _batch(x: Tensor, size: int) -> Tensor:
    """Return a batch of rows of x, which are repeated if there are too few."""
    return x[torch.arange(size, device=x.device) % len(x)]


def _ratio(times: Mapping[str, Latency]) -> float:
    return times["pruned"].median / times["dense"].median


def _alive_rows(posterior: Posterior) -> dict[str, Tensor]:
    """Return which rows of each parameter belong to kept nodes, for the one-sided count."""
    rows: dict[str, Tensor] = {}
    for name, mask in kept_on_cpu(posterior).items():
        for axis in posterior.model.groups[name].writers:
            if axis.dim == 0:
                alive = axis.spread(mask.to(axis.index.device)).cpu()
                rows[axis.parameter] = rows.get(axis.parameter, torch.ones_like(alive)) & alive
    return rows
