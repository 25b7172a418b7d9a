"""Likelihoods: the distribution of a target given what the network puts out."""

from bnn_pyro.likelihoods.base import NOISE_SITE, Classes, Likelihood, Normals, Prediction
from bnn_pyro.likelihoods.bernoulli import Bernoulli
from bnn_pyro.likelihoods.categorical import Categorical
from bnn_pyro.likelihoods.class_map import ClassMap
from bnn_pyro.likelihoods.correlated_noise import CorrelatedNoise
from bnn_pyro.likelihoods.gaussian import GaussianNoise
from bnn_pyro.likelihoods.heteroscedastic import HeteroscedasticNoise
from bnn_pyro.likelihoods.mean_dependent import MeanDependentNoise
from bnn_pyro.likelihoods.mixture import Mixture
from bnn_pyro.likelihoods.multi_output import MultiOutputNoise
from bnn_pyro.likelihoods.negative_binomial import NegativeBinomial
from bnn_pyro.likelihoods.poisson import Poisson
from bnn_pyro.likelihoods.row_weights import RowWeights, with_weights
from bnn_pyro.likelihoods.student_t import StudentT

__all__ = [
    "NOISE_SITE",
    "Bernoulli",
    "Categorical",
    "ClassMap",
    "Classes",
    "CorrelatedNoise",
    "GaussianNoise",
    "HeteroscedasticNoise",
    "Likelihood",
    "MeanDependentNoise",
    "Mixture",
    "MultiOutputNoise",
    "NegativeBinomial",
    "Normals",
    "Poisson",
    "Prediction",
    "RowWeights",
    "StudentT",
    "with_weights",
]
