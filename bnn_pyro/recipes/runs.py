"""The whole main job: from a data set to a pruned network and its report."""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bnn_pyro.arguments import check_flags, check_path, check_seed, check_types
from bnn_pyro.data import Dataset, Split
from bnn_pyro.devices import checked_device
from bnn_pyro.evaluation.spacing import evenly_spaced
from bnn_pyro.inference.generators import seeded
from bnn_pyro.inference.sgmcmc.fit import fit_sghmc
from bnn_pyro.inference.svi.elbo import SparseELBO
from bnn_pyro.inference.svi.fit import fit
from bnn_pyro.inference.training.compute import Compute
from bnn_pyro.inference.training.dense import train_dense
from bnn_pyro.inference.training.processes import Processes
from bnn_pyro.likelihoods.base import targets_alone
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.empty_groups import empty_groups
from bnn_pyro.posterior.files import save_posterior
from bnn_pyro.posterior.prune import prune
from bnn_pyro.recipes.config_file import config_of
from bnn_pyro.recipes.definition import Recipe
from bnn_pyro.recipes.dense_training import training_noise
from bnn_pyro.recipes.input_trial import InputTrial
from bnn_pyro.recipes.kl_weight_choice import choose_kl_weight
from bnn_pyro.recipes.noise_trial import NoiseTrial
from bnn_pyro.recipes.trials import hold_trials
from bnn_pyro.refinement import is_worth_refining, refine, sample_whole
from bnn_pyro.reports.claim import Claim, claimed
from bnn_pyro.reports.folder import check_run_folder, write_networks, write_report
from bnn_pyro.reports.measures import Metrics, Run, evaluate_run

logger = logging.getLogger(__name__)

_SHOWN_ROWS = 2_000  # training rows that a picture is made of, at most


