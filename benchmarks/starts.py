"""Many initial nets of a sparse example trained and pruned as one batch: the trials of `sparse_examples.py`.

The same method as `bnn_pyro.inference.fit_sghmc`, cooled and with thresholds on mean squares, for ReLU perceptrons
alone: all nets read the same batches, so that the many inputs are gathered and multiplied once for all of them. Removed
nodes are masked, and an input leaves the arrays once no net has it. Gradients are written out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnn_pyro import networks
from bnn_pyro.inference.sgmcmc.sghmc import START_MOMENTUM, cosine

BETA, ETA = 0.1, 0.1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How an example is trained.

    `starts` initial nets are trained for `trial` epochs, of which after an epoch only a number go on (`halving`: both),
    and the best `finalists` for `epochs` more in `fit_sghmc`, with `last_lr`. Without a trial there is one net, trained
    for `epochs`.

    Args:
        hidden: Widths of the hidden layers.
        epochs: Epochs of `fit_sghmc`.
        lr: Learning rate at the start of a cycle.
        slab_decay: Weight decay d1 in the slab.
        spike_decay: Weight decay d0 in the spike.
        soft: Mean square below which a group is in the spike.
        hard: Mean square below which a node is removed.
        warmup: Epochs before the first removal.
        cycles: Cycles of the step size.
        samples_per_cycle: Snapshots a cycle.
        batch_size: Rows a step.
        trial: Epochs of the trial, one cycle; 0 for none.
        starts: Initial nets of the trial.
        halving: After which epoch how many nets are left, those of the lowest training losses.
        finalists: How many nets of the trial go on.
        last_lr: Their learning rate at the start.
    """

    hidden: tuple[int, ...]
    epochs: int
    lr: float
    slab_decay: float
    spike_decay: float = 1e-2
    soft: float = 1e-2
    hard: float = 1e-3
    warmup: int = 50
    cycles: int = 1
    samples_per_cycle: int = 10
    batch_size: int = 1024
    trial: int = 0
    starts: int = 1
    halving: tuple[int, int] = (0, 0)
    finalists: int = 1
    last_lr: float = 0.0


@dataclass(frozen=True, eq=False)
class Trial:
    """A net as small as it has become, the inputs that it reads, and its training loss in the last epoch."""

    net: nn.Sequential
    inputs: Tensor
    loss: float


