"""Inference: the drivers and the objective they share."""

from bnn_pyro.inference.checkpoint import Checkpoint
from bnn_pyro.inference.mcmc.arviz import to_arviz
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.pyro_interface import MCMC
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.inference.sgmcmc.fit import fit_sghmc
from bnn_pyro.inference.sgmcmc.group_em import GroupEM
from bnn_pyro.inference.sgmcmc.one_shot import OneShot
from bnn_pyro.inference.sgmcmc.sampler import Sampler
from bnn_pyro.inference.sgmcmc.sghmc import CyclicalCosine, SpikeSlabSGHMC
from bnn_pyro.inference.svi.compiled_elbo import CompiledELBO
from bnn_pyro.inference.svi.elbo import SparseELBO, elbo_terms
from bnn_pyro.inference.svi.fit import fit
from bnn_pyro.inference.svi.schedule import LearningRates, Schedule
from bnn_pyro.inference.training.compute import Compute
from bnn_pyro.inference.training.dense import train_dense
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.draws import Draws
from bnn_pyro.posterior.ensemble import Ensemble, Snapshot
from bnn_pyro.posterior.files import load_posterior, save_posterior
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.posterior.sampled import SampledPosterior

__all__ = [
    "Checkpoint",
    "CompiledELBO",
    "Compute",
    "CyclicalCosine",
    "Draws",
    "Ensemble",
    "GroupEM",
    "GuidePosterior",
    "LearningRates",
    "MCMC",
    "OneShot",
    "Posterior",
    "Potential",
    "SampledPosterior",
    "Sampler",
    "SamplingPlan",
    "Schedule",
    "Snapshot",
    "SparseELBO",
    "SpikeSlabSGHMC",
    "elbo_terms",
    "fit",
    "fit_sghmc",
    "load_posterior",
    "noncentered",
    "sample",
    "save_posterior",
    "to_arviz",
    "train_dense",
]
