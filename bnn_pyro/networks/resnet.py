"""Residual networks for images of 32 x 32 pixels, with a stem that does not shrink them."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from bnn_pyro.arguments import check_flags, check_whole, check_wholes

_LARGE: dict[int, tuple[tuple[int, ...], bool]] = {  # depth -> blocks of each stage, and whether they are bottlenecks
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
}


def resnet(
    depth: int = 20,
    in_channels: int = 3,
    out_features: int = 10,
    *,
    width: int | None = None,
    activation: Callable[[], nn.Module] = nn.SiLU,
) -> "ResNet":
    """Build a residual network of a known depth.

    Depths 20, 32, 44, 56, 110 (and any other 6 n + 2) have three stages of n basic blocks with 16, 32 and 64 channels.
    Depths 18 and 34 have four stages of basic blocks with 64 to 512 channels, 50 of bottlenecks with 256 to 2048. Each
    stage but the first halves the image; where a block changes its shape, its shortcut is a 1 x 1 convolution.

    Source: He, Zhang, Ren and Sun (2016), "Deep Residual Learning for Image Recognition".

    Args:
        depth: Number of layers with weights.
        in_channels: Channels of an image; the net takes tensors of shape ``(batch, in_channels, height, width)``.
        out_features: Number of outputs; the net gives tensors of shape ``(batch, out_features)``.
        width: Channels of the first stage's blocks, 16 or 64 by default; the other stages' widths go with it.
        activation: Makes an activation; called once a place.

    Returns:
        The net, convolutions drawn as He et al. (2015) do.

    Raises:
        ValueError: There is no net of that depth, or a size is not positive.
    """
    check_whole("depth", depth)
    if depth in _LARGE:
        blocks, is_bottleneck = _LARGE[depth]
        first = 64 if width is None else width
    else:
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth must be one of {', '.join(map(str, _LARGE))}, or 6 n + 2 such as 20, got {depth}")
        blocks, is_bottleneck = ((depth - 2) // 6,) * 3, False
        first = 16 if width is None else width
    return ResNet(blocks, in_channels, out_features, width=first, bottleneck=is_bottleneck, activation=activation)


class ResNet(nn.Module):
    """A stem of 3 x 3, stages of residual blocks, the mean over all pixels, and a linear head.

    Args:
        blocks: Number of blocks of each stage; each stage has twice the channels of the one before.
        in_channels: Channels of an image.
        out_features: Number of outputs.
        width: Channels of the stem and of the first stage's blocks.
        bottleneck: Whether a block has three convolutions and gives four times its width, instead of two.
        activation: Makes an activation; called once a place.

    Raises:
        ValueError: A size is not positive, or there is no block.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        in_channels: int = 3,
        out_features: int = 10,
        *,
        width: int = 16,
        bottleneck: bool = False,
        activation: Callable[[], nn.Module] = nn.SiLU,
    ) -> None:
        super().__init__()
        check_wholes({"in_channels": in_channels, "out_features": out_features, "width": width})
        check_flags({"bottleneck": bottleneck})
        if not isinstance(blocks, Sequence) or not blocks:
            raise ValueError(f"blocks must be the number of blocks of each stage, each at least 1, got {blocks!r}")
        check_wholes({f"blocks[{place}]": count for place, count in enumerate(blocks)})
        make = Bottleneck if bottleneck else BasicBlock
        self.stem = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.activation = activation()
        channels, stages = width, nn.Sequential()
        for number, count in enumerate(blocks):
            stage = nn.Sequential()
            for position in range(count):
                stride = 2 if number and not position else 1
                stage.append(make(channels, width * 2**number, stride, activation))
                channels = width * 2**number * make.expansion
            stages.append(stage)
        self.stages = stages
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, out_features)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Map images of shape ``(batch, in_channels, height, width)`` to outputs ``(batch, out_features)``.

        Args:
            x: The images.

        Returns:
            The outputs.
        """
        h = self.stages(self.activation(self.norm(self.stem(x))))
        output: Tensor = self.head(self.pool(h).flatten(1))
        return output


class BasicBlock(nn.Module):
    """``activation(shortcut(h) + norm2(conv2(activation(norm1(conv1(h))))))``, convolutions of 3 x 3.

    Args:
        channels: Channels of its input.
        width: Channels between the convolutions, and of its output.
        stride: Step of the first convolution.
        activation: Makes an activation; called twice.
    """

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.activation1 = activation()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(channels, width, stride)
        self.activation2 = activation()

    def forward(self, h: Tensor) -> Tensor:
        """Map ``(batch, channels, height, width)`` to the block's shape.

        Args:
            h: What the block before gives.

        Returns:
            What this block gives.
        """
        change = self.norm2(self.conv2(self.activation1(self.norm1(self.conv1(h)))))
        output: Tensor = self.activation2(self.shortcut(h) + change)
        return output


class Bottleneck(nn.Module):
    """Three convolutions of 1 x 1, 3 x 3 and 1 x 1, with a shortcut; its output has four times its width.

    Args:
        channels: Channels of its input.
        width: Channels between the convolutions.
        stride: Step of the second convolution.
        activation: Makes an activation; called three times.
    """

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.activation1 = activation()
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.activation2 = activation()
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(4 * width)
        self.shortcut = _shortcut(channels, 4 * width, stride)
        self.activation3 = activation()

    def forward(self, h: Tensor) -> Tensor:
        """Map ``(batch, channels, height, width)`` to the block's shape.

        Args:
            h: What the block before gives.

        Returns:
            What this block gives.
        """
        inner = self.activation1(self.norm1(self.conv1(h)))
        change = self.norm3(self.conv3(self.activation2(self.norm2(self.conv2(inner)))))
        output: Tensor = self.activation3(self.shortcut(h) + change)
        return output


def _shortcut(channels: int, outputs: int, stride: int) -> nn.Module:
    """Return the identity where a block keeps its shape, and a convolution of 1 x 1 where it does not."""
    if stride == 1 and channels == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
