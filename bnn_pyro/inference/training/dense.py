"""Training of the plain network: the dense baseline, and the warm start of a sparse one."""

import copy
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from bnn_pyro.arguments import check_methods, check_reals, check_seed, check_types, check_wholes
from bnn_pyro.data.sources import as_observations
from bnn_pyro.fields import STATE, TENSOR, VALUES, WHOLE, check_fields
from bnn_pyro.frozen import frozen_modules, train_others
from bnn_pyro.identity import Identity, described
from bnn_pyro.inference.checkpoint import Checkpoint, EpochFile, restoring
from bnn_pyro.inference.checks import Data, as_pair, check_gaps, hold_out, warn_of_scales
from bnn_pyro.inference.generators import random_state, seeded, set_random_state
from bnn_pyro.inference.interrupts import Interrupts, StepClock, holding_interrupts
from bnn_pyro.inference.training.autocast import computing
from bnn_pyro.inference.training.batches import Change, batches, check_augmentation, normalises, sizes_of_batches
from bnn_pyro.inference.training.compute import Compute
from bnn_pyro.inference.training.micro_batches import Gradients, Shares
from bnn_pyro.inference.training.processes import Processes
from bnn_pyro.input_layout import InputLayout
from bnn_pyro.likelihoods import Likelihood
from bnn_pyro.storage import load_into

_SCORED_AT_ONCE = 1024  # held-out rows


def train_dense(
    net: nn.Module,
    data: Data,
    *,
    likelihood: Likelihood,
    epochs: int = 5,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.05,
    augmentation: Change | None = None,
    validation: Data | float | None = None,
    seed: int | None = None,
    progress: bool | None = None,
    compute: Compute = Compute(),  # noqa: B008  (frozen)
    device: str | torch.device | None = None,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
) -> nn.Module:
    """Train a copy of a plain network by AdamW on the likelihood's negative log-density.

    The learning rate falls to 0 by a cosine over the run. A latent of the likelihood (a learned noise) is held at 1.
    Inputs or targets that are far from unit scale are logged as a warning. With held-out rows the weights are in the
    end those of the epoch after which these rows had the smallest loss (early stopping, Prechelt 1998, whose patience
    is the whole run).

    Args:
        net: Any plain module. It returns a tensor, or a dictionary or object with ``logits`` or ``out``.
        data: (x, y); training happens on their device and dtype. x may be a tuple of tensors, the positional arguments
            of the net, or a dictionary, its keyword arguments; of real or of whole numbers.
        likelihood: How outputs give observations.
        epochs: Passes over the data.
        batch_size: Rows a step.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        augmentation: What changes the inputs of each batch at random, on their device; None leaves them as they are.
        validation: (x, y) that is not learnt from, or the fraction of the rows to hold out, at random; None takes the
            last epoch's weights.
        seed: Seed of this call; None continues from the global random state.
        progress: Whether to show a progress bar; None shows it on a terminal. Only the first process shows one.
        compute: How steps are computed, as in ``fit``: precision, parts of a batch, processes. The engine is always
            the eager one.
        device: Where to compute, such as ``"cuda"``, to which data and copy are moved, inputs in a file batch by
            batch; None for the inputs' device.
        checkpoint: File to save the training in, and to resume it from if it is there, in one process with the same
            result as without the interruption. A path is saved to after every epoch. None saves nothing. All that
            decides the training is compared: net, data, likelihood and options; functions by their names alone.

    Returns:
        The trained copy, in eval mode. Parts of the net that are frozen and in evaluation mode keep their statistics.

    Raises:
        ValueError: If the data is empty, not finite or does not fit the likelihood, ``validation`` leaves one side
            empty, a number is out of range, the loss is not finite, or the checkpoint is damaged or of another run.
    """
    check_wholes({"epochs": epochs, "batch_size": batch_size})
    check_seed(seed, progress)
    check_types({"net": (net, nn.Module), "compute": (compute, Compute)})
    check_reals({"learning_rate": learning_rate, "weight_decay": weight_decay})
    for name, number in {"learning_rate": learning_rate, "weight_decay": weight_decay}.items():
        if not 0 <= number < math.inf:
            raise ValueError(f"{name} must be finite and not negative, got {number}")
    check_methods("likelihood", likelihood, "prior", "distribution", "check", "predict")
    if compute.engine not in ("auto", "eager"):
        raise ValueError(f"engine must be 'auto' or 'eager', as dense training is eager, got {compute.engine!r}")
    check_augmentation(augmentation)
    is_shared = Processes.found(compute.data_parallel).count > 1
    inputs, *others = as_observations("data", data, is_shared=is_shared)
    layout = InputLayout.of("data", inputs, net)
    rows = (inputs, *(part for part in others if part is not None))
    x, y = as_pair("data", rows, layout, device=device, likelihood=likelihood, may_stream=True)
    compute.check_inputs(x)
    trained, frozen = copy.deepcopy(net).to(y.device, x.dtype), frozen_modules(net, ())
    processes = Processes.found(compute.data_parallel, device=y.device)
    saving = Checkpoint.of(checkpoint)
    file = None
    if saving is not None and processes.is_first:
        file = EpochFile(saving, writer="train_dense", mark="dense")
        seed = file.seed(seed)
    if processes.count > 1:
        drawn = int(torch.randint(2**31, (), device="cpu")) if seed is None else seed
        seed = processes.broadcast(drawn)
    with seeded(seed, y.device), computing(trained, compute.precision):
        call = partial(layout.call, trained)
        _check_outputs(trained, layout, x, y, likelihood)
        warn_of_scales(x, y, likelihood, layout)
        (x, y), held_out = hold_out(x, y, validation, layout, likelihood)
        if held_out is not None:
            _check_outputs(trained, layout, *held_out, likelihood)
        best = None if held_out is None else _BestEpoch(trained, call, likelihood, held_out, processes, frozen)
        processes.copy_first([*trained.parameters(), *trained.buffers()])
        train_others(trained, frozen)
        loss_of_part = partial(_loss, trained, call, likelihood, compute.layout)
        loss = partial(Shares(compute.accumulate, processes).compute, loss_of_part)
        joins = normalises(trained)
        epoch = partial(batches, x, y, batch_size, layout.changing(augmentation), join=joins)
        steps = len(sizes_of_batches(len(x), batch_size, join=joins))
        run = _Training(trained, loss, epoch, steps, epochs, learning_rate, weight_decay, best, y.device)
        if saving is not None:
            options = {"epochs": epochs, "batch_size": batch_size, "seed": seed, "precision": compute.precision}
            rates = {"learning_rate": learning_rate, "weight_decay": weight_decay, "augmentation": augmentation}
            begun_with = _identity(net, likelihood, {"data": (x, y), "validation": held_out}, {**options, **rates})
            state = processes.broadcast(None if file is None else file.begin(begun_with))
            if state is not None and saving is not None:
                with restoring(saving.path):
                    run.load(state, saving.path)
        run.train(progress if processes.is_first else False, file)
        processes.settle_buffers(trained)
    return trained.eval()


