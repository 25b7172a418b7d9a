"""Inference: the drivers and the objective they share."""

from bnn_pyro.inference.adaptive import Sampler, fit_sghmc
from bnn_pyro.inference.arviz_export import to_arviz
from bnn_pyro.inference.chain_file import load_draws, load_sampled, save_draws, save_sampled
from bnn_pyro.inference.checkpoint import load_posterior, save_posterior
from bnn_pyro.inference.compiled import CompiledELBO
from bnn_pyro.inference.dense import train_dense
from bnn_pyro.inference.draws import Draws
from bnn_pyro.inference.ensemble_file import load_ensemble, save_ensemble
from bnn_pyro.inference.group_em import GroupEM
from bnn_pyro.inference.hmc import sample
from bnn_pyro.inference.objective import SparseELBO, elbo_terms
from bnn_pyro.inference.potential import Potential
from bnn_pyro.inference.reparam import noncentered
from bnn_pyro.inference.schedule import LearningRates, Schedule
from bnn_pyro.inference.sghmc import CyclicalCosine, SpikeSlabSGHMC
from bnn_pyro.inference.svi import fit

__all__ = [
    "CompiledELBO",
    "CyclicalCosine",
    "Draws",
    "GroupEM",
    "LearningRates",
    "Potential",
    "Sampler",
    "Schedule",
    "SparseELBO",
    "SpikeSlabSGHMC",
    "elbo_terms",
    "fit",
    "fit_sghmc",
    "load_draws",
    "load_ensemble",
    "load_posterior",
    "load_sampled",
    "noncentered",
    "sample",
    "save_draws",
    "save_ensemble",
    "save_posterior",
    "save_sampled",
    "to_arviz",
    "train_dense",
]
