"""LeNet-5 as Caffe has it: two convolutions with pooling, and a perceptron behind them."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import nn

from bnn_pyro.arguments import check_wholes

_KERNEL = 5


def lenet(
    in_channels: int = 1,
    out_features: int = 10,
    *,
    image_size: int | tuple[int, int] = 28,
    filters: tuple[int, int] = (20, 50),
    hidden: Sequence[int] = (800, 500),
    activation: Callable[[], nn.Module] = nn.SiLU,
) -> nn.Sequential:
    """Build LeNet-5-Caffe: convolutions ``conv1``, ``conv2`` of 5 x 5, each pooled by 2 x 2, and hidden layers.

    Each convolution is ``h <- activation(pool(conv(h)))``, without padding. With one channel of 28 x 28 pixels it has
    20 and 50 filters, 800 features that the perceptron reads, and 1,071,880 weights and biases with hidden layers of
    800 and 500 nodes. Source: LeCun et al. (1998), "Gradient-Based Learning Applied to Document Recognition"; the
    sizes, and SiLU, are those of Jantre, Bhattacharya and Maiti (2023), with a hidden layer more than Caffe's.

    Args:
        in_channels: Channels of an image; the net takes tensors of shape ``(batch, in_channels, height, width)``.
        out_features: Number of outputs; the net gives tensors of shape ``(batch, out_features)``.
        image_size: Height and width of an image, one number for both.
        filters: Number of filters of each convolution.
        hidden: Width of each hidden layer of the perceptron; it may have none.
        activation: Makes an activation; called once a layer.

    Returns:
        The net, with PyTorch's own initial values.

    Raises:
        ValueError: A size is not positive, or the image too small for the two convolutions.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    sizes = {"in_channels": in_channels, "out_features": out_features}
    sizes |= {f"filters[{i}]": size for i, size in enumerate(filters)}
    sizes |= {f"hidden[{i}]": size for i, size in enumerate(hidden)}
    check_wholes(sizes)
    check_wholes({"image_size": height, "image_size of the width": width})
    if len(filters) != 2:
        raise ValueError(f"filters must be two numbers, one for each convolution, got {tuple(filters)}")
    pixels = [_pooled(_pooled(side)) for side in (height, width)]
    if min(pixels) < 1:
        raise ValueError(f"image_size must be at least 16 for two convolutions with pooling, got {(height, width)}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = in_channels
    for depth, next_channels in enumerate(filters, start=1):
        layers[f"conv{depth}"] = nn.Conv2d(channels, next_channels, _KERNEL)
        layers[f"pool{depth}"] = nn.MaxPool2d(2)
        layers[f"conv_activation{depth}"] = activation()
        channels = next_channels
    layers["flatten"] = nn.Flatten()
    features = channels * pixels[0] * pixels[1]
    for depth, next_features in enumerate(hidden, start=1):
        layers[f"hidden{depth}"] = nn.Linear(features, next_features)
        layers[f"activation{depth}"] = activation()
        features = next_features
    layers["output"] = nn.Linear(features, out_features)
    return nn.Sequential(layers)


def _pooled(side: int) -> int:
    """Return what a convolution and a pooling leave of a side."""
    return (side - _KERNEL + 1) // 2
