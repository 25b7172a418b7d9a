"""How a dense network is trained: checked before there is data."""

import pytest
import torch

from bnn_pyro.networks import mlp
from bnn_pyro.recipes.dense_training import DenseTraining, training_noise


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
def test_there_is_something_to_train_on(name: str) -> None:
    with pytest.raises(ValueError, match=f"dense.{name} must be at least 1, got 0"):
        DenseTraining(**{name: 0})


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_the_rows_held_out_are_a_part(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"dense.validation must be in \(0, 1\) or None"):
        DenseTraining(validation=fraction)


def test_noise_is_that_of_maximum_likelihood() -> None:
    net, x = mlp(2, (3,), 1), torch.randn(5, 2)
    y = net(x).detach().squeeze(1) + torch.tensor([1.0, -1.0, 2.0, 0.0, 2.0])
    assert float(training_noise(net, (x, y))) == pytest.approx(2**0.5, rel=1e-5)
    assert 0 < float(training_noise(net, (x, net(x).detach().squeeze(1)))) <= 1e-6
