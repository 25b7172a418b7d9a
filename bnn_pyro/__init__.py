"""Structurally sparse Bayesian neural networks in Pyro."""

from bnn_pyro.inference.svi.fit import fit
from bnn_pyro.network import SparseNetwork
from bnn_pyro.nodes import find_nodes
from bnn_pyro.posterior.files import load_posterior, save_posterior
from bnn_pyro.posterior.prune import prune
from bnn_pyro.priors.gaussian import Gaussian
from bnn_pyro.priors.group_horseshoe import GroupHorseshoe
from bnn_pyro.priors.group_lasso import GroupLasso
from bnn_pyro.priors.spike_slab import SpikeSlab

__all__ = [
    "Gaussian",
    "GroupHorseshoe",
    "GroupLasso",
    "SparseNetwork",
    "SpikeSlab",
    "find_nodes",
    "fit",
    "load_posterior",
    "prune",
    "save_posterior",
]
