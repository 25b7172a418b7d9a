"""Masks of nodes, and posteriors whose gates have them."""

import torch
from torch import Tensor, nn

from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.guide import GuidePosterior

Masks = dict[str, Tensor]


def size(net: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in net.parameters())


def set_gates(posterior: GuidePosterior, keep: Masks, logit: float = 30.0) -> None:
    """Settles gates: those that are kept are open, the others closed."""
    with torch.no_grad():
        for name, parameter in posterior.guide.named_parameters():
            group = name.removeprefix("logits.").removesuffix(".gate_unconstrained")
            if group in keep:
                parameter.copy_(torch.where(keep[group], logit, -logit))


def close(posterior: GuidePosterior, which: str) -> None:
    """Closes all gates of the first group, of all groups, of none, or leaves them as they are."""
    sizes = {name: group.size for name, group in posterior.model.groups.items()}
    first = list(sizes)[:1]
    closed = {"first": first, "all": list(sizes), "none": []}.get(which)
    if closed is not None:
        set_gates(posterior, {name: torch.full((size,), name not in closed) for name, size in sizes.items()})


def masks(model: SparseNetwork, seed: int) -> Masks:
    """Masks that keep some nodes of every group."""
    generator = torch.Generator().manual_seed(seed)
    order = {name: torch.randperm(group.size, generator=generator) for name, group in model.groups.items()}
    return {name: ranks < max(1, len(ranks) // 2) for name, ranks in order.items()}