def trials(data: tuple[Tensor, Tensor], settings: Settings, starts: int, seed: int, *, labels: bool) -> list[Trial]:
    """Trains initial nets for a while.

    Args:
        data: Inputs ``(rows, inputs)`` and targets ``(rows,)``.
        settings: How they are trained.
        starts: Number of initial nets.
        seed: Seed of the nets, the batches and the sampler's noise.
        labels: Whether targets are labels 0 and 1, whose log-odds the nets give; squared error otherwise.

    Returns:
        The nets that are left, best training loss first.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        nets = [networks.mlp(data[0].shape[1], settings.hidden, 1, activation=nn.ReLU) for _ in range(starts)]
        batch = _Batch(nets, data, settings, labels)
        for epoch in range(settings.trial):
            losses = batch.epoch(epoch)
            if epoch + 1 == settings.halving[0]:
                batch.go_on_with(losses.topk(settings.halving[1], largest=False).indices)
    found = [Trial(*batch.net(number), loss=float(loss)) for number, loss in enumerate(losses)]
    return sorted(found, key=lambda trial: trial.loss)


class _Batch:
    """The nets, one row a net of every tensor, and the state of their samplers."""

    def __init__(
        self, nets: Sequence[nn.Sequential], data: tuple[Tensor, Tensor], settings: Settings, labels: bool
    ) -> None:
        self.settings, self.labels = settings, labels
        self.x, self.y = data[0], data[1].to(data[0])
        layers = [[layer for layer in net if isinstance(layer, nn.Linear)] for net in nets]
        weights = [torch.stack([layer.weight.detach() for layer in same]) for same in zip(*layers, strict=True)]
        biases = [torch.stack([layer.bias.detach() for layer in same]) for same in zip(*layers, strict=True)]
        self.inputs = torch.arange(self.x.shape[1])
        self.alive = [torch.ones(len(nets), weight.shape[2], dtype=torch.bool) for weight in weights]
        self._lay_out([*weights, *biases])
        self.rho = torch.zeros_like(self.values)
        self.momentum = START_MOMENTUM * torch.randn_like(self.values)
        self.noise = torch.randn_like(self.values)
        self.steps = 0

    def _lay_out(self, parameters: list[Tensor]) -> None:
        """Puts the parameters of a net side by side in one row, and weight decays, masks and gradients alike."""
        self.shapes = [parameter.shape[1:] for parameter in parameters]
        self.values = torch.cat([parameter.flatten(1) for parameter in parameters], 1)
        self.decay = torch.full_like(self.values, self.settings.slab_decay)
        self.mask, self.gradient = torch.ones_like(self.values), torch.zeros_like(self.values)
        depth = len(self.shapes) // 2
        parts = self._parts(self.values)
        self.weights, self.biases = parts[:depth], parts[depth:]

    def _parts(self, rows: Tensor) -> list[Tensor]:
        """Returns each parameter's part of the rows, shape ``(nets, *shape)``."""
        parts = rows.split([shape.numel() for shape in self.shapes], 1)
        return [part.view(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def epoch(self, number: int) -> Tensor:
        """Runs an epoch and returns the training losses, shape ``(nets,)``."""
        if number >= self.settings.warmup:
            self._prune()
        total = self.x.new_zeros(len(self.values))
        for rows in torch.randperm(len(self.x)).split(self.settings.batch_size):
            total += self._step(self.x[rows], self.y[rows]) * (len(rows) / len(self.x))
        return total

    # ---- a step ------------------------------------------------------------------------------------------------------

    def _step(self, x: Tensor, y: Tensor) -> Tensor:
        loss = self._fill_gradient(x, y)
        rows, steps = len(self.x), self.settings.trial * -(-len(self.x) // self.settings.batch_size)
        lr = self.settings.lr * cosine(self.steps, steps)
        scale, tau = rows**-0.5 * lr**0.75, self.rho.sigmoid()
        slope = scale * self.noise * self.gradient + scale**2 * tau * self.decay - 1 / (rows * tau)
        self.rho.sub_(slope, alpha=ETA)
        self.noise.normal_()
        force = torch.addcmul(self.gradient, self.values, self.decay)
        self.momentum.mul_(BETA).sub_(force, alpha=lr).add_(self.noise, alpha=math.sqrt(2 + 2 * BETA**2) * scale)
        self.values.addcmul_(self.rho.sigmoid(), self.momentum).mul_(self.mask)
        self.steps += 1
        return loss

    def _fill_gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """Computes the losses of a batch and their gradients."""
        output, hidden = self._forward(x)
        if self.labels:
            loss = F.binary_cross_entropy_with_logits(output, y.expand_as(output), reduction="none").mean(1)
            slope = (output.sigmoid() - y) / len(x)
        else:
            loss, slope = (output - y).square().mean(1), 2 * (output - y) / len(x)
        parts, depth = self._parts(self.gradient), len(self.weights)
        slope = slope[:, None, :]  # (nets, nodes, rows)
        for layer in range(depth - 1, -1, -1):
            parts[depth + layer].copy_(slope.sum(-1))
            if layer:
                parts[layer].copy_(slope @ hidden[layer - 1].transpose(1, 2))
                slope = (self.weights[layer].transpose(1, 2) @ slope) * (hidden[layer - 1] > 0)
            else:
                parts[0].copy_((slope.reshape(-1, len(x)) @ x).view_as(parts[0]))
        return loss

    def _forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns outputs ``(nets, rows)`` and what the hidden layers give, each ``(nets, nodes, rows)``."""
        first = self.weights[0]
        values = (first.reshape(-1, x.shape[1]) @ x.T).view(*first.shape[:2], len(x)) + self.biases[0][..., None]
        hidden = []
        for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            hidden.append(values.clamp_(min=0))
            values = torch.baddbmm(bias[..., None], weight, hidden[-1])
        return values[:, 0], hidden

    # ---- removal -----------------------------------------------------------------------------------------------------

    def _prune(self) -> None:
        """Masks what the hard rule removes, the largest of each layer excepted, and sets weight decays."""
        squares = [torch.where(alive, s, -1.0) for alive, s in zip(self.alive, self._mean_squares(), strict=True)]
        kept = [(square >= self.settings.hard).scatter_(1, square.argmax(1, True), True) for square in squares]
        self.alive = [keep & alive for keep, alive in zip(kept, self.alive, strict=True)]
        read = self.alive[0].any(0)
        if read.sum() < 0.7 * len(read):
            self._leave_out(read.nonzero().flatten())
        self._set_masks_and_decays()

    def _mean_squares(self) -> list[Tensor]:
        """Returns the mean square of the weights that read each node, from nodes that are there."""
        readers = [alive.sum(1, True) for alive in self.alive[1:]] + [self.values.new_ones(len(self.values), 1)]
        return [weight.square().sum(1) / count for weight, count in zip(self.weights, readers, strict=True)]

    def _set_masks_and_decays(self) -> None:
        slab, spike = self.settings.slab_decay, self.settings.spike_decay
        masks, decays, depth = self._parts(self.mask), self._parts(self.decay), len(self.weights)
        outer = [*self.alive[1:], torch.ones(len(self.values), 1, dtype=torch.bool)]
        for layer, square in enumerate(self._mean_squares()):
            masks[layer].copy_(outer[layer][:, :, None] & self.alive[layer][:, None, :])
            masks[depth + layer].copy_(outer[layer])
            decays[layer].copy_(
                torch.where(square >= self.settings.soft, slab, spike)[:, None, :].expand_as(decays[layer])
            )
        self.values.mul_(self.mask)

    def _leave_out(self, read: Tensor) -> None:
        """Goes on with some of the inputs."""
        order = torch.arange(self.values.shape[1])
        first = order[: self.shapes[0].numel()].view(self.shapes[0])[:, read].flatten()
        left = torch.cat([first, order[self.shapes[0].numel() :]])
        self.rho, self.momentum, self.noise = self.rho[:, left], self.momentum[:, left], self.noise[:, left]
        self.x, self.inputs, self.alive[0] = self.x[:, read].contiguous(), self.inputs[read], self.alive[0][:, read]
        self._lay_out([self.weights[0][:, :, read], *self.weights[1:], *self.biases])

    def go_on_with(self, numbers: Tensor) -> None:
        """Leaves all other nets.

        Args:
            numbers: The numbers of those to stay.
        """
        self.rho, self.momentum, self.noise = self.rho[numbers], self.momentum[numbers], self.noise[numbers]
        self.alive = [alive[numbers] for alive in self.alive]
        self._lay_out([parameter[numbers] for parameter in (*self.weights, *self.biases)])
        self._set_masks_and_decays()

    def net(self, number: int) -> tuple[nn.Sequential, Tensor]:
        """Returns a net without the nodes that were removed, and the inputs that it reads."""
        nodes = [alive[number].nonzero().flatten() for alive in self.alive]
        made = networks.mlp(len(nodes[0]), [len(these) for these in nodes[1:]], 1, activation=nn.ReLU)
        layers = [layer for layer in made if isinstance(layer, nn.Linear)]
        outer = [*nodes[1:], torch.zeros(1, dtype=torch.long)]
        with torch.no_grad():
            for layer, weight, bias, rows, columns in zip(layers, self.weights, self.biases, outer, nodes, strict=True):
                layer.weight.copy_(weight[number][rows][:, columns])
                layer.bias.copy_(bias[number][rows])
        return made, self.inputs[nodes[0]]
