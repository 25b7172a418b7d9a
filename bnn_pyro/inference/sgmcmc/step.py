"""SamplingStep: loss, gradient and a step of the sampler, at the price of their operations."""

from collections.abc import Callable

import torch
from torch import Tensor

from bnn_pyro.inference.sgmcmc.sghmc import SpikeSlabSGHMC, amplitude
from bnn_pyro.inference.training.flat_parameters import ParameterVector, gradients_of
from bnn_pyro.tracing.engine import MANY, Engine, EngineName, Plan

Loss = Callable[[Tensor, Tensor], Tensor]


class SamplingStep:
    """The loss of a batch, its gradient, and a step of the sampler.

    The step is that of ``optimizer.step()``. All three together are one function of tensors, that may be traced or
    compiled; what changes from step to step enters it as a tensor.

    Args:
        loss: Loss of inputs and observations, a scalar that depends on the parameters.
        trained: The parameters.
        optimizer: The sampler of their vector.
        engine: How it is computed; see `bnn_pyro.tracing.engine.Engine`.

    Raises:
        ValueError: If ``engine`` is unknown.
    """

    def __init__(
        self, loss: Loss, trained: ParameterVector, optimizer: SpikeSlabSGHMC, engine: EngineName = "auto"
    ) -> None:
        self.loss, self.trained, self.optimizer = loss, trained, optimizer
        self.group = optimizer.param_groups[0]
        optimizer.started(trained.values)
        self.noise = torch.empty_like(trained.values)
        self.engine = Engine(self._step, bases=[trained.values], engine=engine)

    def __call__(self, x: Tensor, y: Tensor, decay: Tensor, plan: Plan = MANY) -> Tensor:
        """Make a step and return the loss that the batch had before it.

        Args:
            x: Inputs.
            y: Observations.
            decay: Weight decays, of the vector's shape.
            plan: How many batches of this shape are to be expected; for none it is computed operation by operation.
        """
        numbers = torch.tensor([self.group["lr"], amplitude(self.group)[0]], dtype=decay.dtype, device="cpu")
        numbers = numbers.to(decay.device, non_blocking=True)
        self.noise.normal_()
        kind = plan.at_most > 0  # once more are expected, what was chosen for none is chosen anew
        return self.engine(kind, (x, y, decay, self.noise, numbers), plan)

    def _step(self, x: Tensor, y: Tensor, decay: Tensor, noise: Tensor, numbers: Tensor) -> Tensor:
        loss = self.loss(x, y)
        values = self.trained.values
        with torch.no_grad():
            gradient = self.trained.gradient(gradients_of(loss, self.trained.parameters))
            if gradient is None:
                gradient = torch.zeros_like(values)
            lr, scale = numbers.unbind()
            self.optimizer.advance(values, self.group, gradient, decay=decay, noise=noise, lr=lr, scale=scale)
        return loss.detach()
