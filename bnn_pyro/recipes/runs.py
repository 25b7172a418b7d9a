"""The whole main job: from a data set to a pruned network and its report, and back from the run's folder."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnn_pyro.data import Dataset
from bnn_pyro.devices import checked_device
from bnn_pyro.evaluation.spacing import evenly_spaced
from bnn_pyro.export import load_net
from bnn_pyro.inference.generators import seeded
from bnn_pyro.inference.sgmcmc.fit import fit_sghmc
from bnn_pyro.inference.svi.elbo import SparseELBO
from bnn_pyro.inference.svi.fit import fit
from bnn_pyro.inference.training.compute import Compute
from bnn_pyro.inference.training.dense import train_dense
from bnn_pyro.inference.training.processes import Processes
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.empty_groups import empty_groups
from bnn_pyro.posterior.files import load_posterior, save_posterior
from bnn_pyro.posterior.prune import prune
from bnn_pyro.recipes.config_file import config_of, read_config
from bnn_pyro.recipes.definition import Recipe
from bnn_pyro.recipes.dense_training import training_noise
from bnn_pyro.recipes.input_trial import InputTrial
from bnn_pyro.recipes.kl_weight_choice import choose_kl_weight
from bnn_pyro.recipes.noise_trial import NoiseTrial
from bnn_pyro.recipes.trials import hold_trials
from bnn_pyro.refinement import is_worth_refining, refine, sample_whole
from bnn_pyro.reports.folder import check_run_folder, write_report
from bnn_pyro.reports.measures import Metrics, Run, evaluate_run

logger = logging.getLogger(__name__)

DENSE = "dense"
"""The folder, in that of a run, of the dense network's weights."""

_SHOWN_ROWS = 2_000  # training rows that a picture is made of, at most


def run(
    dataset: Dataset,
    settings: Recipe,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    out: str | Path | None = None,
    progress: bool | None = None,
) -> Metrics:
    """Do the main job: train a dense net, fit the posterior from it, prune, measure, write the run's folder.

    With `settings.refinement` the posterior of the pruned network is sampled too, on the training rows. Where a group
    has no node left, or the network cannot be sampled, that is skipped with a warning.

    Where `settings.select_inputs` or `settings.noise` is left open, it is decided first, by
    `bnn_pyro.recipes.trials.hold_trials` on the training rows.

    With `settings.path` the KL weight is chosen first, by `bnn_pyro.recipes.kl_weight_choice.choose_kl_weight` on the
    training rows. What follows is the run at that KL weight, on all training rows: the same as one that was given it.

    Where `torch.distributed` is initialised, its processes share the training; the first one measures and writes.
    Neither the global random state nor Pyro's parameter store is changed.

    Args:
        dataset: The data, as `bnn_pyro.data.load` gives it; validation rows are watched but not learnt from.
        settings: The settings, such as `recipe` gives.
        seed: Seed of the whole run.
        device: Where to train, such as `"cpu"`, `"cuda"` or `"cuda:1"`.
        out: Folder to write (see `bnn_pyro.reports.folder.write_report`); None writes nothing.
        progress: Whether to show progress bars; None shows them on a terminal.

    Returns:
        The metrics, as they stand in the folder's `metrics.json`.

    Raises:
        ValueError: If the folder holds a run, there is no such device, or data and settings do not fit each other.
    """
    start = time.perf_counter()
    device = checked_device(device)
    processes = Processes.found(device=device)
    if out is not None:
        check_run_folder(out)
    settings, found = _chosen(dataset, settings, seed, device, progress)
    with seeded(seed, device):
        finished = _trained(dataset, settings, seed, device, progress)
        if not processes.is_first:
            return processes.broadcast({})
        finished = replace(finished, **found)
        evaluation = evaluate_run(finished)
    evaluation.metrics["seconds"] = time.perf_counter() - start
    processes.broadcast(evaluation.metrics)
    if out is not None:
        config = config_of(dataset, settings, seed=seed, device=device)
        save = partial(save_posterior, finished.posterior)
        write_report(out, finished, evaluation, config=config, save_checkpoint=save)
    return evaluation.metrics


