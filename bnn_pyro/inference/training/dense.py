"""Training of the plain network: the dense baseline, and the warm start of a sparse one."""

import copy
import math
from collections.abc import Callable, Collection, Iterable
from functools import partial

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from bnn_pyro.data.sources import as_inputs_and_targets
from bnn_pyro.frozen import frozen_modules, train_others
from bnn_pyro.inference.checks import Data, as_pair, check_gaps, hold_out, warn_of_scales
from bnn_pyro.inference.generators import seeded
from bnn_pyro.inference.training.autocast import computing
from bnn_pyro.inference.training.batches import Change, batches, check_augmentation
from bnn_pyro.inference.training.compute import Compute
from bnn_pyro.inference.training.micro_batches import Gradients, Shares
from bnn_pyro.inference.training.processes import Processes
from bnn_pyro.input_layout import InputLayout
from bnn_pyro.likelihoods import Likelihood

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

    Returns:
        The trained copy, in eval mode. Parts of the net that are frozen and in evaluation mode keep their statistics.

    Raises:
        ValueError: If the data is empty, not finite or does not fit the likelihood, ``validation`` leaves one side
            empty, a number is out of range, or the loss is not finite.
    """
    for name, value in {"epochs": epochs, "batch_size": batch_size}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if compute.engine not in ("auto", "eager"):
        raise ValueError(f"engine must be 'auto' or 'eager', as dense training is eager, got {compute.engine!r}")
    check_augmentation(augmentation)
    inputs, y = as_inputs_and_targets("data", data)
    layout = InputLayout.of("data", inputs, net)
    x, y = as_pair("data", (inputs, y), layout)
    compute.check_inputs(x)
    trained, frozen = copy.deepcopy(net).to(x), frozen_modules(net, ())
    processes = Processes.found(compute.data_parallel)
    if seed is None and processes.count > 1:
        seed = processes.broadcast(int(torch.randint(2**31, ())))
    with seeded(seed, x.device), computing(trained, compute.precision):
        call = partial(layout.call, trained)
        _check_outputs(trained, call, x, y, likelihood)
        warn_of_scales(x, y, likelihood, layout)
        (x, y), held_out = hold_out(x, y, validation, layout)
        if held_out is not None:
            _check_outputs(trained, call, *held_out, likelihood)
        best = None if held_out is None else _BestEpoch(trained, call, likelihood, held_out, processes, frozen)
        processes.copy_first([*trained.parameters(), *trained.buffers()])
        train_others(trained, frozen)
        loss_of_part = partial(_loss, trained, call, likelihood, compute.layout)
        loss = partial(Shares(compute.accumulate, processes).compute, loss_of_part)
        epoch = partial(batches, x, y, batch_size, layout.changing(augmentation))
        steps = epochs * -(-len(x) // batch_size)
        shown = progress if processes.is_first else False
        _train(trained, loss, epoch, epochs, steps, learning_rate, weight_decay, shown, best)
        processes.settle_buffers(trained)
    return trained.eval()


Call = Callable[[Tensor], Tensor]  # a net, given its inputs as one tensor


def _check_outputs(net: nn.Module, call: Call, x: Tensor, y: Tensor, likelihood: Likelihood) -> None:
    check_gaps("data", y, likelihood)
    net.eval()
    with torch.no_grad():
        output = call(x[:1])
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


def _train(
    net: nn.Module,
    loss_of: Callable[[Tensor, Tensor], tuple[Tensor, Gradients]],
    epoch: Callable[[], Iterable[tuple[Tensor, Tensor]]],
    epochs: int,
    steps: int,
    learning_rate: float,
    weight_decay: float,
    progress: bool | None,
    best: "_BestEpoch | None",
) -> None:
    optimizer = torch.optim.AdamW(net.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in tqdm(range(epochs), unit="epoch", desc="dense", disable=None if progress is None else not progress):
        for xs, ys in epoch():
            loss, gradients = loss_of(xs, ys)
            for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
            schedule.step()
        if best is not None:
            best.see()
    if not torch.isfinite(loss):
        raise ValueError(f"the loss must stay finite, got {float(loss)}: lower learning_rate")
    if best is not None:
        best.restore()


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
        self.least, self.values = math.inf, net.state_dict()

    @torch.no_grad()
    def see(self) -> None:
        """Keep the network's values if they are the best yet."""
        self.net.eval()
        output = torch.cat([self.call(rows) for rows in self.x.split(_SCORED_AT_ONCE)])
        loss = -float(self.likelihood.distribution(output, output.new_ones(())).log_prob(self.y).mean())
        train_others(self.net, self.frozen)
        loss = self.processes.broadcast(loss)  # statistics of a BatchNorm are each process's own until the end
        if loss < self.least:
            self.least, self.values = loss, copy.deepcopy(self.net.state_dict())

    def restore(self) -> None:
        """Give the network the best values."""
        self.net.load_state_dict(self.values)
