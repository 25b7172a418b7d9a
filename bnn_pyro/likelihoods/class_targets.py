"""ClassTargets: class labels, one or many per row, with weights of the classes and with gaps."""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from bnn_pyro.likelihoods.targets import Targets

GAP = -100
"""The label that stands for a missing one, as in torch's own losses."""


class ClassTargets(Targets):
    r"""The class labels of a row as one observation: independent given the network's output.

    .. math::
        \log p(y) = \sum_k v_{y_k}\, 1[y_k \ge 0] \log \mathrm{softmax}(f_k)_{y_k}

    With weights :math:`v_c` other than 1 this is no density but a weighted log-likelihood, whose posterior is the
    general one of Bissiri, Holmes and Walker (2016). A negative label is a gap and adds nothing.

    Args:
        logits: Logits, shape ``(*batch, classes, *positions)``.
        dims: How many dimensions the positions of one row have; 0 for one label per row.
        weight: Weights of the classes, shape ``(classes,)``; None for 1.
        missing: Whether labels may be missing.
    """

    def __init__(self, logits: Tensor, dims: int, *, weight: Tensor | None = None, missing: bool = False) -> None:
        self.dims, self.logits = dims, logits.movedim(-1 - dims, -1)
        super().__init__(
            dist.Categorical(logits=self.logits, validate_args=False), dims, weight=weight, missing=missing
        )

    @property
    def mean(self) -> Tensor:
        """Probabilities of the classes, ``(*batch, classes, *positions)``."""
        return self.logits.softmax(-1).movedim(-1, -1 - self.dims)

    @property
    def variance(self) -> Tensor:
        """Variances of whether a label is each class, ``(*batch, classes, *positions)``."""
        p = self.mean
        return p * (1 - p)

    def expand(self, batch_shape: Any, _instance: object = None) -> "ClassTargets":
        """Return the same distribution over a larger batch.

        Args:
            batch_shape: The new batch shape.
        """
        logits = self.logits.expand(*batch_shape, *self.event_shape, -1).movedim(-1, -1 - self.dims)
        return ClassTargets(logits, self.dims, weight=self.weight, missing=self.missing)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the weighted log-probability of rows.

        Args:
            value: Labels, of batch and event shape.

        Returns:
            Of batch shape.
        """
        labels = value.long()
        shape = torch.broadcast_shapes(labels.shape, self.logits.shape[:-1])
        at = labels.clamp(min=0).expand(shape)
        logs = self.logits.log_softmax(-1).expand(*shape, -1)
        density = logs.gather(-1, at.unsqueeze(-1)).squeeze(-1)
        if self.weight is not None:
            density = density * self.weight.to(density)[at]
        if self.missing:
            density = torch.where(labels >= 0, density, torch.zeros_like(density))
        return density.flatten(density.dim() - self.dims).sum(-1) if self.dims else density