def train_run(
    dataset: Dataset,
    settings: Recipe,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool | None = None,
) -> Run:
    """Do the main job as `run` does, but measure and write nothing; the data need no test rows then.

    Where `torch.distributed` is initialised, its processes share the training; the first one alone refines.

    Args:
        dataset: The data, as for `run`.
        settings: The settings.
        seed: Seed of the whole run.
        device: Where to train, such as `"cpu"`, `"cuda"` or `"cuda:1"`.
        progress: Whether to show progress bars; None shows them on a terminal.

    Returns:
        The finished run: the posterior, the pruned and the dense network, and the refined posterior or the reason why
        there is none.

    Raises:
        ValueError: If there is no such device, or data and settings do not fit each other.
    """
    device = checked_device(device)
    settings, found = _chosen(dataset, settings, seed, device, progress)
    with seeded(seed, device):
        return replace(_trained(dataset, settings, seed, device, progress), **found)


def _chosen(
    dataset: Dataset, settings: Recipe, seed: int, device: torch.device, progress: bool | None
) -> tuple[Recipe, dict[str, Any]]:
    """Return the settings with what held-out rows choose, and what a run keeps of that: trials and path."""
    if settings.schedule.patience is not None and dataset.validation is None:  # before a path is followed for nothing
        raise ValueError("schedule.patience needs validation rows to watch, got data without them")
    found: dict[str, Any] = {}
    processes = Processes.found(device=device)
    how: dict[str, Any] = {"seed": seed, "device": device, "progress": progress}
    trials = hold_trials(dataset, settings, **how)
    found |= {"input_trial": _record(trials.inputs), "noise_trial": _record(trials.noise)}
    settings = processes.broadcast(trials).decide(settings)
    if settings.path is not None:
        path = choose_kl_weight(dataset, settings, **how)
        found["path"] = path.records(y_std=dataset.y_std)
        settings = settings.with_kl_weight(processes.broadcast(path.chosen.kl_weight))
    return settings, found


def _record(trial: InputTrial | NoiseTrial | None) -> dict[str, Any] | None:
    return None if trial is None else trial.record()


def _trained(dataset: Dataset, settings: Recipe, seed: int, device: torch.device, progress: bool | None) -> Run:
    processes = Processes.found(device=device)
    if settings.one_shot is not None and processes.count > 1:
        raise ValueError(f"method must be svi, whose work processes can share, got sghmc in {processes.count} of them")
    finished = _fit_and_prune(dataset, settings, seed, device, progress)
    return _refined(finished, dataset, settings, seed, progress) if processes.is_first else finished


def _fit_and_prune(dataset: Dataset, settings: Recipe, seed: int, device: torch.device, progress: bool | None) -> Run:
    train, test = (settings.tensors(part, device) for part in (dataset.train, dataset.test))
    likelihood = settings.likelihood(dataset.task)
    make_untrained = partial(
        settings.make_net, dataset.input_shape, settings.outputs(dataset.num_classes), inputs=dataset.train.x
    )
    dense = train_dense(
        make_untrained(),
        train,
        likelihood=likelihood,
        **asdict(settings.dense),
        augmentation=settings.augmentation,
        seed=seed,
        progress=progress,
    )
    start = dense if settings.one_shot is None else make_untrained().to(device)
    model = settings.make_model(start, train[0][:2], likelihood, len(dataset.train))
    validation = None if dataset.validation is None else settings.tensors(dataset.validation, device)
    posterior = _fit_with_nodes(partial(_fit, model, train, validation, seed=seed, progress=progress), settings)
    return Run(
        posterior,
        prune(posterior),
        dense,
        test,
        input_shape=dataset.input_shape,
        y_std=dataset.y_std,
        dense_noise=training_noise(dense, train, likelihood),
        y_mean=dataset.y_mean,
        train_x=shown_rows(train[0]),
        encoding=dataset.encoding,
        train_y=shown_rows(train[1]),
        validation=validation,
    )


