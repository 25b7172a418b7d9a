"""PyroStep: steps of Pyro's own SVI."""

import copy
from collections.abc import Mapping
from typing import Any

from pyro.infer import SVI
from pyro.optim import PyroOptim
from torch import Tensor

from bnn_pyro.inference.svi.loss import Loss, weighted
from bnn_pyro.inference.training.autocast import computing
from bnn_pyro.pruning.shrink import Shrunk
from bnn_pyro.tracing.engine import MANY, Plan


class PyroStep:
    """Steps of Pyro's own SVI, which has learning rates and gradients of its own.

    Args:
        loss: The loss; it depends on the parameters of its model and guide.
        optimizer: The optimiser, which is copied.
    """

    is_switched = False
    compile_seconds = 0.0

    def __init__(self, loss: Loss, optimizer: PyroOptim) -> None:
        self.loss = loss
        self.svi = SVI(loss.model, loss.guide, copy.deepcopy(optimizer), loss.objective)
        self.parameters = [*loss.model.parameters(), *loss.guide.parameters()]

    @property
    def optimizer_name(self) -> str:
        """The name of the optimiser, whose state no other could take over."""
        return type(self).__name__

    @property
    def optimizer_settings(self) -> dict[str, object]:
        """The optimiser's options, beyond `LearningRates`, by the role of a parameter."""
        return {}

    def __call__(self, x: Tensor, y: Tensor, kl_weight: float, rate: float, plan: Plan = MANY) -> Tensor:
        """Make a step on a batch and return the loss that it had before.

        Args:
            x: Inputs, shape ``(rows, *input_shape)``.
            y: Observations, shape ``(rows,)``.
            kl_weight: Weight of the divergence.
            rate: Not used: the optimiser has learning rates of its own.
            plan: Not used.
        """
        for parameter in self.parameters:
            parameter.grad = None  # Pyro leaves zeros, by which momentum would still move gates that are frozen
        with computing(self.loss.model.net, self.loss.precision), weighted(self.loss.objective, kl_weight):
            return x.new_tensor(self.svi.step(x, y) / self.loss.model.num_data)

    def moved_to(self, shrunk: Shrunk) -> "PyroStep":
        """Refuse: the state of Pyro's optimisers cannot be cut.

        Args:
            shrunk: The smaller model and guide.

        Raises:
            ValueError: Always.
        """
        raise ValueError("shrink_below needs a torch optimiser, whose state can be cut; got a Pyro optimiser")

    def state(self) -> dict[str, Any]:
        """Return the optimiser's state of each parameter that has been moved."""
        return {"pyro": self.svi.optim.get_state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over the optimiser's state of each parameter.

        Args:
            state: What `state` returned.
        """
        self.svi.optim.set_state(state["pyro"])

    def release(self) -> None:
        """Leave the parameters as they are."""
