"""The fully connected nets compute what their formulas say."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.networks import ResidualMLP, mlp, residual_mlp


def linear(layer: nn.Module, h: Tensor) -> Tensor:
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    return h @ weight.T + bias


def test_children_are_named_by_depth() -> None:
    net = mlp(7, (5, 4), 3)
    assert [name for name, _ in net.named_children()] == ["hidden1", "activation1", "hidden2", "activation2", "output"]
    assert [tuple(p.shape) for p in net.parameters()] == [(5, 7), (5,), (4, 5), (4,), (3, 4), (3,)]


def test_mlp_of_the_experiments_has_478410_parameters() -> None:
    assert sum(p.numel() for p in mlp(784, (400, 400), 10).parameters()) == 478_410


def test_mlp_is_its_formula() -> None:
    net = mlp(7, (5, 4), 3, activation=nn.Tanh).double()
    x = torch.randn(2, 6, 7, dtype=torch.float64)
    h = linear(net.get_submodule("hidden1"), x).tanh()
    h = linear(net.get_submodule("hidden2"), h).tanh()
    torch.testing.assert_close(net(x), linear(net.get_submodule("output"), h))


def test_mlp_without_hidden_layers_is_linear() -> None:
    net = mlp(4, (), 2)
    assert [name for name, _ in net.named_children()] == ["output"]
    x = torch.randn(3, 4)
    torch.testing.assert_close(net(2 * x) - net(x), net(x) - net(torch.zeros_like(x)))


def test_default_activation_is_silu_and_each_layer_has_its_own() -> None:
    net = mlp(4, (3, 3), 2)
    first, second = net.get_submodule("activation1"), net.get_submodule("activation2")
    assert isinstance(first, nn.SiLU)
    assert first is not second


def test_bias_can_be_left_out() -> None:
    net = mlp(4, (3,), 2, bias=False)
    assert [name for name, _ in net.named_parameters()] == ["hidden1.weight", "output.weight"]
    assert net(torch.zeros(1, 4)).abs().max() == 0


def test_residual_mlp_is_its_formula() -> None:
    net = residual_mlp(7, 5, 2, 3, block_width=6, activation=nn.Tanh).double()
    x = torch.randn(4, 7, dtype=torch.float64)
    h = linear(net.stem, x)
    for block in net.blocks:
        h = h + linear(block.get_submodule("output"), linear(block.get_submodule("hidden"), h.tanh()).tanh())
    torch.testing.assert_close(net(x), linear(net.head, h.tanh()))


def test_residual_block_that_adds_nothing_is_the_identity() -> None:
    net = residual_mlp(7, 5, 1, 3)
    shallow = nn.Sequential(net.stem, nn.SiLU(), net.head)
    block = net.blocks.get_submodule("0.output")
    nn.init.zeros_(block.get_parameter("weight"))
    nn.init.zeros_(block.get_parameter("bias"))
    x = torch.randn(4, 7)
    torch.testing.assert_close(net(x), shallow(x))


def test_residual_mlp_depth_and_widths() -> None:
    net = residual_mlp(7, 5, 3, 2)
    assert isinstance(net, ResidualMLP)
    assert len(net.blocks) == 3
    hidden = net.blocks.get_submodule("0.hidden")
    assert hidden.get_parameter("weight").shape == (5, 5)
    assert residual_mlp(7, 5, 1, 2, block_width=9).blocks.get_submodule("0.hidden").get_parameter("bias").shape == (9,)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: mlp(0, (3,), 2), "in_features"),
        (lambda: mlp(4, (3,), -1), "out_features"),
        (lambda: mlp(4, (3, 0), 2), r"hidden\[1\]"),
        (lambda: residual_mlp(0, 3, 1, 2), "in_features"),
        (lambda: residual_mlp(4, 0, 1, 2), "width"),
        (lambda: residual_mlp(4, 3, 0, 2), "depth"),
        (lambda: residual_mlp(4, 3, 1, 0), "out_features"),
        (lambda: residual_mlp(4, 3, 1, 2, block_width=0), "block_width"),
    ],
)
def test_sizes_must_be_positive(make: Callable[[], nn.Module], argument: str) -> None:
    with pytest.raises(ValueError, match=rf"^{argument} must be at least 1"):
        make()
