"""Targets in the dtype that a likelihood takes, and every likelihood of a kind."""

from typing import Any

import numpy as np
import pytest
import torch

from bnn_pyro import fit, networks
from bnn_pyro.likelihoods import Bernoulli, Categorical, ClassMap, GaussianNoise, Poisson, RowWeights, StudentT
from bnn_pyro.likelihoods.kinds import in_dtype
from bnn_pyro.network import SparseNetwork
from bnn_pyro.priors import Gaussian

WHOLE = torch.tensor([0, 1, 1, 0])


@pytest.mark.parametrize("likelihood", [GaussianNoise(), StudentT(), RowWeights(GaussianNoise())])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
def test_whole_numbers_are_real_ones(likelihood: Any, dtype: torch.dtype) -> None:
    found = in_dtype(likelihood, WHOLE.to(dtype), torch.float64)
    assert found.dtype == torch.float64 and found.tolist() == [0.0, 1.0, 1.0, 0.0]
    assert in_dtype(likelihood, WHOLE.float(), torch.float64).dtype == torch.float32


@pytest.mark.parametrize("likelihood", [Categorical(), ClassMap(1), RowWeights(Categorical())])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
def test_short_whole_numbers_are_labels(likelihood: Any, dtype: torch.dtype) -> None:
    found = in_dtype(likelihood, WHOLE.to(dtype), torch.float64)
    assert found.dtype == torch.int64 and found.tolist() == [0, 1, 1, 0]
    assert in_dtype(likelihood, WHOLE.float(), torch.float64).dtype == torch.float32


def test_other_targets_stay_as_they_are() -> None:
    for likelihood in (None, Poisson(), Bernoulli()):
        assert in_dtype(likelihood, WHOLE.bool(), torch.float64).dtype == torch.bool


@pytest.mark.parametrize(
    ("likelihood", "outputs", "y"),
    [(GaussianNoise(), 1, WHOLE.numpy()), (Categorical(), 2, WHOLE.bool().numpy()), (Categorical(), 2, WHOLE.int())],
)
def test_fits_and_scores_take_them(likelihood: Any, outputs: int, y: Any) -> None:
    x = np.linspace(-1, 1, 8).reshape(4, 2)
    net = networks.mlp(2, (3,), outputs)
    model = SparseNetwork(net, torch.zeros(2, 2), prior=Gaussian(), likelihood=likelihood, num_data=4)
    posterior = fit(model, (x, y), epochs=1, seed=0, progress=False)
    assert posterior.history[0]["train_nll"] == pytest.approx(posterior.evaluate_median(x, y)["nll"])
