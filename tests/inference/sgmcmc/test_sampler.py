"""The sampler's options reach its optimiser, and are checked at once."""

import pytest
import torch
from torch import nn

from bnn_pyro.inference.sgmcmc.sampler import Sampler


def test_the_optimiser_has_its_options() -> None:
    sampler = Sampler(lr=0.3, betas=(0.2, 0.9), eta=0.05, temperature=0.5)
    group = sampler.optimizer(nn.Parameter(torch.zeros(2)), num_data=7, weight_decay=0.1).param_groups[0]
    assert (group["lr"], group["betas"], group["eta"], group["temperature"]) == (0.3, (0.2, 0.9), 0.05, 0.5)
    assert (group["num_data"], group["weight_decay"]) == (7, 0.1)


def test_it_checks_its_options() -> None:
    with pytest.raises(ValueError, match="lr must be finite and not negative"):
        Sampler(lr=-1.0)
