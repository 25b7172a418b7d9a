"""Dense networks trained side by side, each from weights of its own."""

from typing import Any

import pyro
import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.inference.training.ensemble import as_net, train_ensemble
from bnn_pyro.likelihoods import Categorical, GaussianNoise, HeteroscedasticNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.priors import Gaussian, SpikeSlab

ROWS = 60


def regression(**options: Any) -> tuple[SparseNetwork, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    x = torch.randn(ROWS, 3)
    y = x[:, 0].sin() + x[:, 1] * x[:, 2] + 0.05 * torch.randn(ROWS)
    given = {"prior": Gaussian(), "likelihood": GaussianNoise(), "num_data": ROWS, **options}
    return SparseNetwork(mlp(3, (12,), 1), x[:2], **given), (x, y)


def trained(members: int = 3, **options: Any) -> dict[str, Tensor]:
    model, data = regression()
    return train_ensemble(model, data, **{"members": members, "steps": 400, "seed": 1, "progress": False, **options})


def test_every_member_learns_and_knows_its_noise() -> None:
    model, (x, y) = regression()
    values = trained(steps=1500)
    errors = torch.stack([(as_net(model, values, i)(x)[:, 0] - y).square().mean().sqrt() for i in range(3)])
    assert (errors < 0.3 * y.std()).all()
    assert ((values["noise_scale"] / errors - 1).abs() < 0.5).all()


def test_members_differ_and_a_seed_gives_the_same_again() -> None:
    once, again, other = trained(), trained(), trained(seed=2)
    assert once.keys() == again.keys() and all(torch.equal(once[name], again[name]) for name in once)
    for name, value in once.items():
        assert not torch.equal(value[0], value[1]) and not torch.equal(value, other[name])


def test_minimises_the_loss_of_the_docstring() -> None:
    """Of a linear net with known noise that is ridge regression, which has a closed form."""
    torch.manual_seed(0)
    x = torch.randn(ROWS, 3)
    y, decay, noise = x @ torch.tensor([1.0, -2.0, 0.5]), 40.0, 0.5
    model = SparseNetwork(
        nn.Linear(3, 1, bias=False), x[:2], prior=Gaussian(), likelihood=GaussianNoise(noise), num_data=ROWS
    )
    options: Any = {"batch_size": 4096, "learning_rate": 0.01, "weight_decay": decay, "progress": False}
    values = train_ensemble(model, (x, y), members=2, steps=1500, seed=0, **options)
    exact = torch.linalg.solve(x.T @ x / noise**2 + decay * torch.eye(3), x.T @ y / noise**2)
    torch.testing.assert_close(values["weight"][:, 0], exact.expand(2, 3), atol=0.03, rtol=0)


@pytest.mark.parametrize("outputs", [2, 3])
def test_other_likelihoods(outputs: int) -> None:
    x = torch.randn(ROWS, 3)
    y = x[:, 0] if outputs == 2 else x.argmax(1)
    likelihood = HeteroscedasticNoise() if outputs == 2 else Categorical()
    model = SparseNetwork(mlp(3, (12,), outputs), x[:2], prior=Gaussian(), likelihood=likelihood, num_data=ROWS)
    values = train_ensemble(model, (x, y), members=2, steps=400, seed=0, progress=False)
    assert values.keys() == {p.name for p in model.bayesian}
    net = as_net(model, values, 1)
    if outputs == 2:
        assert (net(x)[:, 0] - y).square().mean() < 0.1
    else:
        assert (net(x).argmax(1) == y).float().mean() > 0.9


def test_all_nodes_are_open_and_nothing_else_changes() -> None:
    model, data = regression(prior=SpikeSlab(Gaussian(), inclusion=0.5), select_inputs=True)
    before, state = {n: v.clone() for n, v in model.state_dict().items()}, torch.get_rng_state()
    values = train_ensemble(model, data, members=2, steps=3, seed=0, progress=False)
    assert values.keys() == {p.name for p in model.bayesian} | {"noise_scale"}
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state) and not dict(pyro.get_param_store())


def test_points_stay() -> None:
    model, data = regression(bayesian=lambda name, _: name.startswith("output"))
    values = train_ensemble(model, data, members=2, steps=3, seed=0, progress=False)
    assert values.keys() == {"output.weight", "output.bias", "noise_scale"}
    assert torch.equal(
        as_net(model, values, 0).get_parameter("hidden1.weight"), model.net.get_parameter("hidden1.weight")
    )


class Bare(nn.Linear):
    """A layer that cannot draw its weights anew, but for the first time."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.reset_parameters = None  # type: ignore[method-assign, assignment]


def test_refuses() -> None:
    model, (x, y) = regression()
    with pytest.raises(ValueError, match="members must be at least 1, got 0"):
        train_ensemble(model, (x, y), members=0)
    with pytest.raises(ValueError, match="weight_decay must be 0 or more and finite, got -1"):
        train_ensemble(model, (x, y), weight_decay=-1.0)
    with pytest.raises(ValueError, match="data must have inputs of shape"):
        train_ensemble(model, (x[:, :2], y))
    with pytest.raises(ValueError, match="the loss of every member must stay finite"):
        train_ensemble(model, (x, y), members=2, steps=5, learning_rate=1e30, seed=0, progress=False)
    bare = SparseNetwork(Bare(3, 1), x[:2], prior=Gaussian(), likelihood=GaussianNoise(), num_data=ROWS)
    with pytest.raises(ValueError, match="must have layers that can be drawn anew"):
        train_ensemble(bare, (x, y))
