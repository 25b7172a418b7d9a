"""Inference: the drivers and the objective they share."""

from bnn_pyro.inference.checkpoint import load_posterior, save_posterior
from bnn_pyro.inference.dense import train_dense
from bnn_pyro.inference.objective import SparseELBO, elbo_terms
from bnn_pyro.inference.schedule import LearningRates, Schedule
from bnn_pyro.inference.svi import fit

__all__ = [
    "LearningRates",
    "Schedule",
    "SparseELBO",
    "elbo_terms",
    "fit",
    "load_posterior",
    "save_posterior",
    "train_dense",
]
