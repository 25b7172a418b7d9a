"""The folder that a run leaves behind: what was measured, a page to read, pictures, and the networks themselves."""

import copy
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from bnn_pyro.ensemble import Ensemble
from bnn_pyro.evaluation.cost import Latency, compare_cost, measure_latency, nodes_kept, one_sided_parameters
from bnn_pyro.evaluation.metrics import (
    classification_metrics,
    coverage_curve,
    regression_metrics,
    reliability_curve,
)
from bnn_pyro.evaluation.page import page
from bnn_pyro.evaluation.plots import Curve, plot_calibration, plot_first_layer, plot_inclusion, plot_training
from bnn_pyro.export import export_net
from bnn_pyro.likelihoods import NOISE_SITE, Classes, Likelihood, Normals
from bnn_pyro.posterior import Posterior
from bnn_pyro.saving import save_net

RUN_FILES = (
    "config.json",
    "metrics.json",
    "checkpoint.pt",
    "pruned.pt2",
    "weights.safetensors",
    "architecture.json",
    "report.md",
    "training.png",
    "inclusion.png",
    "calibration.png",
    "first_layer.png",
)
"""The names of a run's files; a folder that has one of them holds a run."""

LATENCY_BATCHES = (1, 256)
_LATENCY_REPEATS = 101

Prediction = Classes | Normals


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run, ready to be measured and written down.

    Args:
        posterior: The fitted posterior.
        pruned: The network pruned from it.
        dense: The dense network, which the run may have started from, to compare cost and quality with.
        test: (x, y): the rows to measure on, on the networks' device.
        input_shape: Shape of one datum before it was flattened, for the picture of the first layer; None for that of x.
        y_std: Factor by which the targets were divided; errors are told on their original scale.
        dense_noise: Standard deviation of the dense network's errors, shape `()`; needed where the noise is learned.
        num_samples: Draws that the posterior's predictions are averaged over.
    """

    posterior: Posterior
    pruned: nn.Module
    dense: nn.Module
    test: tuple[Tensor, Tensor]
    input_shape: tuple[int, ...] | None = None
    y_std: float = 1.0
    dense_noise: Tensor | None = None
    num_samples: int = 32


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured of a run.

    Args:
        metrics: The numbers of `metrics.json`.
        curves: Calibration of the dense network, the median model and the posterior's draws, by name.
    """

    metrics: dict[str, Any]
    curves: dict[str, Curve]


# ---- measuring -------------------------------------------------------------------------------------------------------


def evaluate_run(run: Run) -> Evaluation:
    """Measure quality, sparsity and cost of a run.

    `test_*` are the scores of the median-probability model, `posterior_test_*` those of the mean over draws,
    `dense_test_*` and `pruned_test_*` those of the dense and of the pruned network. `params_kept` and `flops_kept` are
    fractions of the dense network, counted two-sided (a weight counts if both its nodes live);
    `params_kept_one_sided` counts a weight if the node that it writes lives. `latency_ratio` is the pruned network's
    time over the dense one's for a batch of 256, both measured in turns.

    Args:
        run: The finished run.

    Returns:
        The metrics, and the calibration curves that belong to them.
    """
    x, y = run.test
    predictions = _predictions(run)
    metrics: dict[str, Any] = _prefixed("test", run.posterior.evaluate(x, y, y_std=run.y_std))
    for prefix, prediction in predictions.items():
        metrics |= _prefixed(f"{prefix}_test", _scores(prediction, y, run.y_std))
    metrics |= _sparsity(run) | _cost(run)
    metrics |= {"kl_weight": run.posterior.kl_weight, "tempered": run.posterior.tempered}
    if isinstance(run.posterior, Ensemble):
        metrics["temperature"] = run.posterior.temperature
    metrics["pruned_max_abs_diff"] = float(
        (_output(run.pruned, x) - _output(run.posterior.median_model(), x)).abs().max()
    )
    shown = {"dense": "dense net", "pruned": "median model", "posterior": f"{run.num_samples} draws"}
    return Evaluation(metrics, {name: _curve(predictions[key], y) for key, name in shown.items()})


def _predictions(run: Run) -> dict[str, Prediction]:
    """Return what the dense network, the pruned network and the posterior predict."""
    x, _ = run.test
    likelihood = run.posterior.model.likelihood
    noise = run.posterior.median_values().get(NOISE_SITE)
    drawn = run.posterior.predict(x, num_samples=run.num_samples, return_draws=True)
    return {
        "posterior": drawn if isinstance(drawn, Normals) else Classes(*drawn),
        "pruned": _predict(run.pruned, likelihood, x, noise),
        "dense": _predict(run.dense, likelihood, x, run.dense_noise),
    }


def _predict(net: nn.Module, likelihood: Likelihood, x: Tensor, noise: Tensor | None) -> Prediction:
    return likelihood.predict(_output(net, x).unsqueeze(0), None if noise is None else noise.reshape(1))


@torch.no_grad()
def _output(net: nn.Module, x: Tensor, batch_size: int = 1024) -> Tensor:
    return torch.cat([net(rows) for rows in x.split(batch_size)])


def _scores(prediction: Prediction, y: Tensor, y_std: float) -> dict[str, float]:
    if isinstance(prediction, Classes):
        return classification_metrics(prediction.probabilities, y)
    return regression_metrics(prediction.mean, prediction.sd, y, y_std=y_std)


def _curve(prediction: Prediction, y: Tensor) -> Curve:
    if isinstance(prediction, Classes):
        return reliability_curve(prediction.probabilities, y)
    return coverage_curve(prediction.mean, prediction.sd, y)


