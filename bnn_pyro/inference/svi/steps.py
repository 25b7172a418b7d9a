"""The steps of SVI: by a torch optimiser with a learning rate for each role, or by Pyro's own SVI."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Protocol

import torch
from pyro.infer import ELBO, SVI
from pyro.optim import PyroOptim
from pyro.poutine.messenger import Messenger
from torch import Tensor

from bnn_pyro.inference.svi.elbo import SparseELBO
from bnn_pyro.inference.svi.flat_adam import Flat, corrections, flatten, update, update_in_graph
from bnn_pyro.inference.svi.schedule import LearningRates
from bnn_pyro.inference.training.autocast import Precision, computing
from bnn_pyro.inference.training.micro_batches import Gradients, Shares
from bnn_pyro.network import SparseNetwork
from bnn_pyro.pruning.positions import select
from bnn_pyro.pruning.shrink import Shrunk
from bnn_pyro.tracing.engine import MANY, Engine, EngineName, Plan
from guides import AutoProgram

OptimizerFactory = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]


class Step(Protocol):
    """One step of an optimiser."""

    def __call__(self, x: Tensor, y: Tensor, kl_weight: float, rate: float, plan: Plan = MANY) -> Tensor:
        """Makes a step on a batch, with all learning rates times ``rate``, and returns the loss per datum.

        ``plan`` says how many steps on batches of this size are to be expected.
        """

    def release(self) -> None:
        """Ends the steps: leaves each parameter with memory of its own."""


def stepper(
    model: SparseNetwork,
    guide: Any,
    optimizer: PyroOptim | OptimizerFactory | None,
    objective: ELBO,
    rates: LearningRates,
    clip_norm: float | None,
    engine: EngineName = "auto",
    shares: Shares = Shares(),  # noqa: B008  (frozen)
    precision: Precision | None = None,
) -> Step:
    """Returns what makes the steps."""
    if getattr(guide, "gate_gradient", None) == "disarm" and not isinstance(objective, SparseELBO):
        raise ValueError(
            f"elbo must be a SparseELBO for a guide with gate_gradient='disarm', got {type(objective).__name__}"
        )
    if isinstance(optimizer, PyroOptim):
        return PyroStep(model, guide, optimizer, objective, precision)
    if optimizer is None and clip_norm is None:
        return AdamStep(model, guide, objective, rates, engine, shares, precision)
    factory = optimizer or partial(torch.optim.Adam, fused=True)
    return TorchStep(model, guide, factory, objective, rates, clip_norm, engine, shares, precision)


class AdamStep:
    """Steps of Adam; where the loss and its gradients are compiled, so is the step, in the same program.

    What changes from step to step enters that program as a tensor: the KL weight, what the gates do, and for each
    vector of parameters the two numbers that a step of Adam depends on; the temperature is a buffer of the guide.
    """

    def __init__(
        self,
        model: SparseNetwork,
        guide: Any,
        objective: ELBO,
        rates: LearningRates,
        engine: EngineName = "auto",
        shares: Shares = Shares(),  # noqa: B008  (frozen)
        precision: Precision | None = None,
    ) -> None:
        self.model, self.guide, self.objective, self.rates = model, guide, objective, rates
        self.shares, self.precision = shares, precision
        self.flats = flatten(_parameter_groups(model, guide, rates))
        self.settings = self.flats[0].values.new_zeros(3 + 2 * len(self.flats))
        bases = [flat.values for flat in self.flats]
        tail = _updated if shares.is_whole else None  # the gradient of a part is not that of the step
        self.engine = Engine(self._loss_and_gradients, bases=bases, tail=tail, engine=engine)
        # DisARM asks the guide what the gates do, and makes its second pass only where they are free
        self.is_switched = isinstance(guide, AutoProgram) and guide.gate_gradient != "disarm" and engine != "eager"

    def __call__(self, x: Tensor, y: Tensor, kl_weight: float, rate: float, plan: Plan = MANY) -> Tensor:
        mode = getattr(self.guide, "gate_mode", "free")
        numbers = [kl_weight, float(mode == "free"), float(mode == "frozen")]
        for flat in self.flats:
            numbers += (0.0, 1.0) if self._is_held(flat, mode) else corrections(flat, rate)
        self.settings.copy_(torch.tensor(numbers, dtype=self.settings.dtype), non_blocking=True)
        kind = ("any" if self.is_switched else mode, self.model.net.training)
        state = [(flat.values, flat.mean, flat.square) for flat in self.flats]
        is_updated = False

        def compute(x: Tensor, y: Tensor) -> tuple[Tensor, Gradients]:
            nonlocal is_updated
            found, is_updated = self.engine(kind, (x, y, self.settings), state, plan)
            loss, gradients = found
            return loss, gradients

        loss, gradients = self.shares.compute(compute, x, y)
        for flat, gradient in zip(self.flats, gradients, strict=True):
            if gradient is None or self._is_held(flat, mode):
                continue
            if is_updated:
                flat.steps += 1
            else:
                update(flat, gradient, rate)
        return loss

    @staticmethod
    def _is_held(flat: Flat, mode: str) -> bool:
        return flat.role == "gates" and mode != "free"

    def _loss_and_gradients(self, x: Tensor, y: Tensor, settings: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Returns the loss per datum, and the gradient of each vector of parameters."""
        kl_weight, free, frozen, *_ = settings.unbind()
        switched: Any = self.guide.switched(free > 0, frozen > 0) if self.is_switched else nullcontext()
        net = computing(self.model.net, self.precision)
        with switched, net, _weighted(self.objective, kl_weight) as objective:
            loss: Tensor = objective.differentiable_loss(self.model, self.guide, x, y) / self.model.num_data
        parameters = [p for flat in self.flats for p in flat.parameters]
        gradients = iter(_gradients(loss, parameters))
        return loss.detach(), [flat.gradient([next(gradients) for _ in flat.parameters]) for flat in self.flats]

    def moved_to(self, shrunk: Shrunk) -> "AdamStep":
        """Returns the steps of a shrunk model and guide, with the optimiser's state cut likewise."""
        self.release()
        new = AdamStep(
            shrunk.model,
            shrunk.guide,
            self.objective,
            self.rates,
            self.engine.engine,
            self.shares,
            self.precision,
        )
        new.engine.compile_seconds = self.engine.compile_seconds
        old_states = {id(p): moments for flat in self.flats for p, moments in flat.state().items()}
        steps = {id(p): flat.steps for flat in self.flats for p in flat.parameters}
        partners = _partners(self.model, self.guide, shrunk)
        for flat in new.flats:
            for small, moments in flat.state().items():
                old, dims = partners[id(small)]
                flat.steps = steps[id(old)]
                for target, source in zip(moments, old_states[id(old)], strict=True):
                    target.copy_(select(source, dims))
        return new

    def state(self) -> dict[str, Any]:
        """Returns Adam's state of each vector of parameters."""
        return {"adam": [{"mean": f.mean, "square": f.square, "steps": f.steps} for f in self.flats]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over Adam's state of each vector of parameters."""
        for flat, saved in zip(self.flats, state["adam"], strict=True):
            flat.mean.copy_(saved["mean"])
            flat.square.copy_(saved["square"])
            flat.steps = saved["steps"]

    def release(self) -> None:
        """Gives each parameter memory of its own again; no step can be made after that."""
        for flat in self.flats:
            flat.release()


def _updated(
    result: tuple[Tensor, list[Tensor | None]], state: Sequence[Any], inputs: Sequence[Tensor]
) -> tuple[Tensor, list[bool | None]]:
    """Makes the step of Adam behind the loss and its gradients; says which vectors it was made on."""
    loss, gradients = result
    numbers = inputs[-1].unbind()[3:]
    for i, gradient in enumerate(gradients):
        if gradient is not None:
            update_in_graph(state[i], gradient, numbers[2 * i], numbers[2 * i + 1])
    return loss, [None if gradient is None else True for gradient in gradients]


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
        engine: EngineName = "auto",
        shares: Shares = Shares(),  # noqa: B008  (frozen)
        precision: Precision | None = None,
    ) -> None:
        self.model, self.guide, self.factory, self.objective = model, guide, factory, objective
        self.rates, self.clip_norm, self.shares, self.precision = rates, clip_norm, shares, precision
        self.optimizer = factory(_parameter_groups(model, guide, rates))
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.engine = Engine(self._loss_and_gradients, engine=engine)

    def __call__(self, x: Tensor, y: Tensor, kl_weight: float, rate: float, plan: Plan = MANY) -> Tensor:
        for group, base in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = base * rate
        kind = (getattr(self.guide, "gate_mode", "free"), self.model.net.training)
        weight = torch.full((), kl_weight, dtype=x.dtype, device=x.device)
        loss, gradients = self.shares.compute(lambda x, y: self.engine(kind, (x, y, weight), plan=plan)[0], x, y)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            # a copy laid out like the parameter: others are read wrongly by fused kernels, and clipping writes to it
            parameter.grad = None if gradient is None else torch.empty_like(parameter).copy_(gradient)
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.optimizer.step()
        return loss

    def _loss_and_gradients(self, x: Tensor, y: Tensor, kl_weight: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        with computing(self.model.net, self.precision), _weighted(self.objective, kl_weight) as objective:
            loss: Tensor = objective.differentiable_loss(self.model, self.guide, x, y) / self.model.num_data
        return loss.detach(), _gradients(loss, self.parameters)

    def moved_to(self, shrunk: Shrunk) -> "TorchStep":
        """Returns the steps of a shrunk model and guide, with the optimiser's state cut likewise."""
        new = TorchStep(
            shrunk.model,
            shrunk.guide,
            self.factory,
            self.objective,
            self.rates,
            self.clip_norm,
            self.engine.engine,
            self.shares,
            self.precision,
        )
        partners = _partners(self.model, self.guide, shrunk)
        for small in new.parameters:
            old, dims = partners[id(small)]
            for key, value in self.optimizer.state.get(old, {}).items():
                is_cut = isinstance(value, Tensor) and value.shape == old.shape
                new.optimizer.state[small][key] = select(value, dims) if is_cut else value
        return new

    def state(self) -> dict[str, Any]:
        """Returns the optimiser's state of each parameter."""
        return {"optimizer": self.optimizer.state_dict()["state"]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over the optimiser's state of each parameter."""
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state["optimizer"]})

    def release(self) -> None:
        """Leaves the parameters as they are."""


