"""CorrelatedSlab: its draws, its share of the divergence, and its shapes."""

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from guides.correlated import CorrelatedSlab
from tests.models import DOUBLE
from tests.monte_carlo import assert_mean

FACTOR = torch.tensor([[0.5, 0.0, 0.0], [-1.0, 0.8, 0.0]], dtype=DOUBLE)  # of one weight before, and two of its own
LOC, SCALE = torch.tensor([[1.0, 2.0]], dtype=DOUBLE), torch.tensor([[0.5, 2.0]], dtype=DOUBLE)
DIVERGENCE = torch.tensor([[0.3, 0.4]], dtype=DOUBLE)


def made(before: Tensor, gates: Tensor, kept: list[Tensor]) -> CorrelatedSlab:
    prior = dist.Normal(torch.zeros_like(LOC), torch.ones_like(SCALE))
    return CorrelatedSlab(
        LOC,
        SCALE,
        prior,
        shape=LOC.shape,
        factor=FACTOR,
        before=before,
        gates=gates,
        divergence=DIVERGENCE,
        keep=kept.append,
    )


@pytest.mark.parametrize("gates", [(1.0, 1.0), (0.0, 1.0)])
def test_draws_have_the_mean_and_the_covariance_of_their_factor(gates: tuple[float, float]) -> None:
    """Given the noise before; that of a closed weight reaches no other. At 5 standard errors."""
    kept: list[Tensor] = []
    fn = made(torch.tensor([0.7], dtype=DOUBLE), torch.tensor(gates, dtype=DOUBLE), kept).expand((50_000, 1, 2))
    draws = fn.rsample()
    mean = LOC + SCALE * torch.tensor([0.35, -0.7], dtype=DOUBLE)
    assert_mean(draws, mean)
    factor = torch.tensor([[1.0, 0.0], [0.8 * gates[0], 1.0]], dtype=DOUBLE)
    scaled = ((draws - mean) / SCALE).flatten(1)
    assert_mean(scaled.unsqueeze(-1) * scaled.unsqueeze(-2), factor @ factor.T)
    assert kept[0].shape == (50_000, 2) and bool((kept[0][:, 0] == 0).all()) == (gates[0] == 0)


def test_log_density_less_the_priors_is_the_divergence() -> None:
    fn = made(torch.zeros(1, dtype=DOUBLE), torch.ones(2, dtype=DOUBLE), [])
    prior, value = dist.Normal(torch.zeros_like(LOC), torch.ones_like(SCALE)), fn.rsample()
    torch.testing.assert_close(fn.log_prob(value) - prior.log_prob(value), DIVERGENCE)
    torch.testing.assert_close(kl_divergence(fn, prior), DIVERGENCE)
    assert fn.batch_shape == (1, 2) and fn.event_shape == ()


def test_it_is_drawn_with_the_slabs_before_it() -> None:
    with pytest.raises(NotImplementedError, match="draw its guide again"):
        made(torch.zeros(1, dtype=DOUBLE), torch.ones(2, dtype=DOUBLE), []).rsample((3,))
