"""AdamStep: loss, gradient and a step of Adam as one function of tensors."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from bnn_pyro.inference.svi.flat_adam import ADAM, adam_in_operations, flatten
from bnn_pyro.inference.svi.loss import Loss
from bnn_pyro.inference.svi.roles import positions_left, roles
from bnn_pyro.inference.svi.schedule import LearningRates
from bnn_pyro.inference.training.flat_parameters import gradients_of
from bnn_pyro.inference.training.micro_batches import Gradients, Shares
from bnn_pyro.pruning.positions import select
from bnn_pyro.pruning.shrink import Shrunk
from bnn_pyro.tracing.engine import MANY, Engine, EngineName, Plan
from guides import AutoProgram


class AdamStep:
    """Steps of Adam, with a learning rate for each role of a parameter.

    Loss, gradient and update are one function of tensors, that may be traced or compiled. Where a batch is computed in
    parts, it is loss and gradient alone, and the update follows on the sum.

    What changes from step to step enters that function as a tensor: the KL weight, what the gates do, and for each
    vector of parameters the numbers that a step of Adam depends on; the temperature is a buffer of the guide.

    Args:
        loss: The loss; it depends on the parameters of its model and guide.
        rates: Learning rates by role.
        engine: How it is computed; see `bnn_pyro.tracing.engine.Engine`.
        shares: How a batch is divided.
    """

    def __init__(
        self,
        loss: Loss,
        rates: LearningRates,
        engine: EngineName = "auto",
        shares: Shares = Shares(),  # noqa: B008  (frozen)
    ) -> None:
        self.loss, self.rates, self.shares = loss, rates, shares
        self.flats = flatten(roles(loss.model, loss.guide, rates))
        bases = [flat.parameters.values for flat in self.flats]
        self.numbers = bases[0].new_zeros(2 * len(bases) + 3)  # Adam's corrections, then KL weight, free, frozen
        lowered = {ADAM: adam_in_operations}
        self.whole = Engine(self._step, bases=bases, lowered=lowered, engine=engine)
        self.part = Engine(self._loss_and_gradients, bases=bases, engine=engine)
        # DisARM asks the guide what the gates do, and makes its second pass only where they are free
        is_ours = isinstance(loss.guide, AutoProgram) and loss.guide.gate_gradient != "disarm"
        self.is_switched = is_ours and engine != "eager"
        self.before = 0.0  # seconds of compiling before the network was shrunk

    @property
    def optimizer_name(self) -> str:
        """The name of the optimiser, whose state no other could take over."""
        return type(self).__name__

    @property
    def optimizer_settings(self) -> dict[str, object]:
        """The optimiser's options, beyond `LearningRates`, by the role of a parameter."""
        return {}

    @property
    def compile_seconds(self) -> float:
        """Seconds spent on compiling so far."""
        return self.before + self.whole.compile_seconds + self.part.compile_seconds

    def __call__(self, x: Tensor, y: Tensor, kl_weight: float, rate: float, plan: Plan = MANY) -> Tensor:
        """Make a step on a batch and return the loss that it had before.

        Args:
            x: Inputs, shape ``(rows, *input_shape)``.
            y: Observations, shape ``(rows,)``.
            kl_weight: Weight of the divergence.
            rate: Factor on all learning rates.
            plan: How many steps on batches of this size are to be expected.
        """
        mode = self.loss.gate_mode
        held = [flat.role == "gates" and mode != "free" for flat in self.flats]
        pairs = list(zip(self.flats, held, strict=True))
        numbers = [n for flat, is_held in pairs for n in flat.corrections(rate, is_held=is_held)]
        numbers += [kl_weight, float(mode == "free"), float(mode == "frozen")]
        self.numbers.copy_(torch.tensor(numbers, dtype=self.numbers.dtype, device="cpu"), non_blocking=True)
        rows = [flat.settings(rate, is_held=is_held) for flat, is_held in pairs]
        settings = torch.tensor(rows, dtype=torch.float64, device="cpu")
        kind = ("any" if self.is_switched else mode, self.loss.model.net.training)
        if self.shares.is_whole:
            loss, has_gradient = self.whole(kind, (x, y, self.numbers, settings), plan)
        else:
            loss, gradients = self.shares.compute(lambda x, y: self.part(kind, (x, y, self.numbers), plan), x, y)
            has_gradient = self._update(gradients, self.numbers, settings)
        for (flat, is_held), is_there in zip(pairs, has_gradient, strict=True):
            flat.steps += is_there and not is_held
        return loss

    def _step(self, x: Tensor, y: Tensor, numbers: Tensor, settings: Tensor) -> tuple[Tensor, list[bool]]:
        loss, gradients = self._loss_and_gradients(x, y, numbers)
        return loss, self._update(gradients, numbers, settings)

    def _loss_and_gradients(self, x: Tensor, y: Tensor, numbers: Tensor) -> tuple[Tensor, Gradients]:
        """Returns the loss per datum, and the gradient of each vector of parameters."""
        kl_weight, free, frozen = numbers.unbind()[-3:]
        guide = self.loss.guide
        gates: AbstractContextManager[None] = nullcontext()
        if self.is_switched and isinstance(guide, AutoProgram):
            gates = guide.switched(free > 0, frozen > 0)
        with gates:
            loss = self.loss(x, y, kl_weight)
        vectors = [flat.parameters for flat in self.flats]
        found = iter(gradients_of(loss, [p for vector in vectors for p in vector.parameters]))
        return loss.detach(), [vector.gradient([next(found) for _ in vector.parameters]) for vector in vectors]

    @torch.no_grad()
    def _update(self, gradients: Sequence[Tensor | None], numbers: Tensor, settings: Tensor) -> list[bool]:
        """Makes the step of Adam, and returns which vectors have a gradient."""
        for row, (flat, gradient) in enumerate(zip(self.flats, gradients, strict=True)):
            if gradient is not None:
                ADAM(flat.parameters.values, flat.mean, flat.square, gradient, settings, numbers, row)
        return [gradient is not None for gradient in gradients]

    def moved_to(self, shrunk: Shrunk) -> "AdamStep":
        """Return the steps of a shrunk model and guide, with the optimiser's state cut likewise.

        Args:
            shrunk: The smaller model and guide.
        """
        self.release()
        new = AdamStep(self.loss.moved_to(shrunk), self.rates, self.whole.engine, self.shares)
        new.before = self.compile_seconds
        moments = {name: pair for flat in self.flats for name, pair in flat.state().items()}
        steps = {name: flat.steps for flat in self.flats for name in flat.parameters.named}
        positions = positions_left(shrunk)
        for flat in new.flats:
            for name, pair in flat.state().items():
                flat.steps = steps[name]
                for target, source in zip(pair, moments[name], strict=True):
                    target.copy_(select(source, positions.get(name, {})))
        return new

    def state(self) -> dict[str, Any]:
        """Return Adam's state of each vector of parameters."""
        return {"adam": [{"mean": f.mean, "square": f.square, "steps": f.steps} for f in self.flats]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over Adam's state of each vector of parameters.

        Args:
            state: What `state` returned.
        """
        for flat, saved in zip(self.flats, state["adam"], strict=True):
            flat.mean.copy_(saved["mean"])
            flat.square.copy_(saved["square"])
            flat.steps = saved["steps"]

    def release(self) -> None:
        """Give each parameter memory of its own again; no step can be made after that."""
        for flat in self.flats:
            flat.parameters.release()
