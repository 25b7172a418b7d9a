"""Numbers of a prior follow the data, or torch's defaults."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bnn_pyro.priors import (
    gate,
    gaussian,
    group_horseshoe_scale,
    group_lasso_scale,
    half_cauchy,
    slab,
    spike_slab_gaussian,
    spike_slab_group_horseshoe,
    spike_slab_group_lasso,
)
from bnn_pyro.priors.numbers import as_tensor

GIVEN_NUMBERS: dict[str, Callable[..., Tensor]] = {
    "gate": lambda **like: gate("w", 0.3, size=3, **like),
    "gaussian": lambda **like: gaussian("w", (3, 2), sigma=0.5, **like),
    "group_horseshoe_scale": lambda **like: group_horseshoe_scale("w", 3, **like),
    "group_lasso_scale": lambda **like: group_lasso_scale("w", 3, group_size=2, rate=2.0, **like),
    "half_cauchy": lambda **like: half_cauchy("w", **like),
    "slab": lambda **like: slab("w", (3, 2), scale=0.5, **like),
    "spike_slab_gaussian": lambda **like: spike_slab_gaussian("w", (3, 2), inclusion=0.3, **like),
    "spike_slab_group_horseshoe": lambda **like: spike_slab_group_horseshoe("w", (3, 2), inclusion=0.3, **like),
    "spike_slab_group_lasso": lambda **like: spike_slab_group_lasso("w", (3, 2), rate=2.0, inclusion=0.3, **like),
}


@pytest.mark.parametrize("name", GIVEN_NUMBERS)
def test_priors_of_numbers_follow_the_data(name: str) -> None:
    program = GIVEN_NUMBERS[name]
    assert program().dtype == torch.float32
    assert program(like=torch.zeros(2, dtype=torch.float64)).dtype == torch.float64
    with pytest.raises(ValueError, match=r"like must be a floating-point tensor.*got one of torch.int64"):
        program(like=torch.zeros(2, dtype=torch.int64))


@pytest.mark.gpu
@pytest.mark.parametrize("name", GIVEN_NUMBERS)
def test_priors_of_numbers_on_a_gpu(name: str) -> None:
    program = GIVEN_NUMBERS[name]
    assert program(like=torch.zeros(2, device="cuda")).is_cuda
    with torch.device("cuda"):
        assert program().is_cuda


def test_a_number_as_a_tensor() -> None:
    number: Any = as_tensor(0.3, torch.zeros(2, dtype=torch.float64, device="meta"))
    assert (number.device.type, number.dtype, number.shape) == ("meta", torch.float64, ())
    with torch.device("meta"):
        assert as_tensor(0.3, None).device.type == "meta"
    assert as_tensor(number, None) is number
    assert torch.equal(as_tensor(0.3, None), torch.tensor(0.3))
