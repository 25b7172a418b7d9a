"""Random changes of images that leave their labels as they are, for a whole batch at once on its own device."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bnn_pyro.arguments import check_reals, check_whole

_ATTEMPTS = 10  # rectangles drawn for an image, of which the first that fits is erased


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Crops, flips and erases: what one image in a batch undergoes does not depend on the others.

    The crop is as large as the image, out of the image with a border of zeros. The rectangle that is erased has an area
    drawn evenly and an aspect ratio drawn evenly in its logarithm. All randomness comes from torch's generator of the
    images' device, and nothing waits for the device.

    Source: Zhong, Zheng, Kang, Li and Yang (2020), "Random Erasing Data Augmentation"; the default numbers are those of
    Jantre, Bhattacharya and Maiti's residual nets.

    Args:
        padding: Width of the border around an image that crops may reach into; 0 does not crop.
        flip: Probability that an image is flipped from left to right.
        erase: Probability that a rectangle of an image is erased.
        erased_area: Smallest and largest area of the rectangle, as fractions of the image's.
        erased_aspect: Smallest ratio of its height and width; the largest is the inverse.
        fill: What stands in the rectangle afterwards: one value, or one for each channel.

    Raises:
        ValueError: If a number is out of range.
    """

    padding: int = 4
    flip: float = 0.5
    erase: float = 0.5
    erased_area: tuple[float, float] = (0.02, 0.4)
    erased_aspect: float = 0.3
    fill: float | Sequence[float] = 0.0

    def __post_init__(self) -> None:
        check_whole("padding", self.padding, 0)
        check_reals({"flip": self.flip, "erase": self.erase, "erased_aspect": self.erased_aspect})
        for name in ("flip", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a probability in [0, 1], got {getattr(self, name)}")
        smallest, largest = self.erased_area
        if not 0 < smallest <= largest <= 1:
            raise ValueError(f"erased_area must be two fractions in (0, 1], the smaller first, got {self.erased_area}")
        if not 0 < self.erased_aspect <= 1:
            raise ValueError(f"erased_aspect must be in (0, 1], got {self.erased_aspect}")

    @staticmethod
    def of(values: Mapping[str, Any]) -> "Augmentation":
        """Return an augmentation from its settings as they stand in a file: with lists for tuples.

        Args:
            values: The settings by name.

        Raises:
            ValueError: If a number is out of range.
        """
        settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return Augmentation(**settings)

    def __call__(self, x: Tensor) -> Tensor:
        """Change a batch of images.

        Args:
            x: The images, shape ``(batch, channels, height, width)``; they are left alone.

        Returns:
            Images of the same shape, dtype and device.

        Raises:
            ValueError: If x is no batch of images.
        """
        if x.dim() != 4:
            raise ValueError(f"x must be images of shape (batch, channels, height, width), got {tuple(x.shape)}")
        x = self._cropped(x) if self.padding else x
        x = self._flipped(x) if self.flip else x
        return self._erased(x) if self.erase else x

    def _cropped(self, x: Tensor) -> Tensor:
        """Take a window of the image's size out of each image with its border."""
        rows, _, height, width = x.shape
        top, left = torch.randint(2 * self.padding + 1, (2, rows, 1, 1), device=x.device)
        down = top + torch.arange(height, device=x.device).unsqueeze(-1)
        right = left + torch.arange(width, device=x.device)
        image = torch.arange(rows, device=x.device).reshape(-1, 1, 1)
        return F.pad(x, [self.padding] * 4)[image, :, down, right].movedim(-1, 1).contiguous()

    def _flipped(self, x: Tensor) -> Tensor:
        chosen = torch.rand(len(x), 1, 1, 1, device=x.device) < self.flip
        return torch.where(chosen, x.flip(-1), x)

    def _erased(self, x: Tensor) -> Tensor:
        rows, channels, height, width = x.shape
        chosen, top, left, tall, wide = self._rectangles(rows, height, width, x.device)
        down, right = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
        vertical = (down >= top) & (down < top + tall)  # (rows, height)
        horizontal = (right >= left) & (right < left + wide)
        inside = (chosen & vertical).unsqueeze(-1) & horizontal.unsqueeze(-2)
        fills = [self.fill] * channels if isinstance(self.fill, float | int) else self.fill
        fill = torch.stack([x.new_full((1, 1), value) for value in fills])  # a copy from the host would wait for it
        return torch.where(inside.unsqueeze(1), fill, x)

    def _rectangles(self, rows: int, height: int, width: int, device: torch.device) -> tuple[Tensor, ...]:
        """Draw whether an image has a rectangle, its corner and its sides, each of shape ``(rows, 1)``."""
        smallest, largest = self.erased_area
        area = height * width * (smallest + (largest - smallest) * torch.rand(rows, _ATTEMPTS, device=device))
        aspect = torch.exp(math.log(self.erased_aspect) * (1 - 2 * torch.rand(rows, _ATTEMPTS, device=device)))
        tall, wide = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
        fits = (tall < height) & (wide < width)
        first = fits.long().argmax(-1, keepdim=True)
        tall, wide, fits = (drawn.gather(-1, first) for drawn in (tall, wide, fits))
        corner = torch.rand(2, rows, 1, device=device)
        top, left = ((corner[0] * (height - tall + 1)).long(), (corner[1] * (width - wide + 1)).long())
        chosen = (torch.rand(rows, 1, device=device) < self.erase) & fits
        return chosen, top, left, tall, wide
