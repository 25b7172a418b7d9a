"""Training of the plain network: the dense baseline, and the warm start of a sparse one."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from bnn_pyro.inference.batches import Data, as_pair, batches, seeded
from bnn_pyro.likelihoods import Likelihood


def train_dense(
    net: nn.Module,
    train_data: Data,
    *,
    likelihood: Likelihood,
    epochs: int = 5,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.05,
    seed: int | None = None,
    progress: bool | None = None,
) -> nn.Module:
    """Trains a copy of a plain network by AdamW on the likelihood's negative log-density.

    The learning rate falls to 0 by a cosine over the run. A latent of the likelihood (a learned noise) is held at 1.

    Args:
        net: Any plain module.
        train_data: (x, y); training happens on their device and dtype.
        likelihood: How outputs give observations.
        epochs: Passes over the data.
        batch_size: Rows a step.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        seed: Seed of this call; None goes on from the global random state.
        progress: Whether to show a progress bar; None shows it on a terminal.

    Returns:
        The trained copy, in eval mode.

    Raises:
        ValueError: If the data is empty, not finite or does not fit the likelihood, a number is out of range, or the
            loss is not finite.
    """
    for name, value in {"epochs": epochs, "batch_size": batch_size}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    x, y = as_pair("train_data", train_data)
    trained = copy.deepcopy(net).to(x)
    with seeded(seed, x.device):
        _check_outputs(trained, x, y, likelihood)
        _train(trained.train(), x, y, likelihood, epochs, batch_size, learning_rate, weight_decay, progress)
    return trained.eval()


def _check_outputs(net: nn.Module, x: Tensor, y: Tensor, likelihood: Likelihood) -> None:
    with torch.no_grad():
        output = net.eval()(x[:1])
    likelihood.check(output.expand(len(y), *output.shape[1:]), y)


def _train(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    likelihood: Likelihood,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    progress: bool | None,
) -> None:
    optimizer = torch.optim.AdamW(net.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)
    steps = epochs * -(-len(x) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    noise = torch.ones((), dtype=x.dtype, device=x.device)
    for _ in tqdm(range(epochs), unit="epoch", desc="dense", disable=None if progress is None else not progress):
        for xs, ys in batches(x, y, batch_size):
            distribution: Any = likelihood.distribution(net(xs), noise)
            loss: Tensor = -distribution.log_prob(ys).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    if not torch.isfinite(loss):
        raise ValueError(f"the loss must stay finite, got {float(loss.detach())}: lower learning_rate")
