"""Refine a finished run: sample its pruned network, measure it and write it into the run's folder."""

import dataclasses
import math
import os
from pathlib import Path

from torch import nn

from bnn_pyro.arguments import check_path, check_seed, check_types
from bnn_pyro.data import Dataset
from bnn_pyro.fields import check_fields
from bnn_pyro.inference.generators import seeded
from bnn_pyro.likelihoods import NOISE_SITE
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.files import load_posterior
from bnn_pyro.posterior.sampled import SampledPosterior
from bnn_pyro.recipes.config_file import Config, read_config, refinement_values
from bnn_pyro.recipes.definition import Recipe
from bnn_pyro.recipes.dense_training import training_noise
from bnn_pyro.recipes.loading import DENSE, load_dense, load_pruned, load_run
from bnn_pyro.recipes.runs import shown_rows
from bnn_pyro.refinement import Refinement, refine, selected_network
from bnn_pyro.reports.dependence_file import DEPENDENCE_FILE, draw_dependence
from bnn_pyro.reports.figures import write_figure
from bnn_pyro.reports.folder import write_json, write_page
from bnn_pyro.reports.measures import NUM_SAMPLES, Metrics
from bnn_pyro.reports.plots import plot_calibration
from bnn_pyro.reports.predictions import Prediction, calibration_curves, predict_draws, predict_net
from bnn_pyro.reports.refined_files import REFINED_FILES, draw_bands, save_refined, write_bands, write_ensemble
from bnn_pyro.reports.refined_measures import RefinedMeasures, measure_refined
from bnn_pyro.reports.refined_page import is_refined
from bnn_pyro.reports.run_warnings import run_warnings
from bnn_pyro.reports.tables import find_table
from bnn_pyro.storage import read_json

PARTIAL = "refine.partial"
"""The file, in a run's folder, of what a call of `refine_run` that was stopped is resumed from."""

_TOLERANCE = 1e-6  # of the scale of the targets, which JSON keeps in full


def refine_run(
    folder: str | Path,
    dataset: Dataset,
    refinement: Refinement = Refinement(),  # noqa: B008  (frozen)
    *,
    seed: int | None = None,
    replace: bool = False,
    progress: bool | None = None,
) -> Metrics:
    """Refine a run that is there already, on the CPU, and add the results to its folder.

    The folder gets `bnn_pyro.reports.refined_files.REFINED_FILES`; `metrics.json` gets the numbers of
    `bnn_pyro.reports.refined_measures.measure_refined` beside those that it has, `config.json` the settings, and
    `report.md` is written anew. A call that was stopped is resumed by the same call. Runs from before the dense network
    was written are compared without it.

    Args:
        folder: The folder that `run` or `bnn-pyro fit` wrote.
        dataset: The data of the run.
        refinement: How the posterior of the pruned network is sampled.
        seed: Seed of the call; None for the run's.
        replace: Whether a run that is refined already is refined again.
        progress: Whether to show progress bars; None shows them on a terminal.

    Returns:
        The metrics that `metrics.json` has.

    Raises:
        ValueError: If the folder holds no whole run, or one that is refined already, the data are not the run's, no
            node of a group is left, or a checkpoint is there from a call with other options.
    """
    check_path("folder", folder)
    check_types({"dataset": (dataset, Dataset), "refinement": (refinement, Refinement)})
    check_seed(seed, progress)
    path = Path(folder)
    config, settings = read_config(path)
    metrics = _metrics(path)
    if is_refined(metrics) and not replace:
        raise ValueError(f"run must not be refined already, got '{folder}': --force, or replace=True, refines it again")
    _check_data(dataset, config, settings)
    _check_columns(dataset, path)
    settings = dataclasses.replace(settings, refinement=refinement, refine_if_worth=False)
    seed = int(config["seed"]) if seed is None else seed
    posterior, train = load_run(path), settings.tensors(dataset.train)
    partial = path / PARTIAL
    sampled = refine(posterior, train, refinement, seed=seed, progress=progress, checkpoint=partial)
    kept = {name: value for name, value in metrics.items() if not _is_of_refinement(name)}
    write_json(kept, path / "metrics.json")  # metrics of the draws that are replaced now
    save_refined(sampled, path)
    config |= {"refinement": refinement_values(refinement), "refine_if_worth": False, "refinement_seed": seed}
    write_json(config, path / "config.json")
    with seeded(seed, train[0].device):
        measured = _measured(path, posterior, sampled, dataset, settings)
    metrics = {**kept, **measured.metrics}
    metrics["warnings"] = run_warnings(metrics)
    x = train[0]
    encoding = find_table(path)
    write_ensemble(measured.ensemble, x, path, encoding)
    rows, y_mean, y_std = shown_rows(x), dataset.y_mean, dataset.y_std
    write_bands(draw_bands(posterior, sampled, rows, y_mean=y_mean, y_std=y_std), path)
    dependence = draw_dependence(
        posterior,
        rows,
        input_shape=dataset.input_shape,
        refined=sampled,
        y_mean=y_mean,
        y_std=y_std,
        encoding=encoding,
    )
    write_figure(dependence, path / DEPENDENCE_FILE)
    write_figure(plot_calibration(measured.curves), path / "calibration.png")
    write_page(path, metrics, config, input_shape=x.shape[1:], num_samples=NUM_SAMPLES)
    write_json(metrics, path / "metrics.json")  # last, as it tells that the run is refined
    partial.unlink(missing_ok=True)
    return metrics


