"""CompiledELBO: any ELBO of any Pyro model and guide as a tensor program, for ``pyro.infer.SVI``."""

import logging
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, cast

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO, Trace_ELBO
from pyro.poutine import Trace
from pyro.poutine.runtime import effectful
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from bnn_pyro.inference.generators import random_state_kept
from bnn_pyro.inference.svi.elbo import Args, Kwargs, Program, SparseELBO
from bnn_pyro.tracing.engine import UNKNOWN, Engine, EngineName
from bnn_pyro.tracing.trace import Undone
from guides.sites import sites_of

logger = logging.getLogger(__name__)


def _as_value(parameter: Tensor) -> Tensor:
    value: Any = parameter.detach()
    value.unconstrained = weakref.ref(parameter)
    return cast(Tensor, value)


_seen: Callable[..., Tensor] = effectful(_as_value, type="param")
_PLAIN = (bool, int, float, complex, str, type(None))  # what is the same wherever it is equal
_MOST = 8  # programs of one guide
_TENSOR = type("_Tensor", (), {"__repr__": lambda self: "a tensor"})()


class Differentiable(Protocol):
    """What is asked of an ELBO besides Pyro's base class."""

    num_particles: int

    def _get_trace(self, model: Program, guide: Program, args: Args, kwargs: Kwargs) -> tuple[Trace, Trace]:
        """Return the traces of model and guide."""

    def differentiable_loss(self, model: Program, guide: Program, *args: object, **kwargs: object) -> Tensor:
        """Return the loss with its gradients."""

    def loss(self, model: Program, guide: Program, *args: object, **kwargs: object) -> float | Tensor:
        """Return the loss."""

    def loss_and_grads(self, model: Program, guide: Program, *args: object, **kwargs: object) -> float | Tensor:
        """Add the gradients to the parameters' and return the loss."""


