"""TorchStep: loss and gradient as one function of tensors, and a step of any torch optimiser."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from bnn_pyro.inference.svi.loss import Loss
from bnn_pyro.inference.svi.roles import positions_left, roles
from bnn_pyro.inference.svi.schedule import LearningRates
from bnn_pyro.inference.training.flat_parameters import gradients_of
from bnn_pyro.inference.training.micro_batches import Gradients, Shares
from bnn_pyro.pruning.positions import select
from bnn_pyro.pruning.shrink import Shrunk
from bnn_pyro.tracing.engine import MANY, Engine, EngineName, Plan

OptimizerFactory = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
_NO_OPTIONS = {
    "params",
    "role",
    "foreach",
    "fused",
    "capturable",
    "differentiable",
}  # how a step is computed, not which


class TorchStep:
    """Steps of a torch optimiser, with a learning rate for each role of a parameter.

    Args:
        loss: The loss; it depends on the parameters of its model and guide.
        rates: Learning rates by role.
        factory: Makes the optimiser from torch parameter groups.
        clip_norm: Largest norm of the gradient of a step; None does not clip.
        engine: How loss and gradient are computed; see `bnn_pyro.tracing.engine.Engine`.
        shares: How a batch is divided.
    """

    is_switched = False

    def __init__(
        self,
        loss: Loss,
        rates: LearningRates,
        factory: OptimizerFactory,
        clip_norm: float | None = None,
        engine: EngineName = "auto",
        shares: Shares = Shares(),  # noqa: B008  (frozen)
    ) -> None:
        self.loss, self.rates, self.factory, self.clip_norm, self.shares = loss, rates, factory, clip_norm, shares
        self.named = {}
        groups = []
        for role in roles(loss.model, loss.guide, rates):
            self.named.update(role.named)
            groups.append({"params": list(role.named.values()), "lr": role.rate, "role": role.name})
        self.optimizer = factory(groups)
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.engine = Engine(self._loss_and_gradients, engine=engine)
        self.before = 0.0  # seconds of compiling before the network was shrunk

    @property
    def optimizer_name(self) -> str:
        """The name of the optimiser, whose state no other could take over."""
        return type(self.optimizer).__name__

    @property
    def optimizer_settings(self) -> dict[str, object]:
        """The optimiser's options, beyond `LearningRates`, by the role of a parameter."""
        groups = {group["role"]: group for group in self.optimizer.param_groups}
        return {role: {k: v for k, v in group.items() if k not in _NO_OPTIONS} for role, group in groups.items()}

    @property
    def compile_seconds(self) -> float:
        """Seconds spent on compiling so far."""
        return self.before + self.engine.compile_seconds

    def __call__(self, x: Tensor, y: Tensor, kl_weight: float, rate: float, plan: Plan = MANY) -> Tensor:
        """Make a step on a batch and return the loss that it had before.

        Args:
            x: Inputs, shape ``(rows, *input_shape)``.
            y: Observations, shape ``(rows,)``.
            kl_weight: Weight of the divergence.
            rate: Factor on all learning rates.
            plan: How many steps on batches of this size are to be expected.
        """
        for group, base in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = base * rate
        kind = (self.loss.gate_mode, self.loss.model.net.training)
        weight = torch.full((), kl_weight, dtype=x.dtype, device=x.device)
        loss, gradients = self.shares.compute(lambda x, y: self.engine(kind, (x, y, weight), plan), x, y)
        for parameter, gradient in zip(self.named.values(), gradients, strict=True):
            # a copy laid out like the parameter: others are read wrongly by fused kernels, and clipping writes to it
            parameter.grad = None if gradient is None else torch.empty_like(parameter).copy_(gradient)
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.named.values(), self.clip_norm)
        self.optimizer.step()
        return loss

    def _loss_and_gradients(self, x: Tensor, y: Tensor, kl_weight: Tensor) -> tuple[Tensor, Gradients]:
        loss = self.loss(x, y, kl_weight)
        return loss.detach(), gradients_of(loss, list(self.named.values()))

    def moved_to(self, shrunk: Shrunk) -> "TorchStep":
        """Return the steps of a shrunk model and guide, with the optimiser's state cut likewise.

        Args:
            shrunk: The smaller model and guide.
        """
        loss, engine = self.loss.moved_to(shrunk), self.engine.engine
        new = TorchStep(loss, self.rates, self.factory, self.clip_norm, engine, self.shares)
        new.before = self.compile_seconds
        positions = positions_left(shrunk)
        for name, small in new.named.items():
            old = self.named[name]
            for key, value in self.optimizer.state.get(old, {}).items():
                is_cut = isinstance(value, Tensor) and value.shape == old.shape
                new.optimizer.state[small][key] = select(value, positions.get(name, {})) if is_cut else value
        return new

    def state(self) -> dict[str, Any]:
        """Return the optimiser's state of each parameter."""
        return {"optimizer": self.optimizer.state_dict()["state"]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over the optimiser's state of each parameter.

        Args:
            state: What `state` returned.
        """
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state["optimizer"]})

    def release(self) -> None:
        """Leave the parameters as they are."""
