"""Bernoulli: one label of two values, or many labels per row."""

import math
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from torch import Tensor

from bnn_pyro.arguments import check_flags
from bnn_pyro.likelihoods.checks import check_finite, check_targets
from bnn_pyro.likelihoods.mixture import Mixture
from bnn_pyro.likelihoods.target_metrics import label_metrics
from bnn_pyro.likelihoods.targets import Targets


@dataclass(frozen=True)
class Bernoulli:
    r"""Labels that are 0 or 1, whose logits are the network's outputs: ``p(y_k = 1 | x) = sigmoid(f_k(x))``.

    One label per row, of a network with one output, or many labels that are independent given x. With weights

    .. math:: \log p(y \mid x) = \sum_k w_k \log p(y_k \mid x),

    a weighted likelihood, which lets a label count for more or for less than one observation; predictions are scored
    without weights.

    Args:
        weight: Weight of each label, positive; None for 1.
        missing: Whether a label may be NaN, and then adds nothing; it has to be missing at random.

    Raises:
        ValueError: If a weight is not positive and finite.
    """

    weight: tuple[float, ...] | None = None
    missing: bool = False

    def __post_init__(self) -> None:
        """Check the weights."""
        check_flags({"missing": self.missing})
        if self.weight is not None:
            if not isinstance(self.weight, tuple | list):
                raise ValueError(f"weight must hold one number for each label, got {self.weight!r}")
            object.__setattr__(self, "weight", tuple(self.weight))
            if not all(math.isfinite(w) and w > 0 for w in self.weight or ()):
                raise ValueError(f"weight must be positive and finite, got {self.weight}")

    def prior(self, *, like: Tensor | None = None) -> None:
        """Sample nothing: there is no latent.

        Args:
            like: Not used.
        """

    def distribution(self, output: Tensor, latent: Tensor | None = None) -> Targets:
        """Return the labels of each row as one observation.

        Args:
            output: Logits, ``(*batch, labels)``; with one output the label has shape ``(*batch,)``.
            latent: Not used.
        """
        weight = None if self.weight is None else torch.stack([output.new_full((), w) for w in self.weight])
        return self._targets(output, weight)

    def _targets(self, output: Tensor, weight: Tensor | None) -> Targets:
        logits = output.squeeze(-1) if output.shape[-1] == 1 and self.weight is None else output
        base = dist.Bernoulli(logits=logits, validate_args=False)
        return Targets(base, int(logits is output), weight=weight, missing=self.missing)

    def check(self, output: Tensor, y: Tensor | None = None) -> None:
        """Check logits ``(rows, labels)``, and labels of that shape, or ``(rows,)`` where there is one output.

        Args:
            output: Logits.
            y: Labels, 0 or 1, of any dtype.

        Raises:
            ValueError: If a shape or value is another.
        """
        if output.ndim != 2 or (self.weight is not None and output.shape[1] != len(self.weight)):
            labels = "labels" if self.weight is None else len(self.weight)
            raise ValueError(
                f"output must be logits of shape (rows, {labels}), got {tuple(output.shape)}: "
                "give the network one output for each label."
            )
        check_finite("output", output)
        if y is not None:
            shape = output.shape[:1] if output.shape[1] == 1 and self.weight is None else output.shape
            y = check_targets(y, shape, missing=self.missing)
            if bool(((y != 0) & (y != 1)).any()):
                raise ValueError(f"y must hold labels 0 and 1, got values from {float(y.min())} to {float(y.max())}")

    def predict(self, output: Tensor, latent: Tensor | None = None) -> Mixture:
        """Return the probability of each label in each draw.

        Args:
            output: Logits, ``(draws, rows, labels)``.
            latent: Not used.
        """
        return Mixture(self._targets(output, None), label_metrics)
