"""A network behind a change of scale of its channels, so that it takes images as they come."""

from collections import OrderedDict

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """``(x - mean) / std``, channel by channel.

    Args:
        mean: What is taken away from each channel, shape ``(channels,)``.
        std: What each channel is divided by afterwards, shape ``(channels,)``.

    Raises:
        ValueError: If the shapes are not those of channels, or a divisor is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        if mean.dim() != 1 or mean.shape != std.shape:
            raise ValueError(
                f"mean and std must have shape (channels,), got {tuple(mean.shape)} and {tuple(std.shape)}"
            )
        if not std.is_meta and not (std > 0).all():
            raise ValueError(f"std must be positive, got {std.tolist()}")
        self.register_buffer("mean", mean.detach().clone().reshape(-1, 1, 1))
        self.register_buffer("std", std.detach().clone().reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise images of shape ``(*batch, channels, height, width)``.

        Args:
            x: The images.

        Returns:
            Images of the same shape.
        """
        return (x - self.mean) / self.std

    def extra_repr(self) -> str:
        """Say how many channels there are."""
        return f"channels={len(self.mean)}"


def normalized(net: nn.Module, channels: int, images: Tensor | None = None) -> nn.Module:
    """Put a network behind the standardisation of its channels by some images.

    Mean and standard deviation are buffers of the first layer, so that they go wherever the network goes: it is
    trained, pruned and exported as one that takes images as they come.

    Args:
        net: A network that reads images.
        channels: Channels of an image.
        images: Images to take the mean and the standard deviation of, those of training, shape ``(rows, channels,
            height, width)``; a standard deviation of 0 counts as 1. None leaves the scale as it is, to be loaded later.

    Returns:
        ``nn.Sequential(normalize=Normalize(mean, std), network=net)``.

    Raises:
        ValueError: If the images are none of so many channels.
    """
    mean, std = torch.zeros(channels), torch.ones(channels)
    if images is not None:
        if images.dim() != 4 or images.shape[1] != channels or not len(images):
            raise ValueError(
                f"images must have shape (rows, {channels}, height, width) and a row, got {tuple(images.shape)}"
            )
        std, mean = torch.std_mean(images, dim=(0, 2, 3), correction=0)
        std = torch.where(std > 0, std, 1.0)
    return nn.Sequential(OrderedDict(normalize=Normalize(mean, std), network=net))
