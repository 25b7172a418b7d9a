"""fit: stochastic variational inference of a SparseNetwork."""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pyro
import torch
from pyro.infer import ELBO
from pyro.infer.autoguide import AutoGuide
from pyro.optim import PyroOptim
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from bnn_pyro.inference.checks import Data, as_pair, check_rows, hold_out
from bnn_pyro.inference.generators import seeded
from bnn_pyro.inference.svi.autocast import PRECISIONS, Precision
from bnn_pyro.inference.svi.checkpoint import Keeping, check_checkpoint, read_progress
from bnn_pyro.inference.svi.elbo import SparseELBO
from bnn_pyro.inference.svi.schedule import LearningRates, Schedule
from bnn_pyro.inference.svi.steps import OptimizerFactory, TorchStep, stepper
from bnn_pyro.inference.svi.training_run import Callback, TrainingRun
from bnn_pyro.inference.training.batches import Change, check_augmentation
from bnn_pyro.inference.training.micro_batches import Shares
from bnn_pyro.inference.training.processes import Processes
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.guide import GuidePosterior, copies
from bnn_pyro.pruning.batch_norm import recompute_batch_norm
from bnn_pyro.pruning.cutting import split_selection
from bnn_pyro.tracing.engine import EngineName
from guides import AutoProgram, AutoSpikeSlab

SETTLING_ROWS = 10_000  # for the running statistics of the posterior's BatchNorms


LOCAL_ROWS = 64  # the largest batch for which drawing outputs is no slower than drawing the weights of 784-400-400-10


