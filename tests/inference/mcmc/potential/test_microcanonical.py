"""Microcanonical steps: they solve their equations, go back where they came from, and leave a Gaussian as it is."""

import math

import pytest
import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.potential.microcanonical import langevin, mclachlan, noise_size, normalised, turned

DOUBLE = torch.float64


def sphere(entries: int, chains: int) -> Tensor:
    return normalised(torch.randn(entries, chains, dtype=DOUBLE))


def gaussian(scales: Tensor):  # type: ignore[no-untyped-def]
    """The potential energy of independent Normals, as a flow."""

    def flow(q: Tensor) -> tuple[Tensor, Tensor]:
        return q / scales.square(), (q / scales).square().sum(0) / 2

    return flow


def test_the_velocity_solves_its_equation() -> None:
    """Against ten thousand small Euler steps."""
    u, g = sphere(7, 3), torch.randn(7, 3, dtype=DOUBLE)
    found, change = turned(u, g, torch.tensor(0.8, dtype=DOUBLE))
    expected, kinetic, parts = u.clone(), torch.zeros(3, dtype=DOUBLE), 20_000
    for _ in range(parts):
        slope = -(g - expected * (expected * g).sum(0)) / 6
        kinetic -= 0.8 / parts * (expected * g).sum(0)
        expected = normalised(expected + 0.8 / parts * slope)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(change, kinetic, atol=1e-3, rtol=0)


def test_without_a_gradient_the_velocity_stays() -> None:
    u = sphere(5, 2)
    found, change = turned(u, torch.zeros(5, 2, dtype=DOUBLE), torch.tensor(0.3, dtype=DOUBLE))
    torch.testing.assert_close(found, u)
    torch.testing.assert_close(change, torch.zeros(2, dtype=DOUBLE))


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_steep_slopes_stay_finite(dtype: torch.dtype) -> None:
    u = sphere(5, 2).to(dtype)
    for slope in (u * 1e8, -u * 1e8):
        found, change = turned(u, slope, torch.tensor(1.0, dtype=dtype))
        assert found.isfinite().all() and change.isfinite().all()


def test_a_step_can_be_taken_back() -> None:
    flow, scale = gaussian(torch.tensor([[1.0], [2.0], [0.5]], dtype=DOUBLE)), torch.ones(3, 1, dtype=DOUBLE)
    step, size = mclachlan(flow), torch.tensor(0.4, dtype=DOUBLE)
    q, u = torch.randn(3, 4, dtype=DOUBLE), sphere(3, 4)
    slope, value = flow(q)
    there = step(q, u, value, slope, scale, size)
    back = step(there.position, -there.velocity, there.value, there.gradient, scale, size)
    torch.testing.assert_close(back.position, q)
    torch.testing.assert_close(back.velocity, -u)
    torch.testing.assert_close(back.error, -there.error)


def test_the_energy_error_is_of_third_order() -> None:
    flow, scale = gaussian(torch.tensor([[1.0], [2.0], [0.5]], dtype=DOUBLE)), torch.ones(3, 1, dtype=DOUBLE)
    step, q, u = mclachlan(flow), torch.randn(3, 50, dtype=DOUBLE), sphere(3, 50)
    slope, value = flow(q)
    errors = [
        float(step(q, u, value, slope, scale, torch.tensor(size, dtype=DOUBLE)).error.abs().mean())
        for size in (0.1, 0.05)
    ]
    assert 6.5 < errors[0] / errors[1] < 9.5


def test_a_scale_is_a_change_of_coordinates() -> None:
    scales = torch.tensor([[1.0], [2.0], [0.5]], dtype=DOUBLE)
    q, u, size = torch.randn(3, 4, dtype=DOUBLE), sphere(3, 4), torch.tensor(0.3, dtype=DOUBLE)
    wide, unit = gaussian(scales), gaussian(torch.ones_like(scales))
    here, there = wide(q * scales), unit(q)
    found = mclachlan(wide)(q * scales, u, here[1], here[0], scales, size)
    expected = mclachlan(unit)(q, u, there[1], there[0], torch.ones_like(scales), size)
    torch.testing.assert_close(found.position / scales, expected.position)
    torch.testing.assert_close(found.error, expected.error)


def test_variances_of_a_gaussian() -> None:
    """Within 8 % each, of 64 chains: the Monte Carlo error is about 2 %, the bias of the step less."""
    torch.manual_seed(0)
    scales = torch.logspace(-1, 1, 20, dtype=DOUBLE).unsqueeze(1)
    flow, size, length = gaussian(scales), 1.2, math.sqrt(20)
    step, total, steps = langevin(flow, 1e3), torch.zeros(20, dtype=DOUBLE), 2000
    q, u = scales * torch.randn(20, 64, dtype=DOUBLE), sphere(20, 64)
    slope, value = flow(q)
    eps, nu = torch.tensor(size, dtype=DOUBLE), torch.tensor(noise_size(size, length, 20), dtype=DOUBLE)
    errors = 0.0
    for _ in range(steps):
        q, u, value, slope, error = step(q, u, value, slope, scales, eps, torch.randn_like(q), nu)
        total += q.square().mean(1) / steps
        errors += float(error.square().mean()) / steps / 20
    assert errors < 1e-2
    assert (total / scales.squeeze(1).square() - 1).abs().max() < 0.08


@pytest.mark.parametrize("beyond", [torch.inf, torch.nan])
def test_a_chain_bounces_where_the_energy_ends(beyond: float) -> None:
    def wall(q: Tensor) -> tuple[Tensor, Tensor]:
        value = torch.where(q[0] > 1, beyond, 0.0) + q.square().sum(0) / 2
        return q, value.to(DOUBLE)

    q = torch.tensor([[0.9, -0.9], [0.0, 0.0]], dtype=DOUBLE)
    u = torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=DOUBLE)
    slope, value = wall(q)
    size, nu = torch.tensor(0.5, dtype=DOUBLE), torch.tensor(0.0, dtype=DOUBLE)
    found = langevin(wall, 1e3)(q, u, value, slope, torch.ones(2, 1, dtype=DOUBLE), size, torch.randn_like(q), nu)
    assert torch.equal(found.position[:, 0], q[:, 0]) and torch.equal(found.velocity[:, 0], -u[:, 0])
    assert found.error[0] == torch.inf and found.error[1].isfinite() and (found.position[:, 1] != q[:, 1]).any()
    noisy = langevin(wall, 1e3)(q, u, value, slope, torch.ones(2, 1, dtype=DOUBLE), size, torch.ones_like(q), size)
    assert torch.equal(noisy.position[:, 0], q[:, 0])
    torch.testing.assert_close(noisy.velocity[:, 0], normalised(0.5 - u)[:, 0])


def test_the_noise_of_long_steps_is_finite() -> None:
    assert noise_size(0.5, 2.0, 4) == pytest.approx(math.sqrt(math.expm1(0.5) / 4))
    assert math.isfinite(noise_size(1e6, 1.0, 4))
