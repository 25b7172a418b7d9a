"""ClassMap: a class label for each position of a row, such as each pixel of an image."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bnn_pyro.arguments import check_flags, check_whole
from bnn_pyro.likelihoods.checks import check_class_weights, check_finite, check_labels
from bnn_pyro.likelihoods.class_targets import GAP, ClassTargets
from bnn_pyro.likelihoods.mixture import Mixture
from bnn_pyro.likelihoods.target_metrics import class_map_metrics


@dataclass(frozen=True)
class ClassMap:
    r"""Class labels of many positions per row, independent given the network's output, as in segmentation.

    .. math:: \log p(y \mid x) = \sum_k v_{y_k} \log \mathrm{softmax}(f_k(x))_{y_k}

    over the positions k of a row. The net's output has the classes before the positions, as torch's convolutions and
    losses have them. Weights :math:`v` of the classes make a weighted likelihood; predictions are scored without them.

    Args:
        dims: How many dimensions the positions have: 2 for images, 1 for sequences.
        weight: Weight of each class, positive; None for 1.
        missing: Whether a label may be missing, which is -100, and then adds nothing; it has to be missing at random.

    Raises:
        ValueError: If ``dims`` is below 1, or a weight is not positive and finite.
    """

    dims: int = 2
    weight: tuple[float, ...] | None = None
    missing: bool = False

    def __post_init__(self) -> None:
        """Check the hyper-parameters."""
        check_whole("dims", self.dims)  # Categorical() is for one label per row
        check_flags({"missing": self.missing})
        object.__setattr__(self, "weight", check_class_weights(self.weight))

    def prior(self, *, like: Tensor | None = None) -> None:
        """Sample nothing: there is no latent.

        Args:
            like: Not used.
        """

    def distribution(self, output: Tensor, latent: Tensor | None = None) -> ClassTargets:
        """Return the labels of each row as one observation.

        Args:
            output: Logits, ``(*batch, classes, *positions)``.
            latent: Not used.
        """
        weight = None if self.weight is None else torch.stack([output.new_full((), v) for v in self.weight])
        return ClassTargets(output, self.dims, weight=weight, missing=self.missing)

    def check(self, output: Tensor, y: Tensor | None = None) -> None:
        """Check logits ``(rows, classes, *positions)`` and labels ``(rows, *positions)``, int64 in 0 ... classes - 1.

        Args:
            output: Logits.
            y: Labels.

        Raises:
            ValueError: If a shape, dtype or value is another.
        """
        if output.ndim != 2 + self.dims or output.shape[1] < 2:
            raise ValueError(
                f"output must be logits of shape (rows, classes, *positions) with {self.dims} dimensions of positions "
                f"and at least 2 classes, got {tuple(output.shape)}"
            )
        check_class_weights(self.weight, output.shape[1])
        check_finite("output", output)
        if y is not None:
            shape = (len(output), *output.shape[2:])
            if tuple(y.shape) != shape or not len(y):
                raise ValueError(f"y must have shape {shape}, one label for each position, got {tuple(y.shape)}")
            seen = y[y != GAP] if self.missing else y.flatten()
            if not len(seen):
                raise ValueError(f"y must hold at least one label that is there, got {GAP} alone")
            check_labels(seen, output.shape[1])

    def predict(self, output: Tensor, latent: Tensor | None = None) -> Mixture:
        """Return the probabilities of the classes at each position in each draw.

        Args:
            output: Logits, ``(draws, rows, classes, *positions)``.
            latent: Not used.
        """
        return Mixture(ClassTargets(output, self.dims, missing=self.missing), class_map_metrics)
