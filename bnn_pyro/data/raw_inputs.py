"""Raw numbers of a table's columns to a network's inputs, as a module that can be exported with the network."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Feature(NamedTuple):
    """One input of a network, made of a column of a table.

    Attributes:
        column: Number of the column.
        kind: ``"value"``, the number itself; ``"level"``, 1 where the column has the level ``code`` and else 0; or
            ``"missing"``, 1 where the cell is missing and else 0.
        fill: What stands for a missing cell, of a ``"value"``.
        code: The level's number, of a ``"level"``.
        levels: How many levels the column has, of a ``"level"``.
        has_missing: Whether the column has a feature of the kind ``"missing"`` too.
    """

    column: int
    kind: str
    fill: float = 0.0
    code: int = 0
    levels: int = 0
    has_missing: bool = False


class RawInputs(nn.Module):
    r"""The inputs of a network from the raw numbers of a table's columns: filled, spread into indicators, scaled.

    A missing cell is NaN; of a column of levels, level :math:`k` enters as the number :math:`k`. With the features
    :math:`v_j`, values or indicators, the inputs are :math:`(v_j - m_j) / s_j`, computed in float64. The indicators of
    a column of levels are 0 after scaling, the mean of the training rows, where the number is no level's, and where the
    cell is missing and none was in the training rows.

    Args:
        features: What each input is made of.
        columns: How many columns there are.
        means: :math:`m_j` of each feature.
        stds: :math:`s_j` of each feature.
    """

    column: Tensor
    fill: Tensor
    level: Tensor
    num_levels: Tensor
    is_value: Tensor
    is_level: Tensor
    takes_missing: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self, features: Sequence[Feature], columns: int, means: Sequence[float], stds: Sequence[float]
    ) -> None:
        super().__init__()
        self.columns = columns
        buffers = {
            "fill": [feature.fill for feature in features],
            "level": [float(feature.code) for feature in features],
            "num_levels": [float(feature.levels) for feature in features],
            "mean": list(means),
            "std": list(stds),
        }
        for name, values in buffers.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64, device="cpu"))
        self.register_buffer("column", torch.tensor([feature.column for feature in features], device="cpu"))
        for kind in ("value", "level"):
            self.register_buffer(
                f"is_{kind}", torch.tensor([feature.kind == kind for feature in features], device="cpu")
            )
        self.register_buffer("takes_missing", torch.tensor([feature.has_missing for feature in features], device="cpu"))
        self.is_plain = [feature.column for feature in features] == list(range(columns)) and bool(self.is_value.all())

    def forward(self, raw: Tensor) -> Tensor:
        """Return the inputs of the network, float32.

        Args:
            raw: The columns' numbers, shape ``(rows, columns)``.

        Returns:
            Shape ``(rows, features)``.
        """
        return ((self.features(raw) - self.mean) / self.std).to(torch.float32)

    def features(self, raw: Tensor) -> Tensor:
        """Return the features before they are scaled, float64.

        Args:
            raw: The columns' numbers, shape ``(rows, columns)``.

        Returns:
            Shape ``(rows, features)``.
        """
        cells = raw if self.is_plain else raw[:, self.column]
        is_missing = torch.isnan(cells)
        values = torch.where(is_missing, self.fill, cells)
        if self.is_plain:
            return values
        is_one = torch.where(self.is_level, cells == self.level, is_missing)
        has_level = (cells >= 0) & (cells < self.num_levels) & (cells == cells.round())
        is_known = has_level | (is_missing & self.takes_missing)
        indicators = torch.where(self.is_level & ~is_known, self.mean, torch.where(is_one, 1.0, 0.0))
        return torch.where(self.is_value, values, indicators)

    def extra_repr(self) -> str:
        """Say how many columns become how many features."""
        return f"columns={self.columns}, features={len(self.mean)}"