def _gradients(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """Returns the gradient of each parameter; None where the loss does not move with it, or it is held fixed."""
    moving = [p for p in parameters if p.requires_grad] if loss.requires_grad else []
    found = torch.autograd.grad(loss, moving, allow_unused=True) if moving else ()
    by_id = {id(p): gradient for p, gradient in zip(moving, found, strict=True)}
    return [by_id.get(id(p)) for p in parameters]


def _partners(
    model: SparseNetwork, guide: Any, shrunk: Shrunk
) -> dict[int, tuple[torch.nn.Parameter, dict[int, Tensor]]]:
    """Returns, for each parameter (by id) of a shrunk model and guide, what it was cut from and which part it kept."""
    found = {}
    for old, new, positions in (
        (guide, shrunk.guide, shrunk.guide_positions),
        (model.net, shrunk.model.net, shrunk.net_positions),
    ):
        before = dict(old.named_parameters())
        for name, parameter in new.named_parameters():
            found[id(parameter)] = (before[name], positions.get(name, {}))
    return found


class PyroStep:
    """Steps of Pyro's own SVI."""

    def __init__(
        self,
        model: SparseNetwork,
        guide: Any,
        optimizer: PyroOptim,
        objective: ELBO,
        precision: Precision | None = None,
    ) -> None:
        self.net, self.precision = model.net, precision
        self.objective, self.num_data = objective, model.num_data
        self.svi = SVI(model, guide, copy.deepcopy(optimizer), objective)
        self.parameters = [*model.parameters(), *guide.parameters()]

    def __call__(self, x: Tensor, y: Tensor, kl_weight: float, rate: float, plan: Plan = MANY) -> Tensor:
        for parameter in self.parameters:
            parameter.grad = None  # Pyro leaves zeros, by which momentum would still move gates that are frozen
        with computing(self.net, self.precision), _weighted(self.objective, kl_weight):
            return x.new_tensor(self.svi.step(x, y) / self.num_data)

    def release(self) -> None:
        """Leaves the parameters as they are."""


@contextmanager
def _weighted(objective: Any, kl_weight: float | Tensor) -> Iterator[Any]:
    """Gives an ELBO the KL weight: ours by its own, Pyro's by the scale of every latent site."""
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
