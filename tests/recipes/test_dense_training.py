"""How a dense network is trained: checked before there is data."""

import pytest
import torch

from bnn_pyro.likelihoods import Categorical, GaussianNoise, HeteroscedasticNoise, MeanDependentNoise
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
    noise, none = (training_noise(net, (x, of), GaussianNoise()) for of in (y, net(x).detach().squeeze(1)))
    assert noise is not None and float(noise) == pytest.approx(2**0.5, rel=1e-5)
    assert none is not None and 0 < float(none) <= 1e-6
    assert training_noise(net, (x, y), HeteroscedasticNoise()) is training_noise(net, (x, y), Categorical()) is None


def test_noise_that_follows_the_mean_is_that_of_maximum_likelihood() -> None:
    net, x = mlp(1, (), 1), torch.randn(4000, 1)
    with torch.no_grad():
        net.get_parameter("output.weight").fill_(1.0)
        net.get_parameter("output.bias").fill_(0.0)
    exact = training_noise(net, (x, x[:, 0]), MeanDependentNoise())
    assert exact is not None and exact.shape == (2,) and float(exact.max()) <= 1e-6
    scales = torch.tensor([0.1, 0.4])
    noise = MeanDependentNoise().distribution(x, scales).stddev * torch.randn(4000)
    found = training_noise(net, (x, x[:, 0] + noise), MeanDependentNoise())
    assert found is not None and torch.allclose(found, scales, rtol=0.06)
