"""Which likelihoods take real numbers and which take labels, and targets in the dtype that they take."""

import torch
from torch import Tensor

from bnn_pyro.likelihoods.base import Likelihood
from bnn_pyro.likelihoods.categorical import Categorical
from bnn_pyro.likelihoods.class_map import ClassMap
from bnn_pyro.likelihoods.correlated_noise import CorrelatedNoise
from bnn_pyro.likelihoods.gaussian import GaussianNoise
from bnn_pyro.likelihoods.heteroscedastic import HeteroscedasticNoise
from bnn_pyro.likelihoods.mean_dependent import MeanDependentNoise
from bnn_pyro.likelihoods.multi_output import MultiOutputNoise
from bnn_pyro.likelihoods.row_weights import RowWeights
from bnn_pyro.likelihoods.student_t import StudentT

REAL = (CorrelatedNoise, GaussianNoise, HeteroscedasticNoise, MeanDependentNoise, MultiOutputNoise, StudentT)
LABELS = (Categorical, ClassMap)

_SHORT = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32)


def in_dtype(likelihood: Likelihood | None, y: Tensor, dtype: torch.dtype) -> Tensor:
    """Return targets in the dtype that a likelihood takes, where that changes no value.

    Whole numbers are real ones to a likelihood of real targets, and truth values and short whole numbers are labels to
    one of labels. All other targets stay as they are, for the likelihood to check.

    Args:
        likelihood: The likelihood; None changes nothing.
        y: Targets.
        dtype: That of real targets, such as the inputs'.
    """
    kind = likelihood.base if isinstance(likelihood, RowWeights) else likelihood
    if isinstance(kind, REAL) and not y.is_floating_point() and not y.is_complex():
        return y.to(dtype)
    return y.long() if isinstance(kind, LABELS) and y.dtype in _SHORT else y
