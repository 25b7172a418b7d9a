"""Targets: several numbers per row as one observation, weighted, with gaps."""

from typing import Any

import pyro.distributions as dist
import pytest
import torch

from bnn_pyro.likelihoods.targets import Targets

LOC = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(4, 3, 2)
Y = LOC.flip(0) + 0.5


def targets(event_dim: int, **options: Any) -> Targets:
    return Targets(dist.Normal(LOC, 0.7, validate_args=False), event_dim, **options)


@pytest.mark.parametrize("event_dim", [0, 1, 2])
def test_the_density_is_that_of_independent_numbers(event_dim: int) -> None:
    found, wanted = targets(event_dim), dist.Normal(LOC, 0.7).to_event(event_dim)
    assert (found.batch_shape, found.event_shape) == (wanted.batch_shape, wanted.event_shape)
    torch.testing.assert_close(found.log_prob(Y), wanted.log_prob(Y))
    torch.testing.assert_close((found.mean, found.variance), (wanted.mean, wanted.variance))
    wider = found.expand((5, *found.batch_shape))
    assert wider.batch_shape == (5, *found.batch_shape) and wider.event_shape == found.event_shape
    torch.testing.assert_close(wider.log_prob(Y), wanted.log_prob(Y).expand(wider.batch_shape))
    assert found.sample(torch.Size([2])).shape == found.rsample(torch.Size([2])).shape == (2, 4, 3, 2)


def test_a_weight_counts_a_number_so_often() -> None:
    weight = torch.tensor([1.0, 3.0], dtype=torch.float64)
    each = dist.Normal(LOC, 0.7).log_prob(Y)
    torch.testing.assert_close(targets(2, weight=weight).log_prob(Y), (each[..., 0] + 3 * each[..., 1]).sum(-1))


def test_what_is_missing_adds_nothing_and_has_no_gradient() -> None:
    y = Y.clone()
    y[0], y[1, 0, 0] = torch.nan, torch.nan
    loc = LOC.clone().requires_grad_()
    found = Targets(dist.Normal(loc, 0.7, validate_args=False), 2, missing=True).log_prob(y)
    each = dist.Normal(LOC, 0.7, validate_args=False).log_prob(y).nan_to_num(0.0)
    torch.testing.assert_close(found.detach(), each.sum((1, 2)))
    found.sum().backward()
    assert loc.grad is not None and loc.grad.isfinite().all()
    assert torch.equal(loc.grad == 0, y.isnan() | (loc.detach() == y))
    assert targets(2).log_prob(y).isnan().tolist() == [True, True, False, False]
