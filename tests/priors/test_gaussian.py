"""The Gaussian slab."""

import pytest
import torch

from bnn_pyro.priors import Gaussian, gaussian
from tests.models import traced


def test_sigma_is_a_standard_deviation() -> None:
    trace = traced(gaussian)("w", (3, 2), sigma=torch.tensor(0.5, dtype=torch.float64))
    assert trace.nodes["w"]["fn"].base_dist.scale.unique().tolist() == [0.5]
    assert Gaussian(sigma=0.5).scale("w", 3, 2, None, torch.empty(0, dtype=torch.float64)) == 0.5


def test_no_gates_multiply_it() -> None:
    assert "gates" not in traced(gaussian)("w", (3, 2)).nodes["w"]["infer"]


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_sigma_must_be_positive(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma must be positive, got"):
        Gaussian(sigma=sigma)
    with pytest.raises(ValueError, match="sigma must be positive, got"):
        gaussian("w", (3, 2), sigma=sigma)
