"""DenseTraining: how the dense network is trained that a posterior starts from."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bnn_pyro.arguments import check_reals, check_wholes


@dataclass(frozen=True, kw_only=True)
class DenseTraining:
    """How a dense network is trained, by :func:`~bnn_pyro.inference.training.dense.train_dense`.

    Args:
        epochs: Passes over the data.
        batch_size: Rows per step.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        validation: Fraction of the rows that are held out, so that the weights are those of the epoch that predicts
            these rows best; None takes the last epoch's.

    Raises:
        ValueError: If there is no epoch, or no row in a batch, or the fraction is not in (0, 1).
    """

    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    validation: float | None = None

    def __post_init__(self) -> None:
        check_wholes({f"dense.{name}": getattr(self, name) for name in ("epochs", "batch_size")})
        rates = {f"dense.{name}": getattr(self, name) for name in ("learning_rate", "weight_decay")}
        check_reals(rates, optional={"dense.validation": self.validation})
        for name, rate in rates.items():
            if not 0 <= rate < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {rate}")
        if self.validation is not None and not 0 < self.validation < 1:
            raise ValueError(f"dense.validation must be in (0, 1) or None, got {self.validation}")


@torch.no_grad()
def training_noise(dense: nn.Module, train: tuple[Tensor, Tensor]) -> Tensor:
    """Return the standard deviation of a network's errors on the training rows, what maximum likelihood would take.

    Args:
        dense: The network, with one output.
        train: (x, y), the training rows.

    Returns:
        Shape ``()``; not below 1e-6.
    """
    x, y = train
    errors: Tensor = dense(x).squeeze(-1) - y
    return errors.square().mean().sqrt().clamp(min=1e-6)