Call = Callable[[Tensor], Tensor]  # a net, given its inputs as one tensor


def _check_outputs(net: nn.Module, layout: InputLayout, x: Tensor, y: Tensor, likelihood: Likelihood) -> None:
    check_gaps("data", y, likelihood)
    net.eval()
    try:
        with torch.no_grad():
            output = layout.call(net, x[:1].to(y.device))
    except RuntimeError as error:
        raise ValueError(f"data must have inputs that the net takes, got {layout}: {error}") from error
    likelihood.check(output.expand(len(y), *output.shape[1:]), y)


def _loss(
    net: nn.Module, call: Call, likelihood: Likelihood, layout: torch.memory_format, x: Tensor, y: Tensor
) -> tuple[Tensor, Gradients]:
    distribution = likelihood.distribution(call(x.contiguous(memory_format=layout)), x.new_ones(()))
    loss: Tensor = -distribution.log_prob(y).mean()
    moving = {i: p for i, p in enumerate(net.parameters()) if p.requires_grad}
    found = torch.autograd.grad(loss, list(moving.values()), allow_unused=True)
    gradients = dict(zip(moving, found, strict=True))
    return loss.detach(), [gradients.get(i) for i, _ in enumerate(net.parameters())]


def _identity(net: nn.Module, likelihood: Likelihood, rows: object, options: Mapping[str, object]) -> Identity:
    """Return what a training depends on, as plain values by name."""
    found: Identity = {}
    for name, option in {**options, "likelihood": likelihood, "network": net, "rows": rows}.items():
        found |= described(name, option)
    return found


