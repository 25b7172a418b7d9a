"""The likelihoods and what they are tested on."""

import math

import pytest
import torch
from torch import Tensor

from bnn_pyro.likelihoods import Categorical, GaussianNoise, HeteroscedasticNoise, Likelihood

ROWS = 7


CASES: dict[str, tuple[Likelihood, int]] = {
    "categorical": (Categorical(), 4),
    "weighted classes": (Categorical((1.0, 2.0, 0.5, 1.0)), 4),
    "known noise": (GaussianNoise(0.3), 1),
    "learned noise": (GaussianNoise(), 1),
    "heteroscedastic noise": (HeteroscedasticNoise(), 2),
}


every_likelihood = pytest.mark.parametrize(("likelihood", "columns"), CASES.values(), ids=CASES.keys())


def output_of(columns: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(ROWS, columns, dtype=dtype, generator=torch.Generator().manual_seed(columns))


def targets_of(columns: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return targets that fit an output of so many columns."""
    return torch.arange(ROWS) % columns if columns > 2 else torch.linspace(-1, 1, ROWS, dtype=dtype)


def normal_log_density(y: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
    return -0.5 * ((y - mean) / sd) ** 2 - sd.log() - 0.5 * math.log(2 * math.pi)
