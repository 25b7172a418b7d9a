"""SamplingStep: loss, gradient and a step of the sampler, at the price of their operations."""

from collections.abc import Callable

import torch
from torch import Tensor

from bnn_pyro.inference.sgmcmc.sghmc import SpikeSlabSGHMC, advance, amplitude
from bnn_pyro.inference.training.flat_parameters import ParameterVector
from bnn_pyro.tracing.engine import MANY, Engine, EngineName, Plan

Loss = Callable[[Tensor, Tensor], Tensor]


class SamplingStep:
    """Computes the loss of a batch and its gradient, and makes a step of the sampler.

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
        self.group, self.state = optimizer.param_groups[0], optimizer.started(trained.vector)
        self.noise = torch.empty_like(trained.vector.data)
        self.engine = Engine(self._step, bases=[trained.vector.data], engine=engine)

    def __call__(self, x: Tensor, y: Tensor, decay: Tensor, plan: Plan = MANY) -> Tensor:
        """Makes a step and returns the loss that the batch had before it.

        Args:
            x: Inputs.
            y: Observations.
            decay: Weight decays, of the vector's shape.
            plan: How many batches of this shape are to be expected; for none it is computed operation by operation.
        """
        numbers = decay.new_tensor([self.group["lr"], amplitude(self.group)[0]])
        self.noise.normal_()
        kind = plan.at_most > 0  # once more are expected, what was chosen for none is chosen anew
        loss: Tensor = self.engine(kind, (x, y, decay, self.noise, numbers), plan=plan)[0]
        return loss

    def _step(self, x: Tensor, y: Tensor, decay: Tensor, noise: Tensor, numbers: Tensor) -> Tensor:
        loss = self.loss(x, y)
        parameters = list(self.trained.named.values())
        found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        with torch.no_grad():
            gradient = torch.cat([part.reshape(-1) for part in found])
            advance(self.trained.vector.data, self.state, gradient, decay, noise, numbers, self.group)
        return loss.detach()
