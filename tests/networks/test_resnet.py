"""Residual nets have the sizes of the literature, and their blocks compute what their formulas say."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.evaluation.cost import count_flops, count_parameters
from bnn_pyro.networks import ResNet, resnet
from bnn_pyro.networks.resnet import BasicBlock, Bottleneck

# depth, weights of the main path and the head's biases, products of one image of 32 x 32 on the same path
AUTHORS = [
    (20, 268_346, 40_551_050),
    (32, 461_882, 68_862_602),
    (44, 655_418, 97_174_154),
    (56, 848_954, 125_485_706),
    (110, 1_719_866, 252_887_690),
]


@pytest.mark.parametrize(("depth", "parameters", "products"), AUTHORS)
def test_sizes_are_those_of_the_authors(depth: int, parameters: int, products: int) -> None:
    """They count neither BatchNorms nor shortcuts."""
    net = resnet(depth)
    named = dict(net.named_parameters())
    main = [p.numel() for name, p in named.items() if "shortcut" not in name and (p.dim() > 1 or name == "head.bias")]
    assert sum(main) == parameters
    shortcuts = 16 * 32 * 16**2 + 32 * 64 * 8**2
    assert count_flops(net, torch.zeros(1, 3, 32, 32)) == 2 * (products - 10 + shortcuts)


@pytest.mark.parametrize(("depth", "channels", "convolutions"), [(18, 512, 17 + 3), (34, 512, 33 + 3), (50, 2048, 53)])
def test_large_nets(depth: int, channels: int, convolutions: int) -> None:
    net = resnet(depth, width=2)
    assert net.head.in_features == channels // 32
    assert sum(isinstance(module, nn.Conv2d) for module in net.modules()) == convolutions
    assert net.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_resnet18_has_11_million_parameters() -> None:
    assert count_parameters(resnet(18)) == 11_173_962


def randomised(block: nn.Module) -> Any:
    """A block in float64 and evaluation mode, with BatchNorms like no other."""
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (*module.parameters(), module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)  # type: ignore[arg-type]
    return block.double().eval()


@pytest.mark.parametrize("stride", [1, 2])
def test_basic_block_is_its_formula(stride: int) -> None:
    block = randomised(BasicBlock(3, 3, stride, nn.Tanh))
    h = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    change = block.norm2(block.conv2(block.norm1(block.conv1(h)).tanh()))
    shortcut: Tensor = h if stride == 1 else block.shortcut[1](block.shortcut[0](h))
    torch.testing.assert_close(block(h), (shortcut + change).tanh())
    assert block(h).shape == (2, 3, 6 // stride, 6 // stride)


@pytest.mark.parametrize("channels", [8, 3])
def test_bottleneck_is_its_formula(channels: int) -> None:
    block = randomised(Bottleneck(channels, 2, 1, nn.Tanh))
    h = torch.randn(2, channels, 4, 4, dtype=torch.float64)
    inner = block.norm2(block.conv2(block.norm1(block.conv1(h)).tanh())).tanh()
    shortcut: Tensor = h if channels == 8 else block.shortcut[1](block.shortcut[0](h))
    torch.testing.assert_close(block(h), (shortcut + block.norm3(block.conv3(inner))).tanh())


def test_net_is_its_parts() -> None:
    net = randomised(resnet(8, 2, 4, width=3))
    x = torch.randn(2, 2, 8, 12, dtype=torch.float64)
    h = nn.functional.silu(net.norm(net.stem(x)))
    for stage in net.stages:
        for block in stage:
            h = block(h)
    assert h.shape == (2, 12, 2, 3)
    torch.testing.assert_close(net(x), net.head(h.mean((-2, -1))))


def test_each_activation_is_a_module_of_its_own() -> None:
    net = resnet(8, width=2, activation=nn.ReLU)
    assert len({id(module) for module in net.modules() if isinstance(module, nn.ReLU)}) == 7


@pytest.mark.parametrize("depth", [2, 7, 19, 21, 51])
def test_unknown_depths_are_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=f"depth must be one of 18, 34, 50, or 6 n . 2 such as 20, got {depth}"):
        resnet(depth)


@pytest.mark.parametrize(
    ("blocks", "options", "message"),
    [
        ((1,), {"width": 0}, "width must be at least 1, got 0"),
        ((1,), {"in_channels": 0}, "in_channels must be at least 1"),
        ((1,), {"out_features": 0}, "out_features must be at least 1"),
        ((), {}, "blocks must be the number of blocks of each stage"),
        ((1, 0), {}, r"blocks\[1\] must be at least 1, got 0"),
    ],
)
def test_bad_sizes_are_refused(blocks: tuple[int, ...], options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNet(blocks, **options)  # type: ignore[arg-type]
