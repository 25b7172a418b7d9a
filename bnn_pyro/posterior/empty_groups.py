"""Groups of nodes of which none is left: how they are found, and what is said of them wherever results appear."""

from collections.abc import Mapping, Sequence

from torch import Tensor


def empty_groups(keep: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the groups of which no node is kept.

    Args:
        keep: Group -> which nodes are kept, bool, shape ``(size,)``.
    """
    return [name for name, mask in keep.items() if not mask.any()]


def empty_warning(names: Sequence[str], kl_weight: float) -> str:
    """Return a warning that names groups without a node and says what to do; empty if there are none.

    Args:
        names: The groups.
        kl_weight: The weight of the divergence that the nodes were selected with.
    """
    if not names:
        return ""
    groups = ", ".join(map(repr, names))
    return (
        f"no node of {groups} is left: unless a connection leads around it, the network gives the same output for all "
        f"inputs; lower the KL weight (kl_weight or --kl-weight, {kl_weight:g} here), let held-out rows choose it "
        "(sparsity_path or --kl-weight auto), or train for more epochs"
    )