def _measured(
    folder: Path, posterior: Posterior, sampled: SampledPosterior, dataset: Dataset, settings: Recipe
) -> RefinedMeasures:
    """Measure a refined network beside the networks of its run that are there."""
    x, y = settings.tensors(dataset.test)
    likelihood, noise = posterior.model.likelihood, posterior.median_values().get(NOISE_SITE)
    nets: dict[str, nn.Module] = {"pruned": load_pruned(folder)}
    predictions: dict[str, Prediction] = {
        "posterior": predict_draws(posterior, x, NUM_SAMPLES),
        "pruned": predict_net(nets["pruned"], likelihood, x, noise),
    }
    if (folder / DENSE).is_dir():
        nets["dense"] = load_dense(folder)
        train = settings.tensors(dataset.train)
        own = training_noise(nets["dense"], train, likelihood)
        predictions["dense"] = predict_net(nets["dense"], likelihood, x, own)
    measured = measure_refined(sampled, predictions, nets, (x, y), y_std=dataset.y_std)
    curves = calibration_curves(predictions, y, num_samples=NUM_SAMPLES)
    return dataclasses.replace(measured, curves=curves | measured.curves)


def _metrics(folder: Path) -> Metrics:
    metrics: Metrics = read_json(folder / "metrics.json", what="the metrics.json of a run")
    check_fields(metrics, {}, f"'{folder / 'metrics.json'}'")
    return metrics


def _is_of_refinement(name: str) -> bool:
    return name.startswith(("refined_", "ensemble_", "program_")) or name == "not_refined"


def _check_data(dataset: Dataset, config: Config, settings: Recipe) -> None:
    """Raise unless data look like those that a run was made of."""
    found = {
        "task": dataset.task,
        "num_data": len(dataset.train),
        "input_shape": list(dataset.input_shape),
        "outputs": settings.outputs(dataset.num_classes),
    }
    wrong = [f"{name} {value}, not {config[name]}" for name, value in found.items() if config[name] != value]
    for name, number in {"y_mean": dataset.y_mean, "y_std": dataset.y_std}.items():
        if not math.isclose(number, config.get(name, number), rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
            wrong.append(f"{name} {number:g}, not {config[name]:g}")
    if wrong:
        raise ValueError(f"data must be those of the run, {config['data']!r}, got {dataset.name!r} with {wrong[0]}")


def _check_columns(dataset: Dataset, folder: Path) -> None:
    """Raise unless the inputs of data are made of the columns that a run's were made of."""
    table = find_table(folder)
    if table is not None and dataset.encoding is not None and table.feature_names != dataset.encoding.feature_names:
        pairs = zip(table.feature_names, dataset.encoding.feature_names, strict=True)
        wanted, found = next(pair for pair in pairs if pair[0] != pair[1])
        raise ValueError(
            f"data must be those of the run, with the input {wanted!r}, got {dataset.name!r} with {found!r}"
        )


# ---- back from a run's folder ----------------------------------------------------------------------------------------


def load_refined(folder: str | os.PathLike[str]) -> SampledPosterior:
    """Load the posterior of a run's pruned network from its folder, on the CPU.

    Args:
        folder: The folder of a run that `run`, `bnn-pyro fit --refine` or `bnn-pyro refine` has refined.

    Returns:
        The posterior.

    Raises:
        ValueError: If the folder holds no whole run, or one that is not refined.
    """
    check_path("folder", folder)
    path = Path(folder)
    _, settings = read_config(path)
    if settings.refinement is None or not (path / REFINED_FILES[0]).exists():
        raise ValueError(f"run must be refined, got '{folder}': bnn-pyro refine does it")
    model = selected_network(load_run(path), slab=settings.refinement.slab, likelihood=settings.refinement.likelihood)
    found = load_posterior(path / REFINED_FILES[0], model)
    if not isinstance(found, SampledPosterior):
        raise ValueError(f"path must be a file of a SampledPosterior, got '{path / REFINED_FILES[0]}'")
    return found
