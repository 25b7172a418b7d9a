"""What the nodes of a traced graph call: the operations of ATen."""

from typing import TypeAlias

import torch
from torch import fx

Operation: TypeAlias = "torch._ops.OpOverload[..., object]"  # a string: in older versions of torch it is not generic


def operation(node: object) -> "Operation | None":
    """Return the operation that a node of a graph calls; None for what is no node, or calls none.

    Args:
        node: A node, or another argument of one.
    """
    if isinstance(node, fx.Node) and node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
        return node.target
    return None
