"""fit: stochastic variational inference of a SparseNetwork."""

import copy
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pyro
import torch
from pyro.infer import ELBO
from pyro.infer.autoguide import AutoGuide
from pyro.optim import PyroOptim
from torch import Tensor

from bnn_pyro.arguments import check_reals, check_seed, check_type, check_types, check_whole
from bnn_pyro.data.mapped import every
from bnn_pyro.gated_parameters import gate_site
from bnn_pyro.identity import described
from bnn_pyro.inference.checkpoint import Checkpoint, restoring
from bnn_pyro.inference.checks import Data, as_pair, check_rows, hold_out, warn_of_scales
from bnn_pyro.inference.generators import seeded
from bnn_pyro.inference.svi.checkpoint import RunFile, read_progress
from bnn_pyro.inference.svi.elbo import SparseELBO
from bnn_pyro.inference.svi.run_identity import probe, run_identity
from bnn_pyro.inference.svi.schedule import LearningRates, Schedule
from bnn_pyro.inference.svi.steps import stepper
from bnn_pyro.inference.svi.timetable import Timetable
from bnn_pyro.inference.svi.torch_step import OptimizerFactory
from bnn_pyro.inference.svi.training_run import Callback, TrainingRun
from bnn_pyro.inference.training.batches import Change, check_augmentation
from bnn_pyro.inference.training.compute import Compute
from bnn_pyro.inference.training.micro_batches import Shares
from bnn_pyro.inference.training.processes import Processes
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.batch_norm import settle_batch_norm
from bnn_pyro.posterior.empty_groups import empty_groups, empty_warning
from bnn_pyro.posterior.guide import GuidePosterior, copies
from bnn_pyro.posterior.threads import driving
from guides import AutoProgram, AutoSpikeSlab
from guides.protocols import GateGradient

logger = logging.getLogger(__name__)

SETTLING_ROWS = 10_000  # for the running statistics of the posterior's BatchNorms
LOCAL_ROWS = 64  # the largest batch for which drawing outputs is no slower than drawing the weights of 784-400-400-10


