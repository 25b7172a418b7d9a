"""The loss of a batch and its gradient, by autograd and as a compiled program."""

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.inference.gradient import LossGradient
from bnn_pyro.inference.vector import ParameterVector
from bnn_pyro.networks import mlp


def setting() -> tuple[nn.Module, LossGradient]:
    """A net with a parameter that the loss does not depend on."""
    net = mlp(3, (4,), 1).double()
    net.register_parameter("unused", nn.Parameter(torch.ones(2, dtype=torch.float64)))
    trained = ParameterVector(dict(net.named_parameters()))
    return net, LossGradient(lambda x, y: (net(x).squeeze(-1) - y).square().mean(), trained)


def batch(rows: int = 6) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, 3, dtype=torch.float64), torch.randn(rows, dtype=torch.float64)


def check(net: nn.Module, gradient: LossGradient, x: Tensor, y: Tensor) -> None:
    loss = gradient(x, y)
    parameters = list(net.parameters())
    expected = (net(x).squeeze(-1) - y).square().mean()
    found = torch.autograd.grad(expected, parameters, allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient.trained.vector.grad, torch.cat([g.flatten() for g in found]))
    assert not loss.requires_grad


def test_gradients_do_not_add_up() -> None:
    net, gradient = setting()
    for _ in range(2):
        check(net, gradient, *batch())


@pytest.mark.slow
def test_compiled_is_the_same_and_follows_the_parameters() -> None:
    net, gradient = setting()
    gradient.compile(*batch())
    for rows in (6, 4, 6):  # a smaller last batch goes by autograd
        check(net, gradient, *batch(rows))
        with torch.no_grad():
            gradient.trained.vector.mul_(0.7)


def test_traced_program_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled is right before the compiler has seen it."""
    monkeypatch.setattr(torch, "compile", lambda module: module)
    net, gradient = setting()
    gradient.compile(*batch())
    assert gradient.program is not None
    for rows in (6, 4, 6):
        check(net, gradient, *batch(rows))
        with torch.no_grad():
            gradient.trained.vector.mul_(0.7)
