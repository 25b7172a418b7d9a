"""Categorical: class labels."""

from dataclasses import dataclass

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from bnn_pyro.likelihoods.base import Classes
from bnn_pyro.likelihoods.checks import (
    check_class_weights,
    check_draws,
    check_finite,
    check_labels,
    check_rows,
    single,
)
from bnn_pyro.likelihoods.class_targets import ClassTargets


@dataclass(frozen=True)
class Categorical:
    r"""Class labels whose logits are the network's output: `p(y = c | x) = softmax(f(x))_c`.

    With weights of the classes, as for classes that are rare,

    .. math:: \log p(y \mid x) = v_y \log \mathrm{softmax}(f(x))_y,

    a weighted likelihood, whose posterior is the general one of Bissiri, Holmes and Walker (2016); predictions are the
    same function of the outputs and are scored without weights.

    Args:
        weight: Weight :math:`v_c` of each class, positive; None for 1.

    Raises:
        ValueError: If a weight is not positive and finite.
    """

    weight: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Check the weights."""
        object.__setattr__(self, "weight", check_class_weights(self.weight))

    def prior(self, *, like: Tensor | None = None) -> None:
        """Sample nothing: a categorical likelihood has no latent of its own.

        Args:
            like: Not used.
        """

    def distribution(self, output: Tensor, latent: Tensor | None = None) -> TorchDistribution:
        """Return `Categorical(logits=output)`, with weights its weighted form; logits in half precision as float32.

        Args:
            output: Logits, `(*batch, classes)`.
            latent: Not used.
        """
        output = single(output)
        if self.weight is None:
            return dist.Categorical(logits=output, validate_args=False)
        return ClassTargets(output, 0, weight=torch.stack([output.new_full((), v) for v in self.weight]))

    def check(self, output: Tensor, y: Tensor | None = None) -> None:
        """Check logits `(rows, classes)` and labels `(rows,)`, which are int64 in 0 ... classes - 1.

        Args:
            output: Logits, `(rows, classes)`.
            y: Labels, `(rows,)`.

        Raises:
            ValueError: If a shape, dtype or value is another.
        """
        if output.ndim != 2 or output.shape[1] < 2:
            raise ValueError(
                f"output must be logits of shape (rows, classes) with at least 2 classes, got {tuple(output.shape)}: "
                "give the network one output for each class; a single logit is for Bernoulli()."
            )
        check_class_weights(self.weight, output.shape[1])
        check_finite("output", output)
        if y is not None:
            check_rows(y, output.shape[0])
            check_labels(y, output.shape[1])

    def predict(self, output: Tensor, latent: Tensor | None = None) -> Classes:
        """Return the class probabilities, averaged over the draws as probabilities (not as logits), and each draw's.

        Those of logits in half precision are float32: rounded to bfloat16 they would not sum to 1.

        Args:
            output: Logits, `(draws, rows, classes)`.
            latent: Not used.

        Raises:
            ValueError: If output has another shape.
        """
        check_draws(output)
        draws = single(output).softmax(-1)
        return Classes(draws.mean(0), draws)
