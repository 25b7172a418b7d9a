"""The half-Cauchy is that of Pyro."""

import pyro.distributions as dist
import pytest
import torch

from bnn_pyro.likelihoods.half_cauchy import HalfCauchy


def test_it_is_that_of_pyro() -> None:
    scale, x = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([0.0, 0.3, 40.0])
    ours, pyros = HalfCauchy(scale), dist.HalfCauchy(scale)
    assert torch.equal(ours.log_prob(x), pyros.log_prob(x))
    assert torch.equal(ours.cdf(x), pyros.cdf(x)) and ours.support == pyros.support
    torch.manual_seed(1)
    drawn = ours.sample((5,))
    torch.manual_seed(1)
    assert torch.equal(drawn, pyros.sample((5,))) and (drawn >= 0).all()


def test_it_expands() -> None:
    wide = HalfCauchy(torch.tensor(0.5)).expand(torch.Size([2, 3])).to_event(1)
    assert (wide.batch_shape, wide.event_shape) == ((2,), (3,))
    x = torch.rand(2, 3)
    assert torch.equal(wide.log_prob(x), dist.HalfCauchy(0.5).log_prob(x).sum(-1))


@pytest.mark.gpu
def test_nothing_waits_for_it() -> None:
    scale = torch.ones(3, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        made = HalfCauchy(scale)
        made.log_prob(made.rsample())
    finally:
        torch.cuda.set_sync_debug_mode("default")