def fit(
    model: SparseNetwork,
    train_data: Data,
    *,
    epochs: int = 50,
    batch_size: int = 256,
    kl_weight: float = 1.0,
    kl_warmup: float = 0.0,
    frozen_kl_weight: float | None = None,
    hold: int = 0,
    freeze: int = 0,
    decay: float = 0.4,
    temperature: float | tuple[float, float] | None = None,
    learning_rates: LearningRates = LearningRates(),  # noqa: B008  (frozen)
    clip_norm: float | None = None,
    num_particles: int = 1,
    local_reparameterization: bool | Literal["exact"] | None = None,
    augmentation: Change | None = None,
    validation: Data | float | None = None,
    patience: int | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    progress: bool | None = None,
    shrink_below: float | None = None,
    guide: Any = None,
    optimizer: PyroOptim | OptimizerFactory | None = None,
    elbo: ELBO | None = None,
    engine: EngineName = "auto",
    accumulate: int = 1,
    precision: Precision | None = None,
    channels_last: bool = False,
    data_parallel: bool | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1,
) -> GuidePosterior:
    r"""Fits a guide to a network's posterior by stochastic variational inference.

    Each step minimises, for a batch of B of the N rows,

    .. math::
        \frac1N \Big[\kappa\,KL(q \| p) - \frac NB \sum_{i \in \text{batch}} \log p(y_i \mid x_i, w)\Big],
        \qquad w \sim q,

    the negative bound per datum. What the user handed in is copied, not changed, and Pyro's parameter store stays as it
    was; so does the global random state if there is a seed.

    Where ``torch.distributed`` is initialised, as under ``torchrun``, its processes share every batch: each is given
    all rows and computes its part, with one draw of the network for all; the sum of the gradients makes the same step
    in each. With as many parts in one process (``accumulate``) the steps are the same up to rounding, and those of the
    undivided batch where no BatchNorm and no local reparameterisation is at work. A BatchNorm normalises each part by
    its own statistics; running ones are averaged.

    Args:
        model: The network; ``model.num_data`` must be the number of training rows (after the validation split).
        train_data: (x, y): inputs ``(rows, *input_shape)`` and observations ``(rows,)``, or anything with ``x`` and
            ``y``, or a ``TensorDataset``. Training happens on the inputs' device and in their dtype.
        epochs: Passes over the data.
        batch_size: Rows a step.
        kl_weight: Weight :math:`\kappa` of the divergence; below 1 the posterior is a tempered (cold) one.
        kl_warmup: Epochs over which the KL weight rises from 0.
        frozen_kl_weight: Weight of the divergence while gates are frozen; None keeps ``kl_weight``. A large weight to
            prune and a smaller one to settle.
        hold: Epochs at the start with all gates held open.
        freeze: Epochs at the end with gates frozen at :math:`\gamma > 1/2`.
        decay: Fraction of the run over which learning rates fall to 0 by a cosine.
        temperature: Temperature of the gates' gradient, or (first, last) of a geometric schedule; None leaves the
            guide's.
        learning_rates: By the role of a parameter.
        clip_norm: Largest norm of the gradient of a step; None does not clip.
        num_particles: Draws of the posterior a step.
        local_reparameterization: Whether linear layers and convolutions draw their outputs instead of their weights:
            less noise in the gradient for a second product. ``"exact"`` does so only where an example has one row, as
            in a perceptron: the positions of a convolution share their weights, but would get noise of their own. None
            is ``"exact"`` for batches of up to 64 rows; in larger ones the product costs more than the draw of the
            weights.
        augmentation: What changes the inputs of each batch at random, on their device, such as an
            :class:`~bnn_pyro.data.augmentation.Augmentation`; None leaves them as they are.
        validation: (x, y), or the fraction of the training rows to hold out.
        patience: Stop after so many epochs, past the hold, without a better validation NLL; needs ``validation``.
        callback: Called after each epoch with the epoch's record and the posterior so far; True stops. Of several
            processes the first one calls it.
        seed: Seed of this call; None goes on from the global random state, or draws a seed from it where there are
            several processes or a checkpoint.
        progress: Whether to show a progress bar; None shows it on a terminal. Only the first process shows one.
        shrink_below: Leave out nodes whose inclusion probability has fallen below this after an epoch with free gates
            (below 1/2 once gates are frozen), so that the rest of the run gets cheaper; in the posterior they are
            closed for good (:math:`\gamma = 10^{-6}`). None trains all nodes to the end. 0.01 is a good value.
        guide: A guide of ``model.prior`` or ``model``: one of ours, or an AutoGuide of Pyro, which cannot hold, freeze
            or leave out gates; default :class:`~guides.AutoSpikeSlab`.
        optimizer: A Pyro optimiser, which has its own learning rates and clipping, or a function from torch parameter
            groups to a torch optimiser; default Adam.
        elbo: An ELBO to use instead of ours; its draws a step count, and the KL weight is that of this call.
        engine: How steps are computed: by Pyro as it stands (``"eager"``), as a program of tensors that was traced
            once (``"traced"``) or compiled (``"compiled"``), or by what is expected to be fastest (``"auto"``). Ways
            differ in rounding, and an eager run draws its noise in another order; a model that cannot be traced runs
            eagerly, as do Pyro's optimisers.
        accumulate: Parts in which a process computes its batch, one after the other, so that one part fits into memory.
            All have the same draw of weights, gates and scales, so that loss and gradient are those of the batch in one
            piece; where outputs are drawn (local reparameterisation) every part has noise of its own. A BatchNorm sees
            one part at a time.
        precision: ``"bf16"`` lets the network run in torch's autocast to bfloat16; draws, divergences, gates, scales,
            likelihood and parameters stay in float32. None computes all in the inputs' dtype.
        channels_last: Whether batches of images are laid out with their channels last, which is faster for convolutions
            on many devices, and gives the same outputs up to rounding.
        data_parallel: Whether the processes of ``torch.distributed`` share the run; None says yes where it is
            initialised. False leaves each process a run of its own.
        checkpoint: File to keep the run in, and to go on from if it is there: with the same result, in one process, as
            a run that was not interrupted, and with the same up to rounding in another number of processes. None keeps
            nothing. Data and options are to be the same; those that are noted in the file are checked.
        checkpoint_every: Epochs from one writing of that file to the next.

    Returns:
        The posterior, with one record an epoch in ``history``. Running statistics of BatchNorms are those of the
        median-probability model: while it was trained they were averages over many draws of the network.

    Raises:
        ValueError: If data, shapes or an option are out of range, or the loss is not finite.
    """
    schedule = Schedule(epochs, hold, freeze, kl_weight, kl_warmup, decay, _pair(temperature), frozen_kl_weight)
    _check_at_least_one(batch_size=batch_size, num_particles=num_particles, patience=patience, accumulate=accumulate)
    _check_optimizer(optimizer, clip_norm, shrink_below)
    _check_guide(guide, schedule, shrink_below)
    if patience is not None and validation is None:
        raise ValueError("patience needs validation data to watch, got validation=None")
    check_augmentation(augmentation)
    check_checkpoint(checkpoint, checkpoint_every)
    processes = Processes.found(data_parallel)
    x, y = as_pair("train_data", train_data)
    _check_layout(x, precision, channels_last)
    _check_shares(batch_size, accumulate, processes, optimizer, checkpoint)
    saved = processes.told(read_progress(checkpoint) if processes.is_first else None)
    if seed is None and (processes.count > 1 or checkpoint is not None):
        drawn = int(torch.randint(2**31, ()))
        seed = processes.told(drawn) if saved is None else saved[0]["seed"]
    with _isolated(seed, x.device):
        model, guide = _own(model, guide, x, y)
        processes.copy_first([*model.parameters(), *model.buffers(), *guide.parameters(), *guide.buffers()])
        (x, y), held_out = hold_out(x, y, validation)
        check_rows(model, (x, y), held_out)
        if local_reparameterization is None:
            local_reparameterization = "exact" if min(batch_size, len(x)) <= LOCAL_ROWS else False
        ours = SparseELBO(num_particles=num_particles, local_reparameterization=local_reparameterization)
        objective = ours if elbo is None else copy.copy(elbo)
        shares = Shares(accumulate, processes, own_noise=bool(getattr(objective, "local_reparameterization", False)))
        step = stepper(model, guide, optimizer, objective, learning_rates, clip_norm, engine, shares, precision)
        run = TrainingRun(
            model,
            guide,
            step,
            schedule,
            (x, y),
            held_out,
            batch_size=batch_size,
            shrink_below=shrink_below,
            augmentation=augmentation,
            channels_last=channels_last,
            processes=processes,
        )
        settings = {**vars(schedule), "rows": len(x), "batch_size": batch_size, "seed": seed, "optimizer": _name(step)}
        processes.check_alike(settings)
        keeping = None if checkpoint is None else Keeping(checkpoint, checkpoint_every, settings)
        try:
            if keeping is not None and saved is not None:
                keeping.check(saved[0])
                run.resume(saved[1], keeping.path)
            run.train(patience, callback, progress, keeping)
        finally:
            run.step.release()
        settle_batch_norm(run.posterior, x[:: max(1, len(x) // SETTLING_ROWS)])
    return run.posterior


def _own(model: SparseNetwork, guide: Any, x: Tensor, y: Tensor) -> tuple[SparseNetwork, Any]:
    """Returns copies of model and guide that belong to this run, on the data's device and dtype."""
    if not isinstance(model, SparseNetwork):
        raise ValueError(
            f"model must be a SparseNetwork, got {type(model).__name__}; use pyro.infer.SVI for other Pyro models"
        )
    if guide is None:
        model = copy.deepcopy(model).to(x)
        return model, AutoSpikeSlab(model.prior)
    model, guide = copies(model, guide)
    model.to(x)
    if not list(guide.parameters()):
        guide(x[:1], y[:1])  # Pyro's own guides make their parameters at the first call
    return model, guide.to(x)


def _pair(temperature: float | tuple[float, float] | None) -> tuple[float, float] | None:
    return (temperature, temperature) if isinstance(temperature, (int, float)) else temperature


def _check_at_least_one(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def _name(step: Any) -> str:
    """Returns the name of a step's optimiser, whose state no other could take over."""
    return type(step.optimizer).__name__ if isinstance(step, TorchStep) else type(step).__name__


def _check_layout(x: Tensor, precision: object, channels_last: bool) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}, got {precision!r}")
    if precision is not None and x.dtype != torch.float32:
        raise ValueError(f"precision={precision!r} needs inputs in float32, got {x.dtype}: convert them with x.float()")
    if channels_last and x.dim() != 4:
        raise ValueError(
            f"channels_last needs images of shape (rows, channels, height, width), got inputs of shape {tuple(x.shape)}"
        )


def _check_shares(
    batch_size: int, accumulate: int, processes: Processes, optimizer: object, checkpoint: object
) -> None:
    """Checks that batches can be shared, and their steps be resumed."""
    parts = accumulate * processes.count
    if parts > 1 and batch_size < 2 * parts:
        raise ValueError(
            f"batch_size must leave every part at least 2 rows, got {batch_size} in {parts} parts "
            f"(accumulate={accumulate}, {processes.count} processes)"
        )
    asked = {"accumulate": accumulate > 1, "data_parallel": processes.count > 1, "checkpoint": checkpoint is not None}
    for name in (name for name, is_asked in asked.items() if is_asked and isinstance(optimizer, PyroOptim)):
        raise ValueError(f"{name} needs a torch optimiser, got a Pyro optimiser, which keeps gradients to itself")


def _check_optimizer(optimizer: object, clip_norm: float | None, shrink_below: float | None) -> None:
    if optimizer is not None and not callable(optimizer):
        raise ValueError(
            "optimizer must be a Pyro optimiser, or a function from parameter groups to a torch optimiser such as "
            f"torch.optim.Adam itself, got {type(optimizer).__name__}"
        )
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm must be positive, got {clip_norm}")
    if isinstance(optimizer, PyroOptim) and clip_norm is not None:
        raise ValueError("clip_norm needs a torch optimiser; give a Pyro optimiser its own clip_args")
    if isinstance(optimizer, PyroOptim) and shrink_below is not None:
        raise ValueError("shrink_below needs a torch optimiser, whose state can be cut; got a Pyro optimiser")
    if shrink_below is not None and not 0 < shrink_below < 0.5:
        raise ValueError(f"shrink_below must lie in (0, 0.5), got {shrink_below}")


def _check_guide(guide: object, schedule: Schedule, shrink_below: float | None) -> None:
    """Checks that a guide can do what is asked of it; only ours have gates that can be led."""
    if guide is not None and not isinstance(guide, AutoGuide):
        raise ValueError(f"guide must be one of ours or an AutoGuide of Pyro, got {type(guide).__name__}")
    asked = {
        "hold": schedule.hold,
        "freeze": schedule.freeze,
        "temperature": schedule.temperature,
        "shrink_below": shrink_below,
    }
    if guide is not None and not isinstance(guide, AutoProgram):
        for name in (name for name, value in asked.items() if value):
            raise ValueError(f"{name} needs an AutoSpikeSlab or AutoCentered guide, got {type(guide).__name__}")


@contextmanager
def _isolated(seed: int | None, device: torch.device) -> Iterator[None]:
    """Keeps Pyro's parameter store, its validation and (with a seed) the random state as they were."""
    with seeded(seed, device), pyro.get_param_store().scope(), pyro.validation_enabled(False):
        yield


def settle_batch_norm(posterior: GuidePosterior, x: Tensor, *, batch_size: int = 1024) -> None:
    """Give a posterior's network the running statistics of its median-probability model, in place.

    Args:
        posterior: A posterior that belongs to the caller, such as one that is being fitted; its network is changed.
        x: Training inputs, shape ``(rows, *input_shape)``, or many of them.
        batch_size: Largest number of rows at a time.

    Raises:
        ValueError: If there is no row, or ``batch_size`` is below 1.
    """
    if not any(isinstance(module, _BatchNorm) for module in posterior.model.net.modules()):
        return
    settled = recompute_batch_norm(posterior.median_model(), x, batch_size=batch_size)
    inner = settled if posterior.model.selection is None else split_selection(settled)[0]
    fresh = dict(inner.named_buffers())
    with torch.no_grad():
        for name, buffer in posterior.model.net.named_buffers():
            buffer.copy_(fresh[name])
