"""Pruning: keep-masks in; a smaller plain network, or a smaller model and guide that can be trained on, out."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bnn_pyro.cutting import cut, kept_positions, split_selection, with_selection
from bnn_pyro.network import SparseNetwork, gate_site
from bnn_pyro.nodes import Axis, NodeGroup, Nodes
from guides import AutoProgram

if TYPE_CHECKING:
    from bnn_pyro.posterior import Posterior

Positions = dict[str, dict[int, Tensor]]
CLOSED_LOGIT = -14.0  # inclusion probability 1e-6


def prune(posterior: "Posterior", *, keep: Mapping[str, Tensor] | None = None, multiple: int = 1) -> nn.Module:
    r"""Returns the median-probability model as a plain, physically smaller module.

    Args:
        posterior: A fitted posterior.
        keep: Group -> which nodes stay, bool, shape ``(size,)``; for groups without a mask :math:`\gamma > 1/2`.
        multiple: What the number of channels of each group is made a multiple of, by channels that nobody reads; GPUs
            may be faster with 8.

    Returns:
        A plain module in eval mode whose output is that of ``posterior.median_model(keep=keep)``. If inputs are removed
        it still takes all of them and selects its own.

    Raises:
        ValueError: If ``keep`` has an unknown group or a mask of another shape or dtype, or ``multiple`` is below 1.
    """
    model, masks = posterior.model, {**posterior.keep(), **(keep or {})}
    whole = posterior.median_model(keep=masks)
    net = whole if model.selection is None else split_selection(whole)[0]
    small, chosen = _cut(net, model.nodes.groups, masks, multiple)
    return with_selection(small, _chained(model.selection, chosen))


def _cut(
    net: nn.Module, groups: Sequence[NodeGroup], keep: Mapping[str, Tensor], multiple: int = 1
) -> tuple[nn.Module, Tensor | None]:
    """Returns the cut net, and the numbers of the inputs that it reads where some are cut.

    A net may have a selection of its own, as a pruned one has; that one stays.
    """
    small = cut(net, groups, keep, multiple=multiple)
    loses_inputs = any(not g.writers and g.name in keep and not keep[g.name].all() for g in groups)
    return split_selection(small) if loses_inputs else (small, None)


def _chained(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """Returns one selection of inputs that does what two do, one after the other."""
    if first is None or second is None:
        return second if first is None else first
    return first[second]


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
    guide: Any
    guide_positions: Positions
    net_positions: Positions


def shrink(model: SparseNetwork, guide: AutoProgram, keep: Mapping[str, Tensor]) -> Shrunk:
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
            guide is not ours, or ``keep`` does not fit.
    """
    if not isinstance(guide, AutoProgram):
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


def select(value: Tensor, dims: Mapping[int, Tensor]) -> Tensor:
    """Returns the kept positions of a tensor along each dimension.

    Args:
        value: A tensor of the unshrunk shape.
        dims: Dimension -> positions.

    Returns:
        The smaller tensor, a copy where anything is removed.
    """
    for dim, kept in dims.items():
        value = value.index_select(dim, kept.to(value.device))
    return value


def put_back(whole: Tensor, part: Tensor, dims: Mapping[int, Tensor]) -> None:
    """Writes a shrunk tensor back to where it stood, in place.

    Args:
        whole: The tensor of the unshrunk shape.
        part: The smaller tensor.
        dims: Dimension -> positions in ``whole``.
    """
    with torch.no_grad():
        if not dims:
            whole.copy_(part)
            return
        places = [dims.get(d, torch.arange(size)).to(whole.device) for d, size in enumerate(whole.shape)]
        whole[torch.meshgrid(*places, indexing="ij")] = part


def compose(first: Positions, second: Positions) -> Positions:
    """Returns the positions in the original of what two shrinkings, one after the other, have kept."""
    composed: Positions = {name: dict(dims) for name, dims in first.items()}
    for name, dims in second.items():
        before = composed.setdefault(name, {})
        for dim, kept in dims.items():
            before[dim] = before[dim][kept] if dim in before else kept
    return composed


def smaller_model(model: SparseNetwork, keep: Mapping[str, Tensor], positions: Positions) -> SparseNetwork:
    """Returns the smaller network without the nodes that are not kept; it still takes all inputs.

    Args:
        model: A network.
        keep: Group -> which nodes stay, bool, shape ``(size,)``; groups without a mask keep all.
        positions: What `kept_positions` returns for them.
    """
    net, chosen = _cut(model.net, model.nodes.groups, keep)
    groups = tuple(_smaller_group(group, keep, positions) for group in model.nodes.groups)
    return model.replaced(net, Nodes(groups, model.nodes.dense), _chained(model.selection, chosen))


def _smaller_group(group: NodeGroup, keep: Mapping[str, Tensor], positions: Positions) -> NodeGroup:
    """Renumbers a group's nodes, and drops the positions that are gone from its axes."""
    mask = keep.get(group.name, torch.ones(group.size, dtype=torch.bool)).cpu()
    numbers = torch.cat([torch.where(mask, mask.cumsum(0) - 1, -1), torch.tensor([-1])])

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


def _smaller_guide(guide: Any, model: SparseNetwork, positions: Positions) -> Any:
    smaller = copy.deepcopy(guide)
    smaller.model = model.prior
    for name, parameter in smaller.named_parameters():
        if name in positions:
            parameter.data = select(parameter.data, positions[name])
    return smaller