class _Training:
    """A training on its way: its optimiser, and the epochs that are done."""

    def __init__(
        self,
        net: nn.Module,
        loss_of: Callable[[Tensor, Tensor], tuple[Tensor, Gradients]],
        batches_of: Callable[[], Iterable[tuple[Tensor, Tensor]]],
        steps: int,
        epochs: int,
        learning_rate: float,
        weight_decay: float,
        best: "_BestEpoch | None",
        device: torch.device,
    ) -> None:
        self.net, self.loss_of, self.batches_of = net, loss_of, batches_of
        self.steps, self.epochs, self.best, self.device = steps, epochs, best, device
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, epochs * steps)
        self.done, self.loss = 0, torch.zeros(())

    def train(self, progress: bool | None, file: EpochFile | None) -> None:
        """Run the epochs that are left."""
        disable = None if progress is None else not progress
        with (
            holding_interrupts(file is not None) as interrupts,
            tqdm(total=self.epochs, initial=self.done, unit="epoch", desc="dense", disable=disable) as bar,
        ):
            while self.done < self.epochs:
                self._epoch(interrupts, file)
                self.done += 1
                bar.update()
                if file is not None:
                    if interrupts or self.done == self.epochs or file.pace.is_due(self.done):
                        file.write(self._state())
                    interrupts.stop(f"after {self.done} of {self.epochs} epochs of dense training", file.path)
        self._check_loss(self.steps, torch.zeros(()))
        if self.best is not None:
            self.best.restore()

    def _epoch(self, interrupts: Interrupts, file: EpochFile | None) -> None:
        clock = StepClock(self.steps)
        for number, (xs, ys) in enumerate(self.batches_of()):
            self.loss, gradients = self.loss_of(xs, ys)
            if self.device.type == "cpu":  # nothing waits for other devices before the end
                self._check_loss(number + 1, xs)
            for parameter, gradient in zip(self.net.parameters(), gradients, strict=True):
                parameter.grad = gradient
            self.optimizer.step()
            self.schedule.step()
            if interrupts and file is not None and clock.is_long(number + 1):
                interrupts.stop(f"in epoch {self.done + 1} of {self.epochs} of dense training", file.path)
        if self.best is not None:
            self.best.see()

    def _check_loss(self, step: int, x: Tensor) -> None:
        """Raise if the latest loss is not finite."""
        if not torch.isfinite(self.loss):
            fault = "" if x.isfinite().all() else ", where the inputs of the batch are not finite"
            at = f"in epoch {min(self.done + 1, self.epochs)}, step {step}{fault}"
            raise ValueError(f"the loss must stay finite, got {float(self.loss)} {at}: lower learning_rate")

    def _state(self) -> dict[str, object]:
        """Return all that the rest of the training depends on."""
        best = None if self.best is None else {"least": self.best.least, "values": dict(self.best.values)}
        return {
            "done": self.done,
            "loss": self.loss,
            "net": dict(self.net.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "best": best,
            "random": random_state(self.device),
        }

    def load(self, state: Mapping[str, Any], path: object) -> None:
        """Take over the state of a training that was begun in the same way, from a file."""
        fields = {"done": WHOLE, "loss": TENSOR, "net": STATE, "optimizer": VALUES, "schedule": VALUES, "random": STATE}
        check_fields(state, fields, path)
        load_into("net", self.net, state["net"], path)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.done, self.loss = state["done"], state["loss"]
        if self.best is not None:
            self.best.least, self.best.values = state["best"]["least"], state["best"]["values"]
        set_random_state(state["random"], self.device)


class _BestEpoch:
    """The weights after which held-out rows had the smallest loss."""

    def __init__(
        self,
        net: nn.Module,
        call: Call,
        likelihood: Likelihood,
        held_out: tuple[Tensor, Tensor],
        processes: Processes,
        frozen: Collection[str],
    ) -> None:
        self.frozen, self.call = frozen, call
        self.net, self.likelihood, (self.x, self.y), self.processes = net, likelihood, held_out, processes
        self.least, self.values = math.inf, dict[str, Any](net.state_dict())

    @torch.no_grad()
    def see(self) -> None:
        """Keep the network's values if they are the best yet."""
        self.net.eval()
        output = torch.cat([self.call(rows.to(self.y.device)) for rows in self.x.split(_SCORED_AT_ONCE)])
        loss = -float(self.likelihood.distribution(output, output.new_ones(())).log_prob(self.y).mean())
        train_others(self.net, self.frozen)
        loss = self.processes.broadcast(loss)  # statistics of a BatchNorm are each process's own until the end
        if loss < self.least:
            self.least, self.values = loss, copy.deepcopy(self.net.state_dict())

    def restore(self) -> None:
        """Give the network the best values."""
        self.net.load_state_dict(self.values)
