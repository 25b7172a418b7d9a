"""The nodes of a network: what can be removed from it, and which entries of which parameters go with it."""

from bnn_pyro.nodes.attention import make_attention_plain
from bnn_pyro.nodes.find import find_nodes
from bnn_pyro.nodes.groups import Axis, NodeGroup, Nodes, parameter_axes, positions_kept
from bnn_pyro.nodes.kinds import correct_sizes

__all__ = [
    "Axis",
    "NodeGroup",
    "Nodes",
    "correct_sizes",
    "find_nodes",
    "make_attention_plain",
    "parameter_axes",
    "positions_kept",
]
