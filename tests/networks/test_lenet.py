"""LeNet is the net of the literature, and computes what its formula says."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bnn_pyro.evaluation.cost import count_flops, count_parameters
from bnn_pyro.networks import lenet


def test_lenet_of_the_experiments_has_1071880_parameters() -> None:
    net = lenet()
    assert count_parameters(net) == 1_071_880
    products = 24**2 * 20 * 25 + 8**2 * 50 * 20 * 25 + 800 * 800 + 800 * 500 + 500 * 10
    assert count_flops(net, torch.zeros(1, 1, 28, 28)) == 2 * products
    biases = 24**2 * 20 + 8**2 * 50 + 800 + 500 + 10
    assert products + biases == 2_949_030  # as the authors count


def test_lenet_is_its_formula() -> None:
    net = lenet(2, 3, image_size=(16, 20), filters=(4, 5), hidden=(6,), activation=nn.Tanh).double()
    x = torch.randn(2, 2, 16, 20, dtype=torch.float64)
    w1, b1, w2, b2, w3, b3, w4, b4 = net.parameters()
    h = F.max_pool2d(F.conv2d(x, w1, b1), 2).tanh()
    h = F.max_pool2d(F.conv2d(h, w2, b2), 2).tanh().flatten(1)
    torch.testing.assert_close(net(x), F.linear(F.linear(h, w3, b3).tanh(), w4, b4))


def test_default_activation_is_silu_and_each_layer_has_its_own() -> None:
    net = lenet(hidden=(3,), filters=(2, 2))
    activations = [module for module in net.modules() if isinstance(module, nn.SiLU)]
    assert len({id(module) for module in activations}) == 3


def test_there_may_be_no_hidden_layer() -> None:
    assert [name for name, _ in lenet(hidden=()).named_children()][-2:] == ["flatten", "output"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
        ({"out_features": 0}, "out_features must be at least 1, got 0"),
        ({"filters": (0, 3)}, r"filters\[0\] must be at least 1, got 0"),
        ({"hidden": (3, -1)}, r"hidden\[1\] must be at least 1, got -1"),
        ({"image_size": 15}, r"image_size must be at least 16 for two convolutions with pooling, got \(15, 15\)"),
        ({"image_size": (28, 12)}, "image_size must be at least 16"),
    ],
)
def test_bad_sizes_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lenet(**options)  # type: ignore[arg-type]


def test_the_smallest_image_leaves_one_pixel() -> None:
    assert lenet(image_size=16, filters=(2, 3), hidden=())(torch.zeros(1, 1, 16, 16)).shape == (1, 10)
    assert lenet(image_size=16, filters=(2, 3), hidden=()).get_parameter("output.weight").shape == (10, 3)
