"""A chain of Pyro's kernels: how its transitions went, and that its energy is conserved."""

from typing import Any

import pytest
import torch
from pyro.infer import MCMC, NUTS
from torch import Tensor

from bnn_pyro.inference.mcmc.kernel import Move
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.pyro_chain import SITE, PyroChain
from tests.inference.mcmc.test_sample import regression, wall
from tests.models import DOUBLE, NOISE, data


def chain(potential: Potential, **options: Any) -> PyroChain:
    given = {"kernel": "nuts", "warmup": 20, "target_accept": 0.8, **options}
    return PyroChain(potential, torch.zeros(potential.size, dtype=DOUBLE), **given)


def moves(of: PyroChain, number: int) -> list[Move]:
    return [of.advance() for _ in range(number)]


@pytest.mark.parametrize("kernel", ["nuts", "hmc"])
def test_transitions_tell_how_they_went(kernel: str) -> None:
    torch.manual_seed(0)
    found = chain(Potential(regression, *data()), kernel=kernel)
    moves(found, 20)
    calls, before = found._energy.calls, found.energy
    went = moves(found, 10)
    assert sum(int(move.leapfrogs) for move in went) == found._energy.calls - calls
    assert went[0].total_energy > before and went[1].total_energy.shape == ()
    mean = sum(float(move.acceptance) for move in went) / 10
    assert mean == pytest.approx(found.kernel._mean_accept_prob) and 0.4 < mean <= 1
    assert not any(bool(move.diverged) for move in went)


def test_total_energy_is_that_of_the_start_and_a_new_momentum() -> None:
    """A momentum's energy is n/2 on average, here 3/2 with a standard error of 0.12; failure rate below 1e-4."""
    torch.manual_seed(0)
    found = chain(Potential(regression, *data()))
    moves(found, 20)
    kinetic = []
    for _ in range(100):
        before = found.energy
        kinetic.append(float(found.advance().total_energy - before))
    assert min(kinetic) > 0 and abs(sum(kinetic) / 100 - 1.5) < 0.5


def test_divergences_belong_to_their_transition() -> None:
    torch.manual_seed(0)
    found = chain(Potential(wall), warmup=1)
    went = moves(found, 8)[1:]
    assert [number for number, move in enumerate(went) if move.diverged] == found.kernel._divergences != []


def test_is_pyros_own_chain() -> None:
    """With a full mass matrix the same draws as of ``MCMC`` with the potential written out, from the same seed."""
    torch.manual_seed(0)
    x, y = data()

    def energy(values: dict[str, Tensor]) -> Tensor:
        w = values[SITE]
        return (y - x @ w).square().sum() / (2 * NOISE**2) + w.square().sum() / 8

    torch.manual_seed(4)
    ours = chain(Potential(regression, x, y), warmup=25, dense_mass=True)
    moves(ours, 25)
    positions = [ours.position for _ in range(5) if ours.advance()]
    kernel: Any = NUTS(potential_fn=energy, full_mass=True)
    initial = {SITE: torch.zeros(3, dtype=DOUBLE)}
    mcmc: Any = MCMC(kernel, num_samples=5, warmup_steps=25, initial_params=initial, disable_progbar=True)
    torch.manual_seed(4)
    mcmc.run()
    torch.testing.assert_close(torch.stack(positions), mcmc.get_samples()[SITE])
