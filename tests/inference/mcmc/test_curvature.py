"""The curvature of the potential energy, and scales in which it is 1."""

import pyro
import pyro.distributions as dist
import torch

from bnn_pyro.inference.mcmc.curvature import curvature, factors
from bnn_pyro.inference.mcmc.potential.potential import Potential
from tests.models import DOUBLE

COVARIANCE = torch.tensor([[4.0, 1.9, 0.0], [1.9, 1.0, 0.0], [0.0, 0.0, 1e-4]], dtype=DOUBLE)


def normal() -> None:
    pyro.sample("x", dist.MultivariateNormal(torch.zeros(3, dtype=DOUBLE), COVARIANCE))


def saddle() -> None:
    """Flat along the first coordinate, and curved downwards along the second."""
    x = pyro.sample("x", dist.Normal(torch.zeros(2, dtype=DOUBLE), 1e6).to_event(1))
    pyro.factor("saddle", 9 * x[1] ** 2 / 2)


def test_of_a_normal_it_is_the_inverse_covariance_and_its_scales_whiten() -> None:
    spread = COVARIANCE.diag().sqrt()
    found = curvature(Potential(normal), torch.randn(2, 3, dtype=DOUBLE), spread)
    exact = spread.outer(spread) * torch.linalg.inv(COVARIANCE)
    values = torch.linalg.eigvalsh(exact)
    raised = torch.linalg.eigvalsh(found)
    torch.testing.assert_close(raised, values.clamp(min=1).expand(2, 3), rtol=1e-5, atol=1e-8)
    scale = factors(exact.expand(2, 3, 3), spread)
    for chain in range(2):
        torch.testing.assert_close(scale[..., chain] @ scale[..., chain].T, COVARIANCE, rtol=1e-6, atol=1e-9)


def test_flat_and_downward_directions() -> None:
    """Neither is longer than the draws have spread; a downward curvature counts as an upward one."""
    spread = torch.tensor([2.0, 1.0], dtype=DOUBLE)
    found = curvature(Potential(saddle), torch.zeros(1, 2, dtype=DOUBLE), spread)
    torch.testing.assert_close(found[0], torch.tensor([[1.0, 0.0], [0.0, 9.0]], dtype=DOUBLE), atol=1e-6, rtol=0)
    scale = factors(found, spread)[..., 0]
    torch.testing.assert_close(scale @ scale.T, torch.tensor([[4.0, 0.0], [0.0, 1 / 9]], dtype=DOUBLE))


def test_where_gradients_are_not_finite_it_is_the_unit() -> None:
    found = curvature(Potential(normal), torch.full((1, 3), torch.inf, dtype=DOUBLE), torch.ones(3, dtype=DOUBLE))
    assert torch.equal(found[0], torch.eye(3, dtype=DOUBLE))