def run(
    dataset: Dataset,
    settings: Recipe,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    out: str | Path | None = None,
    resume: bool = False,
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

    The folder is claimed when the run begins. Until it has ended it holds, in `.progress`, what the run is resumed from
    if it was stopped, with the result that it would have had; the fits and the sampling of a path too. The networks are
    written before they are measured.

    Args:
        dataset: The data, as `bnn_pyro.data.load` gives it; validation rows are watched but not learnt from.
        settings: The settings, such as `recipe` gives.
        seed: Seed of the whole run.
        device: Where to train, such as `"cpu"`, `"cuda"` or `"cuda:1"`.
        out: Folder to write (see `bnn_pyro.reports.folder.write_report`); None writes nothing.
        resume: Whether a run in the folder that was stopped is resumed; where there is none it is begun.
        progress: Whether to show progress bars; None shows them on a terminal.

    Returns:
        The metrics, as they stand in the folder's `metrics.json`.

    Raises:
        ValueError: If the folder holds a run, or one that was stopped and is not to be resumed or was begun otherwise,
            there is no such device, or data and settings do not fit each other.
        OSError: If the folder cannot be written to.
    """
    start = time.perf_counter()
    check_types({"dataset": (dataset, Dataset), "settings": (settings, Recipe)})
    check_seed(seed, progress)
    check_flags({"resume": resume})
    if out is not None:
        check_path("out", out)
    device = checked_device(device)
    if out is None or not Processes.found(device=device).is_first:
        return _run(dataset, settings, seed, device, progress, start, None)
    with claimed(check_run_folder(out, resume=resume)) as claim:
        begun_with = config_of(dataset, settings, seed=seed, device=device)
        begun_with = {name: value for name, value in begun_with.items() if name not in ("device", "torch", "notes")}
        splits = {"training": dataset.train, "test": dataset.test, "validation": dataset.validation}
        rows = {f"{name} rows": None if rows is None else _parts(rows) for name, rows in splits.items()}
        claim.begin({**begun_with, **rows})
        return _run(dataset, settings, seed, device, progress, start, claim)


def _run(
    dataset: Dataset,
    settings: Recipe,
    seed: int,
    device: torch.device,
    progress: bool | None,
    start: float,
    claim: Claim | None,
) -> Metrics:
    """Do the main job; of several processes the first has the claim of the folder, if there is one."""
    processes = Processes.found(device=device)
    saving = processes.broadcast(None if claim is None else claim)
    settings, found = _chosen(dataset, settings, seed, device, progress, saving)
    with seeded(seed, device):
        finished = _trained(dataset, settings, seed, device, progress, saving)
        if not processes.is_first:
            return processes.broadcast({})
        finished = replace(finished, **found)
        config = config_of(dataset, settings, seed=seed, device=device)
        if claim is not None:
            save = partial(save_posterior, finished.posterior)
            write_networks(claim.folder, finished, config=config, save_checkpoint=save)
        evaluation = evaluate_run(finished)
    evaluation.metrics["seconds"] = time.perf_counter() - start
    processes.broadcast(evaluation.metrics)
    if claim is not None:
        write_report(claim.folder, finished, evaluation, config=config)
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
    check_types({"dataset": (dataset, Dataset), "settings": (settings, Recipe)})
    check_seed(seed, progress)
    device = checked_device(device)
    settings, found = _chosen(dataset, settings, seed, device, progress)
    with seeded(seed, device):
        return replace(_trained(dataset, settings, seed, device, progress), **found)


def _chosen(
    dataset: Dataset,
    settings: Recipe,
    seed: int,
    device: torch.device,
    progress: bool | None,
    claim: Claim | None = None,
) -> tuple[Recipe, dict[str, Any]]:
    """Return the settings with what held-out rows choose, and what a run keeps of that: trials and path."""
    if settings.schedule.patience is not None and dataset.validation is None:  # before a path is followed for nothing
        raise ValueError("schedule.patience needs validation rows to watch, got data without them")
    found: dict[str, Any] = {}
    processes = Processes.found(device=device)
    how: dict[str, Any] = {"seed": seed, "device": device, "progress": progress}
    how["checkpoint"] = None if claim is None else claim.checkpoint
    trials = hold_trials(dataset, settings, **how)
    found |= {"input_trial": _record(trials.inputs), "noise_trial": _record(trials.noise)}
    settings = processes.broadcast(trials).decide(settings)
    if settings.path is not None:
        path = choose_kl_weight(dataset, settings, **how)
        found["path"] = path.records(y_std=dataset.y_std)
        settings = settings.with_kl_weight(processes.broadcast(path.chosen.kl_weight))
    return settings, found


def _parts(rows: Split) -> tuple[Tensor, ...]:
    return (rows.x, rows.y) if rows.weight is None else (rows.x, rows.y, rows.weight)


def _record(trial: InputTrial | NoiseTrial | None) -> dict[str, Any] | None:
    return None if trial is None else trial.record()


def _trained(
    dataset: Dataset,
    settings: Recipe,
    seed: int,
    device: torch.device,
    progress: bool | None,
    claim: Claim | None = None,
) -> Run:
    processes = Processes.found(device=device)
    if settings.one_shot is not None and processes.count > 1:
        raise ValueError(f"method must be svi, whose work processes can share, got sghmc in {processes.count} of them")
    finished = _fit_and_prune(dataset, settings, seed, device, progress, claim)
    return _refined(finished, dataset, settings, seed, progress, claim) if processes.is_first else finished


def _fit_and_prune(
    dataset: Dataset,
    settings: Recipe,
    seed: int,
    device: torch.device,
    progress: bool | None,
    claim: Claim | None,
) -> Run:
    train, test = (settings.tensors(part, device) for part in (dataset.train, dataset.test))
    likelihood = settings.likelihood(dataset.task, is_weighted=dataset.is_weighted)
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
        checkpoint=None if claim is None else claim.checkpoint("dense"),
    )
    start = dense if settings.one_shot is None else make_untrained().to(device)
    model = settings.make_model(start, train[0][:2], likelihood, len(dataset.train))
    validation = None if dataset.validation is None else settings.tensors(dataset.validation, device)
    fit_at = partial(_fit, model, train, validation, seed=seed, progress=progress, claim=claim)
    posterior = _fit_with_nodes(fit_at, settings)
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
        train_y=shown_rows(targets_alone(likelihood, train[1])),
        validation=validation,
    )


def _refined(
    finished: Run, dataset: Dataset, settings: Recipe, seed: int, progress: bool | None, claim: Claim | None
) -> Run:
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
        saving = None if claim is None else claim.checkpoint("refined")
        sampled = refine(
            finished.posterior, train, settings.refinement, seed=seed, progress=progress, checkpoint=saving
        )
    except Exception as error:  # whatever it is, the posterior that is there is not to be lost
        logger.warning("the pruned network is not refined: %s", error)
        return replace(finished, not_refined=str(error))
    if not settings.reference:
        return replace(finished, refined=sampled)
    whole_net = replace(settings, reads=None)  # as the dense network
    likelihood = settings.likelihood(dataset.task, is_weighted=dataset.is_weighted)
    model = whole_net.make_model(finished.dense, train[0][:2], likelihood, len(dataset.train))
    try:
        saving = None if claim is None else claim.checkpoint("reference")
        whole = sample_whole(model, train, settings.refinement, seed=seed, progress=progress, checkpoint=saving)
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
    claim: Claim | None,
) -> Posterior:
    checkpoint = None if claim is None else claim.checkpoint(f"fit-{settings.kl_weight:g}")
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
            checkpoint=checkpoint,
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
        checkpoint=checkpoint,
    )
