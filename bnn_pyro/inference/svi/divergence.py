"""What is said and returned when the loss of a step is not finite: what is at fault, and the last good posterior."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from bnn_pyro.inference.svi.steps import Step
from bnn_pyro.posterior.guide import GuidePosterior

_SHOWN = 3  # names in a message


class Diverged(ValueError):
    """The loss of a step was not finite.

    Args:
        message: In which step, what is at fault and what helps.
        posterior: The last posterior with finite parameters.

    Attributes:
        posterior: The last posterior with finite parameters, from at most an epoch or ten steps before; None where the
            run had made no epoch by then.
    """

    def __init__(self, message: str, posterior: GuidePosterior | None = None) -> None:
        super().__init__(message)
        self.posterior = posterior


class GoodState(NamedTuple):
    """Copies of all that steps change, at the beginning of an epoch.

    Attributes:
        epoch: The epoch, from 0.
        kl_weight: Weight of the divergence in the step before it.
        modules: States of model and guide.
        steps: State of the optimiser.
    """

    epoch: int
    kl_weight: float
    modules: list[dict[str, Tensor]]
    steps: Mapping[str, Any]

    @classmethod
    def of(cls, epoch: int, kl_weight: float, modules: Iterable[nn.Module], step: Step) -> "GoodState":
        """Return the state of now.

        Args:
            epoch: The epoch, from 0.
            kl_weight: Weight of the divergence in the step before it.
            modules: Model and guide.
            step: What makes the steps.
        """
        return cls(epoch, kl_weight, [_copied(dict(m.state_dict())) for m in modules], _copied(step.state()))

    def restore(self, modules: Iterable[nn.Module], step: Step) -> None:
        """Give all that steps change the values of then.

        Args:
            modules: Model and guide.
            step: What makes the steps.
        """
        for module, state in zip(modules, self.modules, strict=True):
            module.load_state_dict(state)
        step.load_state(_copied(self.steps))


def _copied(state: Any) -> Any:
    return tree_map_only(Tensor, lambda tensor: tensor.detach().clone(), state)


@dataclass
class StepMade:
    """A step that was made once more.

    Attributes:
        epoch: Its epoch, from 0.
        number: Its number in the epoch, from 1.
        x: Inputs of its batch.
        y: Observations.
        loss: The loss that the batch had before it.
    """

    epoch: int
    number: int
    x: Tensor
    y: Tensor
    loss: Tensor


def first_fault(steps: Iterable[StepMade], modules: Iterable[nn.Module]) -> tuple[StepMade | None, str]:
    """Follow steps until one is at fault, and return it with what was not finite, in words.

    Args:
        steps: The steps, each made when it is asked for.
        modules: Model and guide; their parameters are finite before the first step.

    Returns:
        The step, and the fault; None where all went well this time.
    """
    named = {name: p for module in modules for name, p in module.named_parameters() if p.numel()}
    largest = _largest(named)
    for step in steps:
        if fault := fault_of_rows(step.x, step.y):
            return step, fault
        wrong = [name for name, parameter in named.items() if not parameter.isfinite().all()]
        if wrong and (torch.isfinite(step.loss) or len(wrong) < len(named)):
            return step, f"it left the parameters of {_listed(wrong)} not finite"
        if wrong or not torch.isfinite(step.loss):
            return step, f"its batch is finite; the largest parameters are those of {largest}"
        largest = _largest(named)
    return None, "the same steps went well when they were made again"


def fault_of_rows(x: Tensor, y: Tensor) -> str:
    """Return in words what of a batch is not finite; nothing if all is.

    Args:
        x: Inputs, shape ``(rows, *input_shape)``.
        y: Observations.
    """
    for what, values in {"inputs": x, "observations": y}.items():
        bad = (~values.isfinite()) if what == "inputs" else values.isinf()  # a missing observation is NaN
        if bad.any():
            rows = int(bad.reshape(len(bad), -1).any(1).sum())
            return f"the {what} of {rows} of the {len(bad)} rows of its batch are not finite"
    return ""


def _largest(named: Mapping[str, Tensor]) -> str:
    """Return the name of the parameter with the largest entry, and that."""
    sizes = {name: float(parameter.detach().abs().max()) for name, parameter in named.items()}
    name = max(sizes, key=lambda each: sizes[each])
    return f"{_shown(name)}, of {sizes[name]:.3g}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} others" if len(names) > _SHOWN else ""
    return ", ".join(map(_shown, names[:_SHOWN])) + more


def _shown(name: str) -> str:
    return repr(name.removesuffix("_unconstrained"))
