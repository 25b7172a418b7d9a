"""SettledDraws: draws of a network with BatchNorm, each with running statistics of its own."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bnn_pyro.gated_parameters import gate_site
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.network_draws import NetworkDraws, latent_of
from bnn_pyro.pruning.batch_norm import recompute_batch_norm, running_statistics
from bnn_pyro.pruning.cutting import kept_positions
from bnn_pyro.pruning.positions import select
from bnn_pyro.pruning.shrink import smaller_model


@dataclass(frozen=True, eq=False)
class SettledDraws:
    r"""Draws of a network with BatchNorm, each with running statistics of its own.

    In training a BatchNorm normalises a batch by its own mean and variance, so what is fitted is the network
    :math:`f(x; w, s(w))` with the statistics :math:`s(w)` that the training rows have under the weights w. With those
    of another draw, or of the median model, a draw is a network that was never fitted. So each draw is kept with its
    statistics, by one pass over training rows, as Stochastic Weight Averaging makes them for its weights.

    Nodes that are closed in all of the draws are left out.

    Args:
        keep: Group -> which nodes are open in at least one draw, bool, shape ``(size,)``.
        drawn: The draws, statistics included, in a network of these nodes.

    Source: Maddox et al. (2019), *A simple baseline for Bayesian uncertainty in deep learning*, section 3.
    """

    keep: Mapping[str, Tensor]
    drawn: NetworkDraws

    @classmethod
    def of(
        cls, model: SparseNetwork, keep: Mapping[str, Tensor], tensors: Mapping[str, Tensor], latent: Tensor | None
    ) -> "SettledDraws":
        """Return draws that are there already, such as those of a file.

        Args:
            model: The whole network.
            keep: Group -> which nodes the draws have.
            tensors: Name of a parameter or a running statistic -> its value in each draw, shape ``(draws, *shape)``.
            latent: The likelihood's own latent in each draw; None if it has none.

        Raises:
            ValueError: If the network without the other nodes has no such tensor, or has it in another shape.
        """
        small = smaller_model(model, keep, kept_positions(model.net, model.nodes.groups, keep))
        small.net.eval()
        shapes = {name: tuple(tensor.shape) for name, tensor in small.net.state_dict().items()}
        for name, tensor in tensors.items():
            if shapes.get(name) != tuple(tensor.shape[1:]):
                got = f"{name!r} of shape {tuple(tensor.shape[1:])}"
                raise ValueError(f"draws must be of the network's tensors, {shapes.get(name, 'none')} here, got {got}")
        return cls(keep, NetworkDraws(small, tensors, latent))

    @classmethod
    @torch.no_grad()
    def settled(
        cls, model: SparseNetwork, values: Mapping[str, Tensor], x: Tensor, *, batch_size: int = 1024
    ) -> "SettledDraws":
        """Return draws with the statistics that some inputs give to each.

        Args:
            model: The network.
            values: Latent site -> its values, shape ``(draws, *shape)``.
            x: Training inputs, shape ``(rows, *input_shape)``, or many of them.
            batch_size: Largest number of rows at a time.
        """
        weights = {parameter.name: values[parameter.name] for parameter in model.bayesian}
        gates = {name: values[gate_site(name)] for name in model.groups}
        keep = {name: (gate != 0).any(0) for name, gate in gates.items()}
        positions = kept_positions(model.net, model.nodes.groups, keep)
        tensors = {
            name: select(tensor, {dim + 1: kept for dim, kept in positions.get(name, {}).items()})
            for name, tensor in torch.vmap(model.assemble)(weights, gates).items()
        }
        drawn = cls.of(model, keep, tensors, latent_of(model, values)).drawn
        return cls(keep, replace(drawn, tensors={**tensors, **_statistics(drawn, x, batch_size)}))


def _statistics(draws: NetworkDraws, x: Tensor, batch_size: int) -> dict[str, Tensor]:
    """Return the running statistics of each draw, shape ``(draws, channels)``, one pass over the inputs for each."""
    model, tensors = draws.model, draws.tensors
    read = model.layout.native(x if model.selection is None else x.index_select(-1, model.selection))
    net, each = copy.deepcopy(model.net), []
    for drawn in zip(*tensors.values(), strict=True):
        for name, value in zip(tensors, drawn, strict=True):
            net.get_parameter(name).copy_(value)
        fresh = recompute_batch_norm(net, read, batch_size=batch_size, frozen=model.frozen)
        each.append(running_statistics(fresh, frozen=model.frozen))
    return {name: torch.stack([statistics[name] for statistics in each]) for name in each[0]}
