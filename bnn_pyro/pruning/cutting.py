"""Cutting: the smaller network that is left when nodes are physically removed."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bnn_pyro.network import check_features
from bnn_pyro.nodes import NodeGroup, correct_sizes, find_nodes, make_attention_plain, positions_kept


class InputSelection(nn.Module):
    """Passes on some of the input features, ``x[..., index]``.

    Args:
        index: Numbers of the features that are passed on, in their order, shape ``(kept,)``.
    """

    index: Tensor

    def __init__(self, index: Tensor) -> None:
        super().__init__()
        self.register_buffer("index", index)

    def forward(self, x: Tensor) -> Tensor:
        """Select features, ``(*batch, features)`` to ``(*batch, kept)``."""
        return x.index_select(-1, self.index)

    def extra_repr(self) -> str:
        """Say how many features are passed on."""
        return f"kept={len(self.index)}"


def cut(net: nn.Module, groups: Sequence[NodeGroup], keep: Mapping[str, Tensor], *, multiple: int = 1) -> nn.Module:
    """Return a copy of a network without the nodes that are not kept.

    It computes what ``net`` would if the readers' columns of the removed nodes were zero, from smaller weights. Closed
    nodes stay in place, with zeros in their readers' columns, up to a multiple of channels, and where a group of a
    convolution or a BatchNorm would have none, as these layers take no empty tensors. A net that loses inputs still
    takes all of them: it comes as ``network`` behind an `InputSelection` called ``select``, in one ``nn.Sequential``.

    Args:
        net: The network that the groups were found in.
        groups: Its node groups, as `bnn_pyro.nodes.find_nodes` returns them.
        keep: Name of a group -> which of its nodes stay, bool, shape ``(size,)``. Groups without a mask keep all nodes.
        multiple: What the number of channels of each group is made a multiple of, if it is not the whole one: some
            devices are faster so, GPUs with 8.

    Returns:
        The smaller network; parameters that nothing was cut from are copies. Gradients are not copied.

    Raises:
        ValueError: If ``keep`` names an unknown group or has a mask of another shape or dtype, the groups do not fit
            ``net``, or ``multiple`` is below 1.
    """
    return with_selection(*cut_net(net, groups, keep, multiple=multiple))


def cut_net(
    net: nn.Module,
    groups: Sequence[NodeGroup],
    keep: Mapping[str, Tensor],
    *,
    multiple: int = 1,
    selection: Tensor | None = None,
) -> tuple[nn.Module, Tensor | None]:
    """Return the smaller network of `cut`, and beside it which inputs it reads.

    Args:
        net: The network that the groups were found in.
        groups: Its node groups.
        keep: Name of a group -> which of its nodes stay, bool, shape ``(size,)``. Groups without a mask keep all nodes.
        multiple: What the number of channels of each group is made a multiple of.
        selection: Numbers of the features that ``net`` itself is given, shape ``(inputs,)``; None where it is given
            all.

    Returns:
        The smaller network, and the numbers of the features that it is to be given, shape ``(kept,)``; None for all.

    Raises:
        ValueError: As `cut` does.
    """
    positions = kept_positions(net, groups, keep, multiple=multiple)
    small = copy.deepcopy(net)
    small.zero_grad(set_to_none=True)
    _close_what_stands(small, groups, keep, multiple)
    named = dict((*small.named_parameters(), *small.named_buffers()))
    replace_tensors(small, {name: _selected(named[name], dims) for name, dims in positions.items()})
    kept = _kept_inputs(groups, keep)
    if kept is None or selection is None:
        return small, selection if kept is None else kept
    return small, selection[kept]


def cut_inputs(net: nn.Module, example: Tensor, reads: Tensor) -> nn.Module:
    """Return a copy of a net that takes some of its input features alone.

    Args:
        net: The net, which takes all of them.
        example: Inputs of it, shape ``(batch, ..., features)``.
        reads: Numbers of the features that the copy takes, in increasing order, shape ``(kept,)``.

    Returns:
        The smaller net, to be given ``x[..., reads]``.

    Raises:
        ValueError: If the net's inputs cannot be removed, or the numbers are none of features.
    """
    check_features(reads, example.shape[-1])
    if bool((reads.diff() <= 0).any()):
        raise ValueError(f"reads must be increasing, got {reads.tolist()}")
    whole = find_nodes(net, example, inputs=True)
    if whole.inputs is None:
        raise ValueError("net must have inputs that can be removed, got one whose inputs are no nodes")
    keep = torch.zeros(example.shape[-1], dtype=torch.bool, device=example.device).index_fill(0, reads, True)
    return cut_net(net, whole.groups, {whole.inputs.name: keep})[0]


def kept_positions(
    net: nn.Module, groups: Sequence[NodeGroup], keep: Mapping[str, Tensor], *, multiple: int = 1
) -> dict[str, dict[int, Tensor]]:
    """Find which positions along which dimensions of parameters and buffers are left when nodes are removed.

    Whatever is shaped like a parameter (a posterior mean, an optimiser's state) is cut by these positions too.

    Args:
        net: The network that the groups were found in.
        groups: Its node groups, as `bnn_pyro.nodes.find_nodes` returns them.
        keep: Name of a group -> which of its nodes stay, bool, shape ``(size,)``. Groups without a mask keep all nodes.
        multiple: What the number of channels of each group is made a multiple of, as in `cut`.

    Returns:
        ``positions[parameter][dim]``, the positions that stay, in their order; only where something is removed.

    Raises:
        ValueError: If ``keep`` names an unknown group or has a mask of another shape or dtype, the groups do not fit
            ``net``, or ``multiple`` is below 1.
    """
    if multiple < 1:
        raise ValueError(f"cut: multiple must be at least 1, got {multiple}")
    check_masks(groups, keep)
    _check_groups(net, groups)
    return positions_kept(groups, keep, multiple=multiple)


def check_masks(groups: Sequence[NodeGroup], keep: Mapping[str, Tensor]) -> None:
    """Check masks of nodes.

    Args:
        groups: The node groups.
        keep: Name of a group -> which of its nodes stay, bool, shape ``(size,)``.

    Raises:
        ValueError: If ``keep`` names an unknown group or has a mask of another shape or dtype.
    """
    sizes = {group.name: group.size for group in groups}
    for name, mask in keep.items():
        if name not in sizes:
            raise ValueError(
                f"cut: keep must be masks of the groups {', '.join(sizes) or '(none)'}; got one of {name!r}"
            )
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != (sizes[name],):
            got = f"{mask.dtype} of shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
            raise ValueError(f"cut: keep[{name!r}] must be a bool tensor of shape ({sizes[name]},); got {got}")


def _check_groups(net: nn.Module, groups: Sequence[NodeGroup]) -> None:
    shapes = {name: tensor.shape for name, tensor in (*net.named_parameters(), *net.named_buffers())}
    for group in groups:
        for axis in group.axes:
            length = shapes[axis.parameter][axis.dim] if axis.parameter in shapes else None
            if length != len(axis.index):
                found = "none" if length is None else f"length {length}"
                raise ValueError(
                    f"cut: groups must be those that find_nodes finds in net; {group.name!r} needs dim {axis.dim} "
                    f"of {axis.parameter!r} to have length {len(axis.index)}, got {found}. Call find_nodes on this net"
                )


@torch.no_grad()
def _close_what_stands(
    small: nn.Module, groups: Sequence[NodeGroup], keep: Mapping[str, Tensor], multiple: int
) -> None:
    """Put zeros where readers look at nodes that stay in place though they are not kept."""
    parameters = dict(small.named_parameters())
    for group in (group for group in groups if group.name in keep):
        kept = keep[group.name]
        closed = group.standing(kept, multiple=multiple) & ~kept
        for axis in group.readers if closed.any() else ():
            columns = ~axis.spread(~closed.to(axis.index.device))
            parameters[axis.parameter].index_fill_(axis.dim, columns.nonzero().flatten(), 0.0)


def _selected(tensor: Tensor, positions: Mapping[int, Tensor]) -> Tensor:
    """A new parameter, or buffer, with the kept positions; the old storage is not held."""
    value = tensor.detach()
    for dim, kept in positions.items():
        value = value.index_select(dim, kept)
    return nn.Parameter(value, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else value


def replace_tensors(net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put other parameters and buffers into a network, in place, and let its layers note their sizes.

    Args:
        net: The network to change.
        tensors: Name -> what to put there, a parameter for a parameter; each stands wherever the old one stood.
    """
    for module in put_tensors(net, tensors):
        correct_sizes(module)
    make_attention_plain(net, only_cut=True)


def put_tensors(net: nn.Module, tensors: Mapping[str, Tensor]) -> list[nn.Module]:
    """Put other parameters and buffers into a network, in place, of whatever shape; its layers are not told.

    Args:
        net: The network to change.
        tensors: Name -> what to put there, a parameter for a parameter; each stands wherever the old one stood.

    Returns:
        The modules that own one of them.
    """
    named = dict((*net.named_parameters(), *net.named_buffers()))
    by_old = {id(named[name]): tensor for name, tensor in tensors.items()}
    owners = []
    for module in net.modules():
        owned = (*module._parameters.items(), *module._buffers.items())
        changed = [(leaf, by_old[id(old)]) for leaf, old in owned if id(old) in by_old]
        for leaf, tensor in changed:
            setattr(module, leaf, tensor)
        if changed:
            owners.append(module)
    return owners


def _kept_inputs(groups: Sequence[NodeGroup], keep: Mapping[str, Tensor]) -> Tensor | None:
    """Return the numbers of the inputs, the group without writers, that stay; None where all do."""
    masks = [(group, keep[group.name]) for group in groups if not group.writers and group.name in keep]
    for group, mask in masks:
        if not mask.all():
            return mask.nonzero().flatten().to(group.readers[0].index.device if group.readers else mask.device)
    return None


def with_selection(net: nn.Module, index: Tensor | None) -> nn.Module:
    """Put a selection of input features before a net.

    Args:
        net: The net that reads the selected features.
        index: Their numbers, shape ``(kept,)``; None for all, which leaves the net as it is.

    Returns:
        ``nn.Sequential(select=InputSelection(index), network=net)``, or the net itself.
    """
    if index is None:
        return net
    select = InputSelection(index)
    selecting = nn.Sequential(OrderedDict(select=select, network=net))
    select.training = selecting.training = net.training  # train() would also reach the modules inside the net
    return selecting


def split_selection(net: nn.Module) -> tuple[nn.Module, Tensor | None]:
    """Take a net apart that `with_selection` has put together.

    Args:
        net: Any net.

    Returns:
        The net behind the selection, and the numbers of the selected features; the net itself and None where there is
        no selection.
    """
    if isinstance(net, nn.Sequential) and isinstance(select := getattr(net, "select", None), InputSelection):
        return net.get_submodule("network"), select.index
    return net, None
