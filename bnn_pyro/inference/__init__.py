"""Inference: the drivers and the objective they share."""

from bnn_pyro.inference.mcmc.arviz import to_arviz
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.inference.sgmcmc.fit import Sampler, fit_sghmc
from bnn_pyro.inference.sgmcmc.group_em import GroupEM
from bnn_pyro.inference.sgmcmc.sghmc import CyclicalCosine, SpikeSlabSGHMC
from bnn_pyro.inference.svi.compiled_elbo import CompiledELBO
from bnn_pyro.inference.svi.elbo import SparseELBO, elbo_terms
from bnn_pyro.inference.svi.fit import fit
from bnn_pyro.inference.svi.schedule import LearningRates, Schedule
from bnn_pyro.inference.training.dense import train_dense
from bnn_pyro.posterior.draws import Draws
from bnn_pyro.posterior.files import (
    load_draws,
    load_ensemble,
    load_posterior,
    load_sampled,
    save_draws,
    save_ensemble,
    save_posterior,
    save_sampled,
)

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