def _refined(finished: Run, dataset: Dataset, settings: Recipe, seed: int, progress: bool | None) -> Run:
    """Return a run with its pruned network sampled, or with the reason why it is not."""
    if settings.refinement is None:
        return finished
    asked = settings.refine_if_worth
    is_worth, reason = is_worth_refining(finished.posterior, settings.refinement) if asked else (True, "")
    if not is_worth:
        logger.info("the pruned network is not refined: %s", reason)
        return replace(finished, not_refined=reason)
    train = settings.tensors(dataset.train, finished.test[0].device)
    try:
        sampled = refine(finished.posterior, train, settings.refinement, seed=seed, progress=progress)
    except Exception as error:  # whatever it is, the posterior that is there is not to be lost
        logger.warning("the pruned network is not refined: %s", error)
        return replace(finished, not_refined=str(error))
    if not settings.reference:
        return replace(finished, refined=sampled)
    model = settings.make_model(finished.dense, train[0][:2], settings.likelihood(dataset.task), len(dataset.train))
    try:
        whole = sample_whole(model, train, settings.refinement, seed=seed, progress=progress)
    except Exception as error:
        logger.warning("the whole network is not sampled: %s", error)
        return replace(finished, refined=sampled)
    return replace(finished, refined=sampled, reference=whole)


def shown_rows(x: Tensor) -> Tensor:
    """Return the rows that a picture is made of, at most 2,000, evenly spaced.

    Args:
        x: Inputs, shape ``(rows, *input_shape)``, or targets.
    """
    return x[evenly_spaced(len(x), _SHOWN_ROWS).to(x.device)]


def _fit_with_nodes(fit_at: Callable[[Recipe], Posterior], settings: Recipe) -> Posterior:
    """Return a posterior; where a group ends without a node, that at a tenth of the KL weight, and so on."""
    posterior, least = fit_at(settings), settings.least_kl_weight
    while least is not None and (empty := empty_groups(posterior.keep())) and settings.kl_weight / 10 >= least:
        settings = settings.with_kl_weight(settings.kl_weight / 10)
        logger.warning("fitted again at KL weight %.2g, as no node of %r was left", settings.kl_weight, empty[0])
        posterior = fit_at(settings)
    return posterior


def _fit(
    model: SparseNetwork,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor] | None,
    settings: Recipe,
    *,
    seed: int,
    progress: bool | None,
) -> Posterior:
    if settings.one_shot is not None:
        return fit_sghmc(
            model,
            train,
            settings.one_shot,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            validation=validation,
            seed=seed,
            progress=progress,
        )
    return fit(
        model,
        train,
        **settings.fit_options(),
        elbo=SparseELBO(local_reparameterization="exact"),  # with which the settings were chosen, for all batch sizes
        compute=Compute(channels_last=settings.reads_images),
        validation=validation,
        seed=seed,
        progress=progress,
        guide=settings.make_guide(model),
    )


# ---- back from a run's folder ----------------------------------------------------------------------------------------


def load_run(folder: str | Path) -> Posterior:
    """Load the posterior of a run from its folder, on the CPU.

    Args:
        folder: The folder that `run` or `bnn-pyro fit` wrote.

    Returns:
        The posterior.

    Raises:
        ValueError: If the folder holds no whole run.
    """
    config, settings = read_config(folder)
    input_shape = config["input_shape"]
    with torch.random.fork_rng([]):
        net = settings.make_net(input_shape, config["outputs"])
        shape = input_shape if settings.reads_images else [math.prod(input_shape)]
        example = torch.zeros(2, *shape, device="cpu")
        model = settings.make_model(net, example, settings.likelihood(config["task"]), config["num_data"])
        guide = settings.make_guide(model) if settings.one_shot is None else None
        return load_posterior(Path(folder) / "checkpoint.pt", model, guide=guide)


def load_pruned(folder: str | Path) -> nn.Module:
    """Load the pruned network of a run from its folder, on the CPU.

    Args:
        folder: The folder that `run` or `bnn-pyro fit` wrote.

    Returns:
        A plain module, in evaluation mode: the one that the run has measured.

    Raises:
        ValueError: If the folder holds no whole run.
    """
    config, settings = read_config(folder)
    with torch.random.fork_rng([]):
        return load_net(folder, settings.make_net(config["input_shape"], config["outputs"]))


def load_dense(folder: str | Path) -> nn.Module:
    """Load the dense network of a run from its folder, on the CPU.

    Args:
        folder: The folder that `run` or `bnn-pyro fit` wrote.

    Returns:
        A plain module, in evaluation mode: the one that the run has compared with.

    Raises:
        ValueError: If the folder holds no whole run, or one from before the dense network was written.
    """
    config, settings = read_config(folder)
    with torch.random.fork_rng([]):
        return load_net(Path(folder) / DENSE, settings.make_net(config["input_shape"], config["outputs"]))
