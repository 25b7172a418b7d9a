"""The nets by name, as the command line knows them, each made from a list of widths."""

import math
from collections.abc import Sequence
from numbers import Integral

from torch import nn

from bnn_pyro.networks.lenet import lenet
from bnn_pyro.networks.mlp import mlp, residual_mlp
from bnn_pyro.networks.resnet import resnet

_RESNETS = {f"resnet{depth}": depth for depth in (18, 20, 32, 44, 50, 56, 110)}
_OF_IMAGES = ("lenet", *_RESNETS)
NETS: tuple[str, ...] = ("mlp", "residual-mlp", *_OF_IMAGES)
"""The nets by name."""

NARROW = 100
"""Nodes of a layer, up to which a network is trained on one thread."""


def reads_images(name: str) -> bool:
    """Tell whether a net reads images as they are, shape ``(channels, height, width)``, and not flattened.

    Args:
        name: One of `NETS`.
    """
    return name in _OF_IMAGES


def is_narrow(widths: Sequence[int]) -> bool:
    """Tell whether all layers are so narrow that a second thread costs more time than it saves.

    Args:
        widths: Those of the hidden layers.
    """
    return max(widths, default=0) <= NARROW


def default_widths(name: str, given: Sequence[int]) -> tuple[int, ...]:
    """Return widths for a net where they were chosen for a perceptron.

    Args:
        name: One of `NETS`.
        given: Widths of a perceptron's hidden layers, at least one.

    Returns:
        Widths that `check_widths` takes: the literature's for nets that read images.
    """
    if name == "lenet":
        return (20, 50, 800, 500)
    if name in _RESNETS:
        return (64 if name in ("resnet18", "resnet50") else 16,)
    return (*given, *given) if name == "residual-mlp" and len(given) < 2 else tuple(given)


def check_widths(name: str, widths: Sequence[int]) -> None:
    """Check that widths are those of a net.

    Args:
        name: One of `NETS`.
        widths: Width of each hidden layer. For ``residual-mlp`` the first is the width of the channels that all blocks
            share; each further one, all alike, is a block of that many nodes. For ``lenet`` the first two are numbers
            of filters. For a ``resnet`` there is one, the channels of its first stage.

    Raises:
        ValueError: If they are not.
    """
    if not isinstance(widths, Sequence) or not all(isinstance(width, Integral) for width in widths):
        raise TypeError(f"hidden must be whole numbers, got {widths!r}")
    if not widths or min(widths) < 1:
        raise ValueError(f"hidden must be the widths of one hidden layer or more, each at least 1, got {tuple(widths)}")
    if name == "residual-mlp" and (len(widths) < 2 or len(set(widths[1:])) > 1):
        raise ValueError(
            "hidden must be the width of the channels and then that of each block, all alike, for a residual-mlp, "
            f"such as 50,50,50 for two blocks; got {tuple(widths)}"
        )
    if name == "lenet" and len(widths) < 2:
        raise ValueError(
            "hidden must be the filters of both convolutions and then the widths of hidden layers for a lenet, "
            f"such as 20,50,800,500; got {tuple(widths)}"
        )
    if name in _RESNETS and len(widths) > 1:
        raise ValueError(
            f"hidden must be the channels of the first stage for a {name}, such as 16; got {tuple(widths)}"
        )


def make_net(name: str, widths: Sequence[int], input_shape: Sequence[int], out_features: int) -> nn.Module:
    """Build an untrained net.

    Args:
        name: One of `NETS`.
        widths: Widths as `check_widths` describes them.
        input_shape: Shape of one input.
        out_features: Number of outputs.

    Returns:
        The net; unless it reads images it takes inputs of shape ``(*batch, inputs)``.

    Raises:
        ValueError: If the widths are not the net's, or it reads images and the inputs are none, or too small.
    """
    check_widths(name, widths)
    if reads_images(name):
        return _of_images(name, widths, input_shape, out_features)
    in_features = math.prod(input_shape)
    if name == "mlp":
        return mlp(in_features, widths, out_features)
    width, *blocks = widths
    return residual_mlp(in_features, width, len(blocks), out_features, block_width=blocks[0])


def _of_images(name: str, widths: Sequence[int], input_shape: Sequence[int], out_features: int) -> nn.Module:
    if len(input_shape) != 3:
        raise ValueError(
            f"net must be one of mlp, residual-mlp for inputs of shape {tuple(input_shape)}, got {name!r}, which reads "
            "images (channels, height, width)"
        )
    channels, height, width = input_shape
    if name == "lenet":
        first, second, *hidden = widths
        return lenet(channels, out_features, image_size=(height, width), filters=(first, second), hidden=hidden)
    return resnet(_RESNETS[name], channels, out_features, width=widths[0])
