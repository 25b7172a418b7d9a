"""Counts: densities in single precision, gradients at low means, draws."""

import pytest
import torch

from bnn_pyro.likelihoods.counts import OverdispersedCounts, PoissonCounts

Y = torch.tensor([0.0, 1.0, 3.0, 9.0])


@pytest.mark.parametrize("dispersion", [1e-6, 1e-5, 1e-3, 0.1, 3.0])
def test_a_small_dispersion_is_right_in_single_precision(dispersion: float) -> None:
    log_mean = torch.full((4,), 1.1)
    found: list[torch.Tensor] = []
    wanted: list[torch.Tensor] = []
    for dtype, into in ((torch.float32, found), (torch.float64, wanted)):
        d = torch.full((4,), dispersion, dtype=dtype, requires_grad=True)
        density = OverdispersedCounts(log_mean.to(dtype), d).log_prob(Y.to(dtype)).sum()
        into += [density.detach().double(), torch.autograd.grad(density, d)[0].double()]
    torch.testing.assert_close(found, wanted, rtol=2e-3, atol=1e-3)
    if dispersion < 1e-4:
        torch.testing.assert_close(found[0].float(), PoissonCounts(log_mean).log_prob(Y).sum(), rtol=1e-3, atol=1e-3)


def test_a_low_rate_has_a_gradient() -> None:
    f = torch.tensor([-95.0, -110.0], requires_grad=True)
    density = PoissonCounts(f).log_prob(torch.tensor([2.0, 2.0]))
    torch.testing.assert_close(density.detach(), 2 * f.detach() - torch.tensor(2.0).log())
    assert torch.autograd.grad(density.sum(), f)[0].tolist() == [2.0, 2.0]


def test_draws_have_the_moments() -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        for density in (PoissonCounts(torch.zeros(2)), OverdispersedCounts(torch.ones(2), torch.full((2,), 0.5))):
            draws = density.sample(torch.Size([40_000]))
            assert draws.shape == (40_000, 2) and torch.equal(draws, draws.floor())
            torch.testing.assert_close(draws.mean(0), density.mean, rtol=0.03, atol=0.0)
            torch.testing.assert_close(draws.var(0), density.variance, rtol=0.06, atol=0.0)
            assert density.expand((3, 2)).log_prob(Y[:2]).shape == (3, 2)
