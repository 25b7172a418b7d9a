"""Running statistics of BatchNorms that fit a settled network.

While gates and weights are drawn anew in each step, running statistics are an average over many networks. The one that
is evaluated, pruned and shipped needs its own.
"""

import copy
import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnn_pyro.input_layout import InputLayout, Inputs


def recompute_batch_norm(
    net: nn.Module, x: Inputs, *, batch_size: int = 1024, frozen: Collection[str] = ()
) -> nn.Module:
    """Return a copy of a network whose BatchNorms have the statistics of some inputs.

    Each running mean and variance becomes the average over batches of that of a batch, each batch normalised by its
    own on the way to the next layer, as in training; all else runs as in evaluation. A network without running
    statistics is only copied.

    Args:
        net: Any network, such as a pruned one.
        x: Inputs, shape ``(rows, ...)``, or a tuple or dictionary of several; they should be the training rows, or many
            of them, in a random order.
        batch_size: Largest number of rows at a time; batches are of equal size.
        frozen: Names of BatchNorms that keep the statistics they have; other names mean nothing.

    Returns:
        The copy, every module in the mode of the original.

    Raises:
        ValueError: If there is no row, or ``batch_size`` is below 1.
    """
    layout = InputLayout.of("x", x, net)
    packed = layout.pack("x", x)
    if len(packed) < 1 or batch_size < 1:
        raise ValueError(f"x must have a row and batch_size be at least 1, got {len(packed)} rows and {batch_size}")
    fresh = copy.deepcopy(net)
    norms = list(_with_statistics(fresh, frozen).values())
    if norms:
        with torch.no_grad(), _averaging(fresh, norms):
            for rows in packed.tensor_split(math.ceil(len(packed) / batch_size)):
                layout.call(fresh, rows)
    return fresh


def evenly_spread(x: Tensor, most: int) -> Tensor:
    """Return rows for statistics: all of them, or about as many as are wanted, evenly spread, as data may be sorted.

    Args:
        x: Inputs, shape ``(rows, ...)``.
        most: How many rows are enough.

    Returns:
        At most ``most`` rows, in their order.
    """
    return x[:: max(1, math.ceil(len(x) / most))]


def running_statistics(net: nn.Module, *, frozen: Collection[str] = ()) -> dict[str, Tensor]:
    """Return the running means and variances of a network's BatchNorms, by their names as buffers.

    Args:
        net: Any network.
        frozen: Names of BatchNorms that are left out.
    """
    found = {}
    for name, norm in _with_statistics(net, frozen).items():
        for leaf in ("running_mean", "running_var"):
            found[f"{name}.{leaf}" if name else leaf] = norm.get_buffer(leaf)
    return found


def _with_statistics(net: nn.Module, frozen: Collection[str]) -> dict[str, _BatchNorm]:
    """Return the BatchNorms that have running statistics and are not frozen."""
    found = {name: module for name, module in net.named_modules() if isinstance(module, _BatchNorm)}
    return {name: norm for name, norm in found.items() if norm.running_mean is not None and name not in frozen}


@contextmanager
def _averaging(net: nn.Module, norms: list[_BatchNorm]) -> Iterator[None]:
    """Let BatchNorms average the statistics of all batches from here on, and put modes and momenta back afterwards."""
    modes = [(module, module.training) for module in net.modules()]
    momenta = [(norm, norm.momentum) for norm in norms]
    for module, _ in modes:
        module.training = False
    for norm in norms:
        norm.reset_running_stats()
        norm.training, norm.momentum = True, None  # None: the plain average of all batches
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for norm, momentum in momenta:
            norm.momentum = momentum
