"""The steps of SVI: by a torch optimiser with a learning rate for each role, or by Pyro's own SVI."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import torch
from pyro.infer import ELBO
from pyro.optim import PyroOptim
from torch import Tensor, nn

from bnn_pyro.inference.svi.adam_step import AdamStep
from bnn_pyro.inference.svi.elbo import SparseELBO
from bnn_pyro.inference.svi.loss import Loss
from bnn_pyro.inference.svi.pyro_step import PyroStep
from bnn_pyro.inference.svi.schedule import LearningRates
from bnn_pyro.inference.svi.torch_step import OptimizerFactory, TorchStep
from bnn_pyro.inference.training.autocast import Precision
from bnn_pyro.inference.training.micro_batches import Shares
from bnn_pyro.network import SparseNetwork
from bnn_pyro.pruning.shrink import Shrunk
from bnn_pyro.tracing.engine import MANY, EngineName, Plan


class Step(Protocol):
    """The steps of an optimiser on the parameters of one model and guide."""

    @property
    def is_switched(self) -> bool:
        """Whether steps are computed in the same way whatever the gates do."""

    @property
    def compile_seconds(self) -> float:
        """Seconds spent on compiling so far."""

    @property
    def optimizer_name(self) -> str:
        """The name of the optimiser, whose state no other could take over."""

    @property
    def optimizer_settings(self) -> dict[str, object]:
        """The optimiser's options, beyond `LearningRates`, by the role of a parameter."""

    def __call__(self, x: Tensor, y: Tensor, kl_weight: float, rate: float, plan: Plan = MANY) -> Tensor:
        """Make a step on a batch, with all learning rates times ``rate``, and return the loss per datum.

        ``plan`` says how many steps on batches of this size are to be expected.
        """

    def moved_to(self, shrunk: Shrunk) -> "Step":
        """Return the steps of a shrunk model and guide, with the optimiser's state cut likewise."""

    def state(self) -> dict[str, Any]:
        """Return the state of the optimiser, for a file."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""

    def release(self) -> None:
        """End the steps: leave each parameter with memory of its own."""


def stepper(
    model: SparseNetwork,
    guide: nn.Module,
    optimizer: PyroOptim | OptimizerFactory | None,
    objective: ELBO,
    rates: LearningRates,
    clip_norm: float | None,
    engine: EngineName = "auto",
    shares: Shares = Shares(),  # noqa: B008  (frozen)
    precision: Precision | None = None,
) -> Step:
    """Return what makes the steps.

    Args:
        model: The network.
        guide: Its guide.
        optimizer: A Pyro optimiser, or what makes a torch optimiser from parameter groups; None for Adam.
        objective: The ELBO.
        rates: Learning rates by role.
        clip_norm: Largest norm of the gradient of a step; None does not clip.
        engine: How it is computed; see `bnn_pyro.tracing.engine.Engine`.
        shares: How a batch is divided.
        precision: What the network computes in; None for the inputs' dtype.

    Raises:
        ValueError: If the guide's gates need another ELBO.
    """
    if getattr(guide, "gate_gradient", None) == "disarm" and not isinstance(objective, SparseELBO):
        raise ValueError(
            f"elbo must be a SparseELBO for a guide with gate_gradient='disarm', got {type(objective).__name__}"
        )
    loss = Loss(model, guide, objective, precision)
    if isinstance(optimizer, PyroOptim):
        return PyroStep(loss, optimizer)
    if optimizer is None and clip_norm is None:
        return AdamStep(loss, rates, engine, shares)
    factory = optimizer or partial(torch.optim.Adam, fused=True)
    return TorchStep(loss, rates, factory, clip_norm, engine, shares)