class CompiledELBO(ELBO):
    """An ELBO whose loss and gradients run as one program of tensors, without Pyro's handlers.

    The model and the guide run once in Pyro for each shape of their arguments; the operations that their handlers leave
    behind are kept, and compiled if asked for::

        svi = pyro.infer.SVI(model, guide, optimizer, loss=CompiledELBO(TraceMeanField_ELBO()))

    Parameters are read from where they stand at every step. Python numbers are baked in: what changes from step to step
    must be a tensor, an argument or a buffer. Every number or string among the arguments makes a program of its own, up
    to 8 of them; with more, or with an argument that is neither these nor a tensor, steps run in Pyro itself. So they
    do where the program cannot be traced, as it asks for a value of a tensor on its way (``if x > 0``, ``.item()``); a
    log line says so. Pyro's validation, where it is on, looks at the first step alone.

    Args:
        elbo: The ELBO, one with a ``differentiable_loss``; default :class:`SparseELBO`.
        engine: ``"traced"``, ``"compiled"``, ``"auto"`` for the faster of both by timing some steps, or ``"eager"``.

    Raises:
        ValueError: If ``engine`` is unknown or ``elbo`` has no ``differentiable_loss``.
    """

    def __init__(self, elbo: ELBO | None = None, *, engine: EngineName = "auto") -> None:
        elbo = SparseELBO() if elbo is None else elbo
        if not callable(getattr(elbo, "differentiable_loss", None)):
            raise ValueError(f"elbo must have a differentiable_loss, got {type(elbo).__name__}")
        Engine(lambda: None, engine=engine)  # checks the name
        ELBO.__init__(self, num_particles=elbo.num_particles)
        self.elbo, self.engine = cast(Differentiable, elbo), engine
        self._programs: weakref.WeakKeyDictionary[object, dict[object, _Program]] = weakref.WeakKeyDictionary()
        self._said = False

    def _get_trace(self, model: Program, guide: Program, args: Args, kwargs: Kwargs) -> tuple[Trace, Trace]:
        return self.elbo._get_trace(model, guide, args, kwargs)

    def differentiable_loss(self, model: Program, guide: Program, *args: object, **kwargs: object) -> Tensor:
        """Returns the ELBO's own differentiable loss, in Pyro."""
        return self.elbo.differentiable_loss(model, guide, *args, **kwargs)

    def loss(self, model: Program, guide: Program, *args: object, **kwargs: object) -> float:
        """Returns the loss as a number, in Pyro."""
        return float(self.elbo.loss(model, guide, *args, **kwargs))

    def loss_and_grads(self, model: Program, guide: Program, *args: object, **kwargs: object) -> float:
        """Adds the gradients of a draw's loss to the parameters' and returns the loss.

        Args:
            model: A Pyro model.
            guide: Its guide.
            *args: Arguments of both.
            **kwargs: Keyword arguments of both.

        Returns:
            The loss, in nats.
        """
        leaves, layout = tree_flatten((args, kwargs))
        if not all(isinstance(leaf, (Tensor, *_PLAIN)) for leaf in leaves):
            return float(self.elbo.loss_and_grads(model, guide, *args, **kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        fixed = tuple(_TENSOR if isinstance(leaf, Tensor) else leaf for leaf in leaves)
        program = self._program(model, guide, layout, fixed, args, kwargs)
        if program is None:
            return float(self.elbo.loss_and_grads(model, guide, *args, **kwargs))
        for name, parameter in zip(program.names, program.parameters, strict=True):
            _seen(parameter, name=name)  # so that SVI knows whose gradients to follow
        loss, gradients = program.engine(None, tensors, plan=UNKNOWN)
        for parameter, gradient in zip(program.parameters, gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient
        return float(loss)

    def _program(
        self, model: Program, guide: Program, layout: TreeSpec, fixed: Args, args: Args, kwargs: Kwargs
    ) -> "_Program | None":
        owner = guide if isinstance(guide, torch.nn.Module) else getattr(guide, "__self__", guide)
        programs = self._programs.setdefault(owner, {})
        key = (id(model), str(layout), tuple((type(leaf), leaf) for leaf in fixed))
        if key not in programs and len(programs) == _MOST:
            if not self._said:
                logger.warning("steps run in Pyro, as numbers among their arguments change: give them as tensors")
            self._said = True
            return None
        if key not in programs or not programs[key].is_current():
            programs[key] = _Program(self, model, guide, layout, fixed, args, kwargs)
        return programs[key]


class _Program:
    """The loss and gradients of one model and guide, for arguments of one layout."""

    def __init__(
        self,
        elbo: CompiledELBO,
        model: Program,
        guide: Program,
        layout: TreeSpec,
        fixed: Args,
        args: Args,
        kwargs: Kwargs,
    ) -> None:
        with Undone(), poutine.trace(param_only=True) as seen, _random_states_kept(args, kwargs):
            elbo.differentiable_loss(model, guide, *args, **kwargs)
        sites = sites_of(seen.trace)
        self.names = [name for name, site in sites.items() if site["type"] == "param"]
        self.parameters: list[Tensor] = [sites[name]["value"].unconstrained() for name in self.names]
        self.engine = Engine(self._function(elbo, model, guide, layout, fixed), engine=elbo.engine)

    def is_current(self) -> bool:
        """Whether Pyro's store still has the parameters that the gradients are of."""
        store = pyro.get_param_store()
        is_local = pyro.settings.get("module_local_params")  # then modules keep their own
        pairs = zip(self.names, self.parameters, strict=True)
        return all(store._params.get(name, p if is_local else None) is p for name, p in pairs)

    def _function(
        self, elbo: CompiledELBO, model: Program, guide: Program, layout: TreeSpec, fixed: Args
    ) -> Callable[..., tuple[Tensor, list[Tensor | None]]]:
        def loss_and_gradients(*tensors: Tensor) -> tuple[Tensor, list[Tensor | None]]:
            rest = iter(tensors)
            leaves = [next(rest) if leaf is _TENSOR else leaf for leaf in fixed]
            args, kwargs = tree_unflatten(leaves, layout)
            with poutine.block():
                loss = _loss(elbo.elbo, model, guide, args, kwargs)
            moving = {i: p for i, p in enumerate(self.parameters) if p.requires_grad}
            found = torch.autograd.grad(loss, list(moving.values()), allow_unused=True)
            gradients = dict(zip(moving, found, strict=True))
            return loss.detach(), [gradients.get(i) for i in range(len(self.parameters))]

        return loss_and_gradients


def _loss(elbo: Differentiable, model: Program, guide: Program, args: Args, kwargs: Kwargs) -> Tensor:
    """Returns an ELBO's differentiable loss; while it is traced, without Pyro's looks at values."""
    if get_proxy_mode() is None:
        return elbo.differentiable_loss(model, guide, *args, **kwargs)
    with pyro.validation_enabled(False):
        if not isinstance(elbo, Trace_ELBO) or type(elbo).differentiable_loss is not Trace_ELBO.differentiable_loss:
            return elbo.differentiable_loss(model, guide, *args, **kwargs)
        traces = list(elbo._get_traces(model, guide, args, kwargs))
        with _NumbersStayTensors():
            particles = [elbo._differentiable_loss_particle(*pair) for pair in traces]
    value, surrogate = (sum(parts) / elbo.num_particles for parts in zip(*particles, strict=True))
    loss: Tensor = surrogate + (value - surrogate).detach()
    return loss


class _NumbersStayTensors(TorchFunctionMode):
    """Leaves a number that Pyro takes out of a tensor in it."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[Tensor, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        return args[0].detach() if func is Tensor.item else func(*args, **(kwargs or {}))


@contextmanager
def _random_states_kept(*nests: object) -> Iterator[None]:
    """Leave the generators of the CPU and of the devices of tensors as they were, and other devices alone."""
    devices = {leaf.device for leaf in tree_leaves(nests) if isinstance(leaf, Tensor)} | {torch.get_default_device()}
    with ExitStack() as stack:
        for device in devices:
            stack.enter_context(random_state_kept(device))
        yield
