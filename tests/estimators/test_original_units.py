"""A network that takes raw numbers."""

import numpy as np
import pytest
import torch

from bnn_pyro.estimators.original_units import OriginalUnits
from bnn_pyro.estimators.scaling import Scaling
from bnn_pyro.networks import mlp

X = np.random.default_rng(0).normal([10.0, -3e5], [2.0, 1e3], (20, 2))
SCALING = Scaling.of(X, 7.0 + X[:, 0])


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_mean_is_in_the_units_of_the_target(outputs: int) -> None:
    """The second output of a network that predicts its noise is none of the mean."""
    net = mlp(2, (4,), outputs)
    found = OriginalUnits(net, SCALING, is_regression=True)(torch.from_numpy(X))
    expected = net(SCALING.inputs(X).float())[:, 0].double() * SCALING.y_std + SCALING.y_mean
    assert found.shape == (20,) and torch.allclose(found, expected, rtol=1e-6)


def test_logits_are_left_as_they_are() -> None:
    net = mlp(2, (4,), 3)
    scaling = Scaling.of(X)
    found = OriginalUnits(net, scaling, is_regression=False)(torch.from_numpy(X))
    assert torch.allclose(found, net(scaling.inputs(X).float()), atol=1e-6)


def test_it_is_a_plain_module_that_can_be_converted_saved_and_exported() -> None:
    module = OriginalUnits(mlp(2, (4,), 1), SCALING, is_regression=True)
    x = torch.from_numpy(X)
    expected = module(x)
    other = OriginalUnits(mlp(2, (4,), 1), Scaling.of(X + 1, X[:, 0]), is_regression=True)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(x), expected)
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("rows", min=2)},)).module()
    assert torch.allclose(program(x[:7]), expected[:7], rtol=1e-6)
    single = other.float()(x.float())
    assert single.dtype == torch.float32
    assert torch.allclose(single, expected.float(), rtol=1e-4)
