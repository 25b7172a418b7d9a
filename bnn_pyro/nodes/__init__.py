"""The nodes of a network: what can be removed from it, and which entries of which parameters go with it."""

from bnn_pyro.nodes.find import find_nodes
from bnn_pyro.nodes.groups import Axis, NodeGroup, Nodes, parameter_axes

__all__ = ["Axis", "NodeGroup", "Nodes", "find_nodes", "parameter_axes"]