def _prefixed(prefix: str, scores: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}_{name}": value for name, value in scores.items()}


def _sparsity(run: Run) -> dict[str, Any]:
    inclusion = {name: gamma.cpu() for name, gamma in run.posterior.inclusion().items()}
    return {
        "nodes_kept": nodes_kept(_keep(run.posterior)),
        "inclusion": {name: [round(float(value), 6) for value in gamma] for name, gamma in inclusion.items()},
    }


def _keep(posterior: Posterior) -> dict[str, Tensor]:
    return {name: mask.cpu() for name, mask in posterior.keep().items()}


def _cost(run: Run) -> dict[str, Any]:
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
    for name, mask in _keep(posterior).items():
        for axis in posterior.model.groups[name].writers:
            if axis.dim == 0:
                alive = axis.spread(mask.to(axis.index.device)).cpu()
                rows[axis.parameter] = rows.get(axis.parameter, torch.ones_like(alive)) & alive
    return rows


# ---- the folder ------------------------------------------------------------------------------------------------------


def check_run_folder(out: str | Path) -> Path:
    """Check that a run may be written into a folder: it need not exist, and must not hold a run.

    Args:
        out: The folder.

    Returns:
        Its absolute path.

    Raises:
        ValueError: If the folder holds a file of a run, is no folder, or cannot be written to.
    """
    folder = Path(out).resolve()
    if folder.is_dir():
        found = [name for name in RUN_FILES if (folder / name).exists()]
        if found:
            raise ValueError(
                f"out must not hold a run already, got '{out}' with {found[0]}; name another folder or remove it"
            )
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise ValueError(f"out must be a folder that can be written to, got '{out}': '{above}' is not such a folder")
    return folder


@contextmanager
def run_folder(out: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside the wanted one, and rename it when all is written; if not, remove it.

    A folder that exists (and holds no run) is kept: the files are moved into it.

    Args:
        out: The folder to end up with.

    Yields:
        The folder to write into.

    Raises:
        ValueError: If the wanted folder holds a run, is no folder, or cannot be written to.
    """
    folder = check_run_folder(out)
    beside = folder if folder.is_dir() else folder.parent
    temporary = beside / f".{folder.name}-{uuid.uuid4().hex[:8]}"
    temporary.mkdir(parents=True)
    try:
        yield temporary
        check_run_folder(out)  # another run may have ended there meanwhile
        if folder.is_dir():
            for path in temporary.iterdir():
                path.rename(folder / path.name)
        else:
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_report(
    out: str | Path,
    run: Run,
    evaluation: Evaluation,
    *,
    config: Mapping[str, Any],
    save_checkpoint: Callable[[Path], object] | None = None,
) -> Path:
    """Write a run's folder: `RUN_FILES`, or what of them applies.

    All of it is written beside the folder first and then moved, so that a failure leaves nothing half done.

    Args:
        out: The folder; it need not exist, and must not hold a run.
        run: The finished run.
        evaluation: What `evaluate_run` measured of it.
        config: The settings of the run, JSON values by name; `data`, `net`, `prior` and `seed` stand in the title.
        save_checkpoint: Writes the posterior to the path it is given; None leaves the checkpoint out.

    Returns:
        The folder.

    Raises:
        ValueError: If the folder holds a run, is no folder, or cannot be written to.
    """
    with run_folder(out) as folder:
        figures = _figures(run, evaluation)
        (folder / "config.json").write_text(_json(config), encoding="utf-8")
        (folder / "metrics.json").write_text(_json(evaluation.metrics), encoding="utf-8")
        if save_checkpoint is not None:
            save_checkpoint(folder / "checkpoint.pt")
        export_net(run.pruned, run.test[0], folder / "pruned.pt2")
        save_net(run.pruned, folder)
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.png", dpi=150)
        text = page(
            evaluation.metrics,
            config,
            pictures=list(figures),
            input_shape=run.test[0].shape[1:],
            num_samples=run.num_samples,
            has_checkpoint=save_checkpoint is not None,
        )
        (folder / "report.md").write_text(text, encoding="utf-8")
    return Path(out)


def _json(values: Mapping[str, Any]) -> str:
    """Return JSON with one line a key, however long its value."""
    lines = (f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in values.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _figures(run: Run, evaluation: Evaluation) -> dict[str, Figure]:
    """Return the figures that apply to the run, by their file's stem."""
    figures: dict[str, Figure] = {}
    inclusion = run.posterior.inclusion()
    if run.posterior.history:
        totals = {name: len(gamma) for name, gamma in inclusion.items()}
        figures["training"] = plot_training(run.posterior.history, totals)
    if inclusion:
        figures["inclusion"] = plot_inclusion(inclusion)
    figures["calibration"] = plot_calibration(evaluation.curves)
    first_layer = _first_layer(run)
    if first_layer is not None:
        figures["first_layer"] = first_layer
    return figures


def _first_layer(run: Run) -> Figure | None:
    """Return the picture of the layer that reads the inputs, or None if there is none, or nothing left of it."""
    shape = run.input_shape or tuple(run.test[0].shape[1:])
    size = math.prod(shape)
    layers = (module for module in run.posterior.median_model().modules() if isinstance(module, nn.Linear))
    weight = next((layer.weight for layer in layers if layer.in_features == size), None)
    masks = (mask for name, mask in _keep(run.posterior).items() if not run.posterior.model.groups[name].writers)
    keep_inputs = next(masks, None)
    if weight is None or not weight.any() or (keep_inputs is not None and keep_inputs.shape != (size,)):
        return None
    return plot_first_layer(weight, shape, keep_inputs, weight.any(1))
