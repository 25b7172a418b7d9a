"""Likelihoods: the distribution of a target given what the network puts out."""

from bnn_pyro.likelihoods.base import NOISE_SITE, Classes, Likelihood, Normals
from bnn_pyro.likelihoods.categorical import Categorical
from bnn_pyro.likelihoods.gaussian import GaussianNoise
from bnn_pyro.likelihoods.heteroscedastic import HeteroscedasticNoise

__all__ = ["NOISE_SITE", "Categorical", "Classes", "GaussianNoise", "HeteroscedasticNoise", "Likelihood", "Normals"]
