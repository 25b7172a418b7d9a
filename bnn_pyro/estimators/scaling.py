"""Scaling: the affine maps between the units of a table and those that a network works in."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from bnn_pyro.data import Dataset, Split

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scaling:
    """Means and standard deviations of the training rows, by which inputs and targets are standardised.

    Args:
        x_mean: Mean of each input, shape ``(features,)``.
        x_std: Standard deviation of each input, 1 where it is constant, shape ``(features,)``.
        y_mean: Mean of the targets; 0 for classes.
        y_std: Standard deviation of the targets, 1 where they are constant or classes.
    """

    x_mean: Floats
    x_std: Floats
    y_mean: float = 0.0
    y_std: float = 1.0

    @classmethod
    def of(cls, x: Floats, y: Floats | None = None, *, weight: Floats | None = None) -> "Scaling":
        """Return the scaling by some rows.

        Args:
            x: Inputs, shape ``(rows, features)``.
            y: Real targets, shape ``(rows,)``; None for classes.
            weight: How many rows each row counts for, shape ``(rows,)``; None for 1.
        """
        inputs = StandardScaler().fit(x, sample_weight=weight)
        if y is None:
            return cls(inputs.mean_, inputs.scale_)
        target = StandardScaler().fit(y.reshape(-1, 1), sample_weight=weight)
        return cls(inputs.mean_, inputs.scale_, float(target.mean_[0]), float(target.scale_[0]))

    def inputs(self, x: Floats) -> Tensor:
        """Return standardised inputs, float64 of shape ``(rows, features)``.

        Args:
            x: Inputs in their own units, shape ``(rows, features)``.
        """
        return torch.from_numpy((x - self.x_mean) / self.x_std)

    def targets(self, y: Floats) -> Tensor:
        """Return standardised targets, float64 of shape ``(rows,)``.

        Args:
            y: Targets in their own units, shape ``(rows,)``.
        """
        return torch.from_numpy((y - self.y_mean) / self.y_std)

    def dataset(
        self, x: Floats, y: Tensor, classes: tuple[str, ...] | None = None, *, weight: Floats | None = None
    ) -> Dataset:
        """Return rows as the data of a run, all of them to be trained on.

        Args:
            x: Inputs in their own units, shape ``(rows, features)``.
            y: Standardised targets, or int64 labels, shape ``(rows,)``.
            classes: What each label stands for; None for regression.
            weight: How many rows each row counts for, shape ``(rows,)``; None for 1.
        """
        weights = None if weight is None else torch.from_numpy(weight).float()
        rows = Split(self.inputs(x).float(), y.float() if classes is None else y, weights)
        return Dataset(
            name="table",
            task="regression" if classes is None else "classification",
            train=rows,
            validation=None,
            test=Split(rows.x[:0], rows.y[:0]),
            num_classes=None if classes is None else len(classes),
            y_mean=self.y_mean,
            y_std=self.y_std,
            classes=classes,
        )
