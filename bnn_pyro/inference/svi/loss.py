"""The loss that SVI minimises: the negative ELBO per datum, its divergence weighted."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pyro.infer import ELBO
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from bnn_pyro.inference.svi.elbo import SparseELBO
from bnn_pyro.inference.training.autocast import Precision, computing
from bnn_pyro.network import SparseNetwork
from bnn_pyro.pruning.shrink import Shrunk


@dataclass(frozen=True)
class Loss:
    """The negative ELBO per datum of a network and its guide.

    Args:
        model: The network.
        guide: Its guide.
        objective: The ELBO.
        precision: What the network computes in; None for the inputs' dtype.
    """

    model: SparseNetwork
    guide: nn.Module
    objective: ELBO
    precision: Precision | None = None

    def __call__(self, x: Tensor, y: Tensor, kl_weight: Tensor) -> Tensor:
        """Return the loss of a batch.

        Args:
            x: Inputs, shape ``(rows, *input_shape)``.
            y: Observations, shape ``(rows,)``.
            kl_weight: Weight of the divergence, a scalar.
        """
        with computing(self.model.net, self.precision), weighted(self.objective, kl_weight) as objective:
            loss: Tensor = objective.differentiable_loss(self.model, self.guide, x, y) / self.model.num_data
        return loss

    @property
    def gate_mode(self) -> str:
        """What the guide's gates do; those of a guide without a mode are free."""
        return str(getattr(self.guide, "gate_mode", "free"))

    def moved_to(self, shrunk: Shrunk) -> "Loss":
        """Return the loss of a shrunk model and guide."""
        return replace(self, model=shrunk.model, guide=shrunk.guide)


@contextmanager
def weighted(objective: Any, kl_weight: float | Tensor) -> Iterator[Any]:
    """Give an ELBO the KL weight: ours by its own, Pyro's by the scale of every latent site.

    Args:
        objective: The ELBO.
        kl_weight: Weight of the divergence.

    Yields:
        The ELBO.
    """
    if isinstance(objective, SparseELBO):
        before, objective.kl_weight = objective.kl_weight, kl_weight
        try:
            yield objective
        finally:
            objective.kl_weight = before
    else:
        with _Tempered(kl_weight):
            yield objective


class _Tempered(Messenger):
    """Scales every latent site by the KL weight, for ELBOs of Pyro."""

    def __init__(self, kl_weight: float | Tensor) -> None:
        super().__init__()
        self.kl_weight = kl_weight

    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"]:
            msg["scale"] = msg["scale"] * self.kl_weight
