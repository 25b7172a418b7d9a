"""Starting points for chains, from an ensemble, values, nets and posteriors."""

from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.inference.mcmc import starts
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.inference.mcmc.starts import starting_points
from bnn_pyro.inference.svi.fit import fit
from bnn_pyro.inference.training.ensemble import train_ensemble
from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.priors import Gaussian, GroupHorseshoe, SpikeSlab
from tests.inference.mcmc.test_sample import regression
from tests.models import DOUBLE, data

ROWS = 20
PLAN = SamplingPlan(kernel="mclmc", chains=2, warmup=10, draws=4)


def network(**options: Any) -> tuple[SparseNetwork, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    x, y = data(ROWS)
    given = {"prior": GroupHorseshoe(), "likelihood": GaussianNoise(), "num_data": ROWS, **options}
    return SparseNetwork(mlp(x.shape[1], (4,), 1).double(), x[:2], **given), (x, y)


def values_of(model: Any, data: Any, points: Tensor) -> dict[str, Tensor]:
    """What the sampler's coordinates say of each site."""
    return Potential(noncentered(model), *data).unflatten(points)


def test_values_come_back() -> None:
    model, rows = network(prior=SpikeSlab(GroupHorseshoe(), inclusion=0.3))
    potential = Potential(noncentered(model), *rows)
    given = potential.unflatten(torch.randn(3, potential.size, dtype=DOUBLE))
    found = values_of(model, rows, starting_points(model, rows, given, chains=3))
    assert found.keys() == given.keys()
    for name, value in given.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9)


def test_of_any_model() -> None:
    rows = data()
    w = torch.tensor([1.0, -2.0, 0.5], dtype=DOUBLE)
    points = starting_points(regression, rows, {"w": w}, chains=2)
    torch.testing.assert_close(values_of(regression, rows, points)["w"], w.expand(2, 3))


def test_of_a_net_the_rest_at_its_median() -> None:
    model, rows = network(prior=SpikeSlab(GroupHorseshoe(), inclusion=1e-3))
    net = mlp(rows[0].shape[1], (4,), 1).double()
    found = values_of(model, rows, starting_points(model, rows, net, chains=2, seed=0))
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(found[name][1], parameter.detach())
    torch.testing.assert_close(found["hidden1.gate"], torch.full((2, 4), 0.95, dtype=DOUBLE))
    torch.testing.assert_close(found["noise_scale"], torch.ones(2, dtype=DOUBLE), atol=0.3, rtol=0)


def test_of_several_nets() -> None:
    model, rows = network()
    nets = [mlp(rows[0].shape[1], (4,), 1).double() for _ in range(2)]
    found = values_of(model, rows, starting_points(model, rows, nets, chains=2))
    for i, net in enumerate(nets):
        torch.testing.assert_close(found["output.weight"][i], net.get_parameter("output.weight").detach())


def test_of_a_guide() -> None:
    model, rows = network(prior=SpikeSlab(Gaussian(), inclusion=0.5))
    fitted = fit(model, rows, epochs=2, seed=0, progress=False)
    points = starting_points(model, rows, fitted, chains=3, seed=1)
    assert torch.equal(points, starting_points(model, rows, fitted, chains=3, seed=1))
    assert not torch.equal(points[0], points[1]) and torch.isfinite(points).all()
    assert Potential(noncentered(model), *rows)(points).isfinite().all()


def test_of_chains() -> None:
    model, rows = network()
    chains = sample(model, rows, PLAN, seed=0, progress=False)
    again = starting_points(model, rows, chains, chains=8)
    torch.testing.assert_close(again, chains.draws.vectors.flatten(0, 1))
    with pytest.raises(ValueError, match="or with the 9 chains before it"):
        starting_points(model, rows, chains, chains=9)


def test_of_an_ensemble(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampled from there, and the same again with the same seed."""
    monkeypatch.setattr(starts, "train_ensemble", partial(train_ensemble, steps=200))
    model, rows = network()
    once, again = (sample(model, rows, PLAN, start="ensemble", seed=4, progress=False) for _ in range(2))
    assert torch.equal(once.draws.vectors, again.draws.vectors)
    points = starting_points(model, rows, "ensemble", chains=2, seed=4, progress=False)
    energy = Potential(noncentered(model), *rows)
    assert (energy(points) < energy(energy.starts(2))).all()


def test_leaves_all_as_it_was() -> None:
    model, rows = network()
    net = mlp(rows[0].shape[1], (4,), 1)
    before, state = {n: v.clone() for n, v in model.state_dict().items()}, torch.get_rng_state()
    starting_points(model, rows, net, chains=2, seed=0)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state) and not dict(pyro.get_param_store())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("dense", "source must be 'ensemble' .* got 'dense'"),
        ({}, "source must have values of .* got values of no site"),
        ({"other": torch.zeros(2)}, "values of .* alone, got other"),
        ({"noise_scale": torch.ones(5)}, r"the site 'noise_scale' in shape \(\), or with the 2 chains .* got \(5,\)"),
        ([mlp(3, (4,), 1)], "or 2 nets, one per chain, got list"),
        (nn.Linear(2, 2), "source must have values of .* got Linear"),
        (3, "got int"),
    ],
    ids=str,
)
def test_refuses(source: Any, message: str) -> None:
    model, rows = network()
    with pytest.raises(ValueError, match=message):
        starting_points(model, rows, source, chains=2)


def test_an_ensemble_is_of_a_network() -> None:
    with pytest.raises(ValueError, match="'ensemble' .of a network."):
        starting_points(regression, data(), "ensemble", chains=2)
    with pytest.raises(ValueError, match="chains must be at least 1, got 0"):
        starting_points(regression, data(), {}, chains=0)


def scaled(x: Tensor, y: Tensor) -> None:
    """A regression with a parameter of Pyro's."""
    scale = pyro.param("scale", torch.ones((), dtype=DOUBLE))
    w = pyro.sample("w", dist.Normal(x.new_zeros(x.shape[1]), scale).to_event(1))
    pyro.sample("y", dist.Normal(x @ w, 0.5).to_event(1), obs=y)


def test_parameters_of_pyro_have_the_values_of_the_store() -> None:
    rows = data()
    pyro.param("scale", torch.tensor(5.0, dtype=DOUBLE))
    points = starting_points(scaled, rows, {"w": torch.ones(3, dtype=DOUBLE)}, chains=2)
    torch.testing.assert_close(values_of(scaled, rows, points)["w"], torch.ones(2, 3, dtype=DOUBLE))
    assert float(pyro.param("scale").detach()) == 5


def test_a_misspelt_site_is_refused() -> None:
    model, rows = network()
    given = {"noise_scale": torch.ones(()), "output.wieght": torch.zeros(1, 4)}
    with pytest.raises(ValueError, match="source must have values of .* alone, got output.wieght"):
        starting_points(model, rows, given, chains=2)