def fit(
    model: SparseNetwork,
    data: Data,
    *,
    epochs: int = 50,
    batch_size: int = 256,
    kl_weight: float = 1.0,
    schedule: Schedule = Schedule(),  # noqa: B008  (frozen)
    rates: LearningRates = LearningRates(),  # noqa: B008  (frozen)
    clip_norm: float | None = None,
    guide: AutoGuide | None = None,
    optimizer: PyroOptim | OptimizerFactory | None = None,
    elbo: ELBO | None = None,
    augmentation: Change | None = None,
    validation: Data | float | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    progress: bool | None = None,
    compute: Compute = Compute(),  # noqa: B008  (frozen)
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    device: str | torch.device | None = None,
) -> GuidePosterior:
    r"""Fit a guide to a network's posterior by stochastic variational inference.

    Each step minimises, for a batch of B of the N rows,

    .. math::
        \frac1N \Big[\kappa\,KL(q \| p) - \frac NB \sum_{i \in \text{batch}} \log p(y_i \mid x_i, w)\Big],
        \qquad w \sim q,

    the negative bound per datum. What the user handed in is copied, not changed, and Pyro's parameter store stays as it
    was; so does the global random state if there is a seed. Inputs or targets that are far from unit scale, and groups
    of which no node is left in the end, are logged as warnings.

    Where ``torch.distributed`` is initialised, as under ``torchrun``, its processes share every batch: each is given
    all rows and computes its part, with one draw of the network for all; the sum of the gradients makes the same step
    in each. Of a ``DataLoader`` with a ``DistributedSampler`` each reads its own rows alone, and they exchange them.
    With as many parts in one process (``Compute(accumulate=...)``) the steps are the same up to rounding, and those of
    the undivided batch where no BatchNorm and no local reparameterisation is at work. A BatchNorm normalises each part
    by its own statistics; running ones are averaged.

    Args:
        model: The network; ``model.num_data`` must be the number of training rows (after the validation split).
        data: (x, y): inputs ``(rows, *input_shape)``, a tuple or dictionary of several, and observations ``(rows,)``;
            or anything with ``x`` and ``y``, a ``Dataset`` or a ``DataLoader``. Training happens on the inputs' device
            and in their dtype.
        epochs: Passes over the data.
        batch_size: Rows a step.
        kl_weight: Weight :math:`\kappa` of the divergence; below 1 the posterior is a tempered (cold) one.
        schedule: What changes in the course of the run: gates that are held open or frozen, the KL weight's warm-up,
            the decay of the learning rates, nodes that are left out, when to stop early.
        rates: Learning rates by the role of a parameter.
        clip_norm: Largest norm of the gradient of a step; None does not clip.
        guide: A guide of ``model.prior`` or ``model``: one of ours, or an AutoGuide of Pyro, which cannot hold, freeze
            or leave out gates; default :class:`~guides.AutoSpikeSlab`, whose gates have the ReinMax gradient, or the
            straight-through one where the schedule has a temperature.
        optimizer: A Pyro optimiser, which has its own learning rates and clipping, or a function from torch parameter
            groups to a torch optimiser; default Adam.
        elbo: The bound, with its draws a step: a :class:`~bnn_pyro.inference.svi.elbo.SparseELBO`, the default, or one
            of Pyro's; the KL weight is that of this call. Where a SparseELBO leaves ``local_reparameterization`` open
            it is ``"exact"`` for batches of up to 64 rows; in larger ones the second product costs more than the draw
            of the weights.
        augmentation: What changes the inputs of each batch at random, on their device, such as an
            :class:`~bnn_pyro.data.augmentation.Augmentation`; None leaves them as they are.
        validation: (x, y), or the fraction of the training rows to hold out.
        callback: Called after each epoch with the epoch's record and the posterior so far; True stops. Of several
            processes the first one calls it. It may predict, but not wait for another thread that does.
        seed: Seed of this call; None continues from the global random state, or draws a seed from it where there are
            several processes or a checkpoint.
        progress: Whether to show a progress bar; None shows it on a terminal. Only the first process shows one.
        compute: How steps are computed: engine, precision, parts of a batch, processes.
        checkpoint: File to save the run in, and to resume it from if it is there: with the same result, in one process,
            as a run that was not interrupted, and with the same up to rounding in another number of processes. A path
            is saved to after every epoch. None saves nothing. All that decides the run is to be the same, and is
            compared: data, network, prior, likelihood, guide and options; functions by their names alone. Where the
            weights at the start are others, as of a net that was made without a seed, those of the file are taken and a
            warning is logged.
        device: Where to compute, such as ``"cuda"``, to which data and copies are moved, inputs in a file batch by
            batch; None for the inputs' device.

    Returns:
        The posterior after the last epoch, or after the best one of a ``schedule`` with ``patience``, with one record
        per epoch in ``history``, of more than 400 epochs some 200 with the scores of the median model, unless there is
        ``patience``. Running statistics of BatchNorms are those of the median-probability model: while it
        was trained they were averages over many draws of the network. The posterior then holds 32 draws with statistics
        of their own, as ``posterior.settled``, which it predicts with; see
        :func:`~bnn_pyro.posterior.batch_norm.settle_batch_norm` for rows, memory and more draws.

    Raises:
        ValueError: If data, shapes or an option are out of range, or the checkpoint is damaged or of another run.
        Diverged: A ValueError, if the loss of a step is not finite: it says whether the batch or whose parameters are
            at fault, and its ``posterior`` is the last good one. On a CPU it is raised at that step, elsewhere at the
            end of the epoch, as nothing waits for the device before. One row that is left over joins the batch before
            it where the net has a BatchNorm.
        RuntimeError: If another thread is in a run; predictions by other threads wait.
    """
    timetable = Timetable(schedule, epochs, kl_weight)
    check_seed(seed, progress)
    check_types({"rates": (rates, LearningRates), "compute": (compute, Compute)})
    if elbo is not None:
        check_type("elbo", elbo, ELBO)
    _check_options(batch_size, schedule, clip_norm, guide, optimizer, augmentation, validation)
    saving = Checkpoint.of(checkpoint)
    _check_model(model)
    is_shared = Processes.found(compute.data_parallel).count > 1
    x, y = as_pair(
        "data",
        data,
        model.layout,
        device=device,
        likelihood=model.likelihood,
        is_shared=is_shared,
        may_stream=True,
    )
    processes = Processes.found(compute.data_parallel, device=y.device)
    compute.check_inputs(x)
    _check_shares(batch_size, compute.accumulate, processes, optimizer, saving)
    saved = processes.broadcast(read_progress(saving.path) if saving is not None and processes.is_first else None)
    if seed is None and (processes.count > 1 or saving is not None):
        drawn = int(torch.randint(2**31, (), device="cpu"))
        seed = processes.broadcast(drawn) if saved is None else saved.seed
    with driving("fit"), _isolated(seed, y.device):
        model, guide = _own(model, guide, x, y, schedule)
        processes.copy_first([*model.parameters(), *model.buffers(), *guide.parameters(), *guide.buffers()])
        (x, y), held_out = hold_out(x, y, validation, model.layout, model.likelihood)
        check_rows(model, (x, y), held_out)
        if processes.is_first:
            warn_of_scales(x, y, model.likelihood, model.layout)
        objective = _objective(elbo, min(batch_size, len(x)))
        own_noise = bool(getattr(objective, "local_reparameterization", False))
        shares = Shares(compute.accumulate, processes, own_noise=own_noise)
        step = stepper(model, guide, optimizer, objective, rates, clip_norm, compute.engine, shares, compute.precision)
        run = TrainingRun(
            model,
            guide,
            step,
            timetable,
            (x, y),
            held_out,
            batch_size=batch_size,
            augmentation=model.layout.changing(augmentation),
            layout=compute.layout,
            processes=processes,
        )
        settings = {
            **timetable.settings(),
            **{"rows": len(x), "batch_size": batch_size, "seed": seed, "optimizer": step.optimizer_name},
        }
        file = None
        if saving is not None:
            options = {"rates": rates, "clip_norm": clip_norm, "augmentation": augmentation}
            for name, option in options.items():
                settings |= described(name, option)
            settings |= described("precision", compute.precision) | described(
                "optimizer.options", step.optimizer_settings
            )
            settings |= run_identity(model, guide, (x, y), held_out, objective)
            file = RunFile(saving.path, saving.pace(), settings, probe(model, guide, x))
        processes.check_alike(settings)
        try:
            if file is not None and saved is not None:
                file.check(saved)
                with restoring(file.path):
                    run.resume(saved.progress, file.path)
            run.train(callback, progress, file)
        finally:
            run.step.release()
        settle_batch_norm(run.posterior, every(x, -(-len(x) // SETTLING_ROWS)).to(y.device))
    if processes.is_first and (warning := empty_warning(empty_groups(run.posterior.keep()), run.posterior.kl_weight)):
        logger.warning(warning)
    return run.posterior


def _objective(elbo: ELBO | None, rows: int) -> ELBO:
    """Return the run's own bound, for batches of some rows."""
    objective = SparseELBO() if elbo is None else copy.copy(elbo)
    if isinstance(objective, SparseELBO) and objective.local_reparameterization is None:
        objective.local_reparameterization = "exact" if rows <= LOCAL_ROWS else False
    return objective


def _check_model(model: object) -> None:
    if not isinstance(model, SparseNetwork):
        raise ValueError(
            f"model must be a SparseNetwork, got {type(model).__name__}; use pyro.infer.SVI for other Pyro models"
        )


def _own(
    model: SparseNetwork, guide: AutoGuide | None, x: Tensor, y: Tensor, schedule: Schedule
) -> tuple[SparseNetwork, AutoGuide]:
    """Return copies of model and guide that belong to this run, on the data's device and dtype."""
    if guide is None:
        model = copy.deepcopy(model).to(y.device, x.dtype)
        gradient: GateGradient = "reinmax" if schedule.temperature is None else "straight-through"
        return model, AutoSpikeSlab(model.prior, gate_gradient=gradient)
    _check_sites(model, guide)
    model, guide = copies(model, guide)
    model.to(y.device, x.dtype)
    if not list(guide.parameters()):
        guide(x[:1].to(y.device), y[:1])  # Pyro's own guides make their parameters at the first call
    return model, guide.to(y.device, x.dtype)


def _check_shares(
    batch_size: int, accumulate: int, processes: Processes, optimizer: object, checkpoint: object
) -> None:
    """Check that batches can be shared, and their steps be resumed."""
    parts = accumulate * processes.count
    if parts > 1 and batch_size < 2 * parts:
        raise ValueError(
            f"batch_size must leave every part at least 2 rows, got {batch_size} in {parts} parts "
            f"(accumulate={accumulate}, {processes.count} processes)"
        )
    asked = {"accumulate": accumulate > 1, "data_parallel": processes.count > 1, "checkpoint": checkpoint is not None}
    for name in (name for name, is_asked in asked.items() if is_asked and isinstance(optimizer, PyroOptim)):
        raise ValueError(f"{name} needs a torch optimiser, got a Pyro optimiser, which keeps gradients to itself")


def _check_options(
    batch_size: int,
    schedule: Schedule,
    clip_norm: float | None,
    guide: object,
    optimizer: object,
    augmentation: object,
    validation: object,
) -> None:
    """Check what can be checked before there is data, and what one option asks of another."""
    check_whole("batch_size", batch_size)
    if schedule.patience is not None and validation is None:
        raise ValueError("patience needs validation data to watch, got validation=None")
    _check_optimizer(optimizer, clip_norm, schedule)
    _check_guide(guide, schedule)
    check_augmentation(augmentation)


def _check_optimizer(optimizer: object, clip_norm: float | None, schedule: Schedule) -> None:
    if optimizer is not None and not callable(optimizer):
        raise ValueError(
            "optimizer must be a Pyro optimiser, or a function from parameter groups to a torch optimiser such as "
            f"torch.optim.Adam itself, got {type(optimizer).__name__}"
        )
    check_reals({}, optional={"clip_norm": clip_norm})
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm must be positive, got {clip_norm}")
    if isinstance(optimizer, PyroOptim) and clip_norm is not None:
        raise ValueError("clip_norm needs a torch optimiser; give a Pyro optimiser its own clip_args")
    if isinstance(optimizer, PyroOptim) and schedule.shrink_below is not None:
        raise ValueError("shrink_below needs a torch optimiser, whose state can be cut; got a Pyro optimiser")


def _check_guide(guide: object, schedule: Schedule) -> None:
    """Check that a guide can do what is asked of it; only ours have gates that can be led."""
    if guide is not None and not isinstance(guide, AutoGuide):
        raise ValueError(f"guide must be one of ours or an AutoGuide of Pyro, got {type(guide).__name__}")
    if guide is not None and not isinstance(guide, AutoProgram):
        for name in ("hold", "freeze", "temperature", "shrink_below"):
            if getattr(schedule, name):
                raise ValueError(f"{name} needs an AutoSpikeSlab or AutoCentered guide, got {type(guide).__name__}")
    if isinstance(guide, AutoProgram) and not guide.can_shrink and schedule.shrink_below is not None:
        raise ValueError(f"shrink_below needs an AutoSpikeSlab or AutoCentered guide, got {type(guide).__name__}")
    if isinstance(guide, AutoProgram) and schedule.temperature is not None and guide.gates == "hard":
        if guide.gate_gradient != "straight-through":
            raise ValueError(
                "temperature needs a guide with relaxed gates or gate_gradient='straight-through', got "
                f"gate_gradient={guide.gate_gradient!r}, which has none"
            )


def _check_sites(model: SparseNetwork, guide: AutoGuide) -> None:
    """Check that one of our guides was made for a network with the latents of this one."""
    if not isinstance(guide, AutoProgram):
        return
    found = {site: tuple(parameter.shape) for _, site, parameter in guide.named_site_parameters()}
    wanted = {parameter.name: tuple(parameter.shape) for parameter in model.bayesian}
    wanted |= {gate_site(name): (group.size,) for name, group in model.groups.items()}
    for name, shape in wanted.items():
        if found.get(name) != shape:
            raise ValueError(f"guide must be of the model, with {name!r} of shape {shape}, got {found.get(name)}")


@contextmanager
def _isolated(seed: int | None, device: torch.device) -> Iterator[None]:
    """Keeps Pyro's parameter store, its validation and (with a seed) the random state as they were."""
    with seeded(seed, device), pyro.get_param_store().scope(), pyro.validation_enabled(False):
        yield
