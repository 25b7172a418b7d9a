"""Shrinking: a smaller model and guide, without the nodes that are not kept, that can be trained on."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bnn_pyro.gated_parameters import gate_site
from bnn_pyro.network import SparseNetwork
from bnn_pyro.nodes import Axis, NodeGroup, Nodes
from bnn_pyro.pruning.cutting import cut_net, kept_positions
from bnn_pyro.pruning.positions import Positions, select
from guides import AutoProgram
from guides.protocols import Guide

CLOSED_LOGIT = -14.0  # inclusion probability 1e-6


@dataclass(frozen=True)
class Shrunk:
    """A smaller model and guide, and where their entries stood.

    Args:
        model: The smaller network; it still takes all inputs.
        guide: Its guide.
        guide_positions: Guide parameter -> dimension -> the positions that were kept, in order; only where something
            was removed.
        net_positions: The same for the net's parameters.
    """

    model: SparseNetwork
    guide: AutoProgram
    guide_positions: Positions
    net_positions: Positions


def shrink(model: SparseNetwork, guide: Guide, keep: Mapping[str, Tensor]) -> Shrunk:
    """Returns the smaller model and guide without the nodes that are not kept; neither argument is changed.

    What is left has the same posterior as before; training may go on.

    Args:
        model: A network.
        guide: Its guide, one of ours.
        keep: Group -> which nodes stay, bool, shape ``(size,)``; groups without a mask keep all.

    Returns:
        The smaller model and guide, with the positions that were kept.

    Raises:
        ValueError: If a group would be left without a node (nothing could be trained there: ``prune`` instead), the
            guide is not ours or has correlated weights, or ``keep`` does not fit.
    """
    if not isinstance(guide, AutoProgram) or not guide.can_shrink:
        raise ValueError(f"guide must be an AutoSpikeSlab or AutoCentered to be shrunk, got {type(guide).__name__}")
    positions = kept_positions(model.net, model.nodes.groups, keep)
    for name, mask in keep.items():
        if not mask.any():
            raise ValueError(
                f"keep must leave a node in every group, got none in {name!r}; use prune for a final network"
            )
    smaller = smaller_model(model, keep, positions)
    by_parameter = {n: _positions_of(n, p.shape, model, keep, positions) for n, p in guide.named_parameters()}
    guide_positions = {name: dims for name, dims in by_parameter.items() if dims}
    return Shrunk(smaller, _smaller_guide(guide, smaller, guide_positions), guide_positions, positions)


def smaller_model(model: SparseNetwork, keep: Mapping[str, Tensor], positions: Positions) -> SparseNetwork:
    """Return the smaller network without the nodes that are not kept; it still takes all inputs.

    Args:
        model: A network.
        keep: Group -> which nodes stay, bool, shape ``(size,)``; groups without a mask keep all.
        positions: What `kept_positions` returns for them.
    """
    net, selection = cut_net(model.net, model.nodes.groups, keep, selection=model.selection)
    groups = tuple(_smaller_group(group, keep, positions) for group in model.nodes.groups)
    return model.replaced(net, Nodes(groups, model.nodes.dense), selection)


def _smaller_group(group: NodeGroup, keep: Mapping[str, Tensor], positions: Positions) -> NodeGroup:
    """Renumbers a group's nodes, and drops the positions that are gone from its axes."""
    mask = keep.get(group.name, torch.ones(group.size, dtype=torch.bool, device="cpu")).cpu()
    numbers = torch.cat([torch.where(mask, mask.cumsum(0) - 1, -1), torch.tensor([-1], device="cpu")])

    def smaller(axis: Axis) -> Axis:
        kept = positions.get(axis.parameter, {}).get(axis.dim)
        index = axis.index if kept is None else axis.index[kept]
        return Axis(axis.parameter, axis.dim, numbers[index.cpu()].to(axis.index.device))

    writers, readers, buffers = (tuple(map(smaller, side)) for side in (group.writers, group.readers, group.buffers))
    return replace(group, size=int(mask.sum()), writers=writers, readers=readers, buffers=buffers)


def _positions_of(
    name: str, shape: Sequence[int], model: SparseNetwork, keep: Mapping[str, Tensor], positions: Positions
) -> dict[int, Tensor]:
    """Returns what is kept of a guide's parameter.

    It has its site's shape, and its site stands for a parameter, a group's gates, or one value a row of a layer;
    whatever else a slab samples for a layer stays whole.
    """
    site = name.removesuffix("_unconstrained").partition(".")[2]
    gates = {gate_site(group): mask for group, mask in keep.items()}
    if site in gates:
        return {} if gates[site].all() else {0: gates[site].nonzero().flatten()}
    names = [parameter.name for parameter in model.bayesian]
    if site not in names:
        layer = max((layer for layer in model.layers if site.startswith(f"{layer}.")), key=len, default=None)
        if layer is None or tuple(shape[:1]) != (model.layers[layer][0],):
            return {}
        of_layer = next((p.name for p in model.bayesian if p.layer == layer), "")
        return {dim: kept for dim, kept in positions.get(of_layer, {}).items() if dim == 0}
    return positions.get(site, {})


def _smaller_guide(guide: AutoProgram, model: SparseNetwork, positions: Positions) -> AutoProgram:
    smaller = copy.deepcopy(guide)
    smaller.model = model.prior
    for name, parameter in smaller.named_parameters():
        if name in positions:
            parameter.data = select(parameter.data, positions[name])
    return smaller
