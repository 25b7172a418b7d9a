"""LossGradient: loss of a batch, and its gradient in one vector, operation by operation or as a compiled program."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bnn_pyro.inference.tracing import trace
from bnn_pyro.inference.vector import ParameterVector

Loss = Callable[[Tensor, Tensor], Tensor]


class LossGradient:
    """Computes the loss of a batch and lays its gradient into a vector of parameters.

    Args:
        loss: Loss of inputs and observations, a scalar that depends on the parameters.
        trained: The parameters.
    """

    def __init__(self, loss: Loss, trained: ParameterVector) -> None:
        self.loss, self.trained = loss, trained
        self.program: Callable[..., Any] | None = None
        self.shape: torch.Size | None = None

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns the loss of a batch; the gradient is in ``trained.vector.grad`` then.

        Args:
            x: Inputs.
            y: Observations.
        """
        if self.program is not None and x.shape == self.shape:
            value: Tensor
            value, self.trained.vector.grad = self.program(x, y)
            return value
        self.trained.gradient.zero_()
        loss = self.loss(x, y)
        torch.autograd.backward(loss)
        self.trained.vector.grad = self.trained.gradient
        return loss.detach()

    def compile(self, x: Tensor, y: Tensor) -> None:
        """Compiles the computation for batches of one shape; others go on operation by operation.

        Args:
            x: Inputs of a batch.
            y: Its observations.
        """
        traced = trace(self._value_and_gradient, x, y)
        compiled = torch.compile(traced.graph)

        def program(x: Tensor, y: Tensor) -> Any:
            with torch.no_grad():
                return compiled(x, y, *traced.live, *traced.noise.draw())

        self.program, self.shape = program, x.shape

    def _value_and_gradient(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        loss = self.loss(x, y)
        parameters = list(self.trained.named.values())
        found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        return loss.detach(), torch.cat([gradient.reshape(-1) for gradient in found])
