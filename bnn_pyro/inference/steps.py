"""The steps of SVI: by a torch optimiser with a learning rate for each role, or by Pyro's own SVI."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from pyro.infer import ELBO, SVI
from pyro.optim import PyroOptim
from pyro.poutine.messenger import Messenger
from torch import Tensor

from bnn_pyro.inference.objective import SparseELBO
from bnn_pyro.inference.schedule import LearningRates
from bnn_pyro.network import SparseNetwork
from bnn_pyro.pruning import Positions, Shrunk, select
from guides import AutoProgram

OptimizerFactory = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]


class Step(Protocol):
    """One step of an optimiser."""

    def __call__(self, x: Tensor, y: Tensor, kl_weight: float, rate: float) -> Tensor:
        """Makes a step on a batch, with all learning rates times ``rate``, and returns the loss per datum."""


def stepper(
    model: SparseNetwork,
    guide: Any,
    optimizer: PyroOptim | OptimizerFactory | None,
    objective: ELBO,
    rates: LearningRates,
    clip_norm: float | None,
) -> Step:
    """Returns what makes the steps."""
    if getattr(guide, "gate_gradient", None) == "disarm" and not isinstance(objective, SparseELBO):
        raise ValueError(
            f"elbo must be a SparseELBO for a guide with gate_gradient='disarm', got {type(objective).__name__}"
        )
    if isinstance(optimizer, PyroOptim):
        return PyroStep(model, guide, optimizer, objective)
    return TorchStep(model, guide, optimizer or partial(torch.optim.Adam, fused=True), objective, rates, clip_norm)


class TorchStep:
    """Steps of a torch optimiser, with a learning rate for each role of a parameter."""

    def __init__(
        self,
        model: SparseNetwork,
        guide: Any,
        factory: OptimizerFactory,
        objective: ELBO,
        rates: LearningRates,
        clip_norm: float | None,
    ) -> None:
        self.model, self.guide, self.factory, self.objective = model, guide, factory, objective
        self.rates, self.clip_norm = rates, clip_norm
        self.optimizer = factory(_parameter_groups(model, guide, rates))
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]

    def __call__(self, x: Tensor, y: Tensor, kl_weight: float, rate: float) -> Tensor:
        for group, base in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = base * rate
        self.optimizer.zero_grad(set_to_none=True)
        with _weighted(self.objective, kl_weight) as objective:
            loss: Tensor = objective.differentiable_loss(self.model, self.guide, x, y) / self.model.num_data
        loss.backward()
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.optimizer.step()
        return loss

    def moved_to(self, shrunk: Shrunk) -> "TorchStep":
        """Returns the steps of a shrunk model and guide, with the optimiser's state cut likewise."""
        new = TorchStep(shrunk.model, shrunk.guide, self.factory, self.objective, self.rates, self.clip_norm)
        positions = [*_positions(self.guide, shrunk.guide_positions), *_positions(self.model.net, shrunk.net_positions)]
        dims = {id(parameter): d for parameter, d in positions}
        for old, small in zip(self.parameters, new.parameters, strict=True):
            for key, value in self.optimizer.state.get(old, {}).items():
                is_cut = isinstance(value, Tensor) and value.shape == old.shape
                new.optimizer.state[small][key] = select(value, dims[id(old)]) if is_cut else value
        return new


def _positions(module: torch.nn.Module, positions: Positions) -> Iterator[tuple[torch.nn.Parameter, dict[int, Tensor]]]:
    for name, parameter in module.named_parameters():
        yield parameter, positions.get(name, {})


class PyroStep:
    """Steps of Pyro's own SVI."""

    def __init__(self, model: SparseNetwork, guide: Any, optimizer: PyroOptim, objective: ELBO) -> None:
        self.objective, self.num_data = objective, model.num_data
        self.svi = SVI(model, guide, copy.deepcopy(optimizer), objective)
        self.parameters = [*model.parameters(), *guide.parameters()]

    def __call__(self, x: Tensor, y: Tensor, kl_weight: float, rate: float) -> Tensor:
        for parameter in self.parameters:
            parameter.grad = None  # Pyro leaves zeros, by which momentum would still move gates that are frozen
        with _weighted(self.objective, kl_weight):
            return x.new_tensor(self.svi.step(x, y) / self.num_data)


@contextmanager
def _weighted(objective: Any, kl_weight: float) -> Iterator[Any]:
    """Gives an ELBO the KL weight: ours by its own, Pyro's by the scale of every latent site."""
    if isinstance(objective, SparseELBO):
        objective.kl_weight = kl_weight
        yield objective
    else:
        with _Tempered(kl_weight):
            yield objective


class _Tempered(Messenger):
    """Scales every latent site by the KL weight, for ELBOs of Pyro."""

    def __init__(self, kl_weight: float) -> None:
        super().__init__()
        self.kl_weight = kl_weight

    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"]:
            msg["scale"] = msg["scale"] * self.kl_weight


def _parameter_groups(model: SparseNetwork, guide: Any, rates: LearningRates) -> list[dict[str, Any]]:
    """Returns torch parameter groups with a learning rate each."""
    points = [p for p in model.parameters() if p.requires_grad]
    if isinstance(guide, AutoProgram):
        named: Mapping[str, Sequence[Any]] = {**guide.parameter_groups(), "points": points}
    else:
        named = {"points": [*points, *guide.parameters()]}
    groups = [{"params": list(p), "lr": getattr(rates, role), "role": role} for role, p in named.items() if p]
    if not groups:
        raise ValueError("guide must have parameters to train, got none")
    return groups
