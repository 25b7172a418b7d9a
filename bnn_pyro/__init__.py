"""Structurally sparse Bayesian neural networks in Pyro."""

from bnn_pyro.inference.checkpoint import Checkpoint
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.inference.mcmc.starts import starting_points
from bnn_pyro.inference.mcmc.stopping import StoppingRule
from bnn_pyro.inference.sgmcmc.fit import fit_sghmc
from bnn_pyro.inference.sgmcmc.group_em import GroupEM
from bnn_pyro.inference.sgmcmc.one_shot import OneShot
from bnn_pyro.inference.sgmcmc.sampler import Sampler
from bnn_pyro.inference.svi.elbo import SparseELBO
from bnn_pyro.inference.svi.fit import fit
from bnn_pyro.inference.svi.schedule import LearningRates, Schedule
from bnn_pyro.inference.training.compute import Compute
from bnn_pyro.inference.training.dense import train_dense
from bnn_pyro.inference.training.ensemble import train_ensemble
from bnn_pyro.input_choice import InputChoice, choose_inputs
from bnn_pyro.likelihoods import (
    Bernoulli,
    Categorical,
    CorrelatedNoise,
    GaussianNoise,
    HeteroscedasticNoise,
    MeanDependentNoise,
    MultiOutputNoise,
    NegativeBinomial,
    Poisson,
    StudentT,
)
from bnn_pyro.network import SparseNetwork
from bnn_pyro.nodes import find_nodes
from bnn_pyro.posterior.files import load_posterior, save_posterior
from bnn_pyro.posterior.prune import prune
from bnn_pyro.priors.gaussian import Gaussian
from bnn_pyro.priors.group_horseshoe import GroupHorseshoe
from bnn_pyro.priors.group_lasso import GroupLasso
from bnn_pyro.priors.spike_slab import SpikeSlab
from bnn_pyro.refinement import Refinement, refine
from bnn_pyro.sparsity_path import SparsityPath, sparsity_path

__all__ = [
    "Bernoulli",
    "Categorical",
    "Checkpoint",
    "Compute",
    "CorrelatedNoise",
    "Gaussian",
    "GaussianNoise",
    "GroupEM",
    "GroupHorseshoe",
    "GroupLasso",
    "HeteroscedasticNoise",
    "InputChoice",
    "LearningRates",
    "MeanDependentNoise",
    "MultiOutputNoise",
    "NegativeBinomial",
    "OneShot",
    "Poisson",
    "Refinement",
    "Sampler",
    "SamplingPlan",
    "Schedule",
    "SparseELBO",
    "SparseNetwork",
    "SparsityPath",
    "SpikeSlab",
    "StoppingRule",
    "StudentT",
    "choose_inputs",
    "find_nodes",
    "fit",
    "fit_sghmc",
    "load_posterior",
    "prune",
    "refine",
    "sample",
    "save_posterior",
    "sparsity_path",
    "starting_points",
    "train_dense",
    "train_ensemble",
]
