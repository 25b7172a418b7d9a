"""Trees of NUTS on a flat vector: Pyro's own, leaf by leaf."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import NUTS
from torch import Tensor

from bnn_pyro.inference.mcmc.nuts_tree import _joined, _Leaf, _logaddexp, _Tree
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.pyro_chain import SITE, PyroChain
from tests.models import DOUBLE


def normals() -> None:
    sd = torch.logspace(-1, 1, 4, dtype=DOUBLE)
    pyro.sample("x", dist.Normal(torch.zeros(4, dtype=DOUBLE), sd).to_event(1))


def chain(**options: Any) -> PyroChain:
    potential = Potential(normals)
    start = torch.full((4,), 0.3, dtype=DOUBLE)
    return PyroChain(potential, start, kernel="nuts", warmup=20, target_accept=0.8, **options)


@pytest.mark.parametrize("direction", [0, 1])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_tree_is_pyros(depth: int, direction: int) -> None:
    """All but the proposal, which is drawn; of a depth at which it does not turn."""
    kernel = chain().kernel
    torch.manual_seed(1)
    kernel._adapter.step_size = 0.05
    z, value, gradient = kernel._fetch_from_cache()
    r, unscaled = kernel._sample_r("r")
    energy = value + kernel._kinetic_energy(unscaled)
    ours, pyros = (
        build(z, r, gradient, -energy, direction, depth, energy)
        for build in (kernel._build_tree, lambda *args: NUTS._build_tree(kernel, *args))
    )
    for name in ours._fields:
        if not name.startswith("z_proposal") or depth == 0:
            one, two = getattr(ours, name), getattr(pyros, name)
            one, two = ((list(part.values())[0] if isinstance(part, dict) else part) for part in (one, two))
            torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(two), check_dtype=False)


def test_counts_its_leaves() -> None:
    one = chain()
    one.kernel.potential_fn.calls = 0
    transition = one.advance()
    assert int(transition.leapfrogs) == one.kernel.potential_fn.calls > 0


def test_dense_mass_is_left_to_pyro() -> None:
    """It moves, and its matrix is full."""
    one = chain(dense_mass=True)
    before = one.position
    for _ in range(3):
        one.advance()
    assert one.inverse_mass.shape == (4, 4) and not torch.equal(one.position, before)


def test_walk_off_the_edge_diverges() -> None:
    """Where the energy is not a number."""

    def edge() -> None:
        x = pyro.sample("x", dist.Normal(torch.zeros(1, dtype=DOUBLE), 1.0).to_event(1))
        pyro.factor("wall", torch.log(1 - x).sum())

    one = PyroChain(Potential(edge), torch.zeros(1, dtype=DOUBLE), kernel="nuts", warmup=1, target_accept=0.8)
    one.kernel._adapter.step_size = 5.0
    z, energy, gradient = one.kernel._fetch_from_cache()
    for direction, momentum in ((1, 10.0), (0, -10.0)):  # to a position beyond 1
        tree = one.kernel._build_tree(z, {SITE: z[SITE] + momentum}, gradient, -energy, direction, 2, energy)
        assert tree.diverging and tree.num_proposals == 1 and float(tree.sum_accept_probs) == 0


def test_proposal_is_drawn_by_weight() -> None:
    """Of 4,000 draws, within 5 standard errors."""
    zero = torch.zeros(1, dtype=DOUBLE)

    def tree(position: float, weight: float) -> _Tree:
        leaf = _Leaf(zero + position, zero + 1, zero)
        return _Tree(leaf, leaf, leaf, zero, zero + 1, weight, False, False, 1.0, 1)

    torch.manual_seed(0)
    one, two = tree(0.0, math.log(0.25)), tree(1.0, math.log(0.75))
    drawn: Tensor = torch.stack([_joined(one, two).proposal.position for _ in range(4000)])
    assert abs(float(drawn.mean()) - 0.75) < 5 * math.sqrt(0.75 * 0.25 / 4000)
    assert math.isclose(_joined(one, two).weight, 0.0, abs_tol=1e-12) and _joined(one, two).leaves == 2


def test_sum_of_logarithms() -> None:
    assert _logaddexp(-math.inf, -math.inf) == -math.inf
    assert _logaddexp(-math.inf, 2.0) == 2.0
    assert math.isclose(_logaddexp(700.0, 701.0), 701 + math.log1p(math.exp(-1)))
