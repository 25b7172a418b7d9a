"""A function of tensors at the price of its operations: traced, compiled where that pays, eager where neither works."""

import builtins
import copy
import logging
import time
import types
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor, fx

from bnn_pyro.tracing.compiling import compiling, forgotten_with
from bnn_pyro.tracing.programs import shared
from bnn_pyro.tracing.small_matmuls import without_examples
from bnn_pyro.tracing.trace import Traced, trace

logger = logging.getLogger(__name__)

EngineName = Literal["auto", "compiled", "traced", "eager"]
ENGINES: tuple[EngineName, ...] = ("auto", "compiled", "traced", "eager")

TRACE_CALLS = 200  # calls after which the seconds of tracing have come back
COMPILE_SECONDS = 20.0  # what compiling a step of 784-400-400-10 costs with an empty cache
USUAL_NODES = 1000  # of its graph, about; a ResNet-20 has 8,500, whose cost is taken to be in proportion
OPERATION_SECONDS, NUMBER_SECONDS = 2e-6, 5e-10  # what an operation costs uncompiled: by itself, and for each number
TRIALS = 4

# The instruction set that the machine names is taken at its word: to try it out costs as much as compiling the step. A
# compiler that does not know it fails, and the step runs traced.
COMPILER: dict[str, Any] = {"cpp.vec_isa_ok": True}

Result = TypeVar("Result")


@dataclass
class Plan:
    """How many calls of a kind are to be expected."""

    at_least: float
    at_most: float


MANY = Plan(1e9, 1e9)
UNKNOWN = Plan(0, 1e9)  # compiled only once the calls so far would have paid for it


@dataclass
class _Way:
    """What is known of one kind of call."""

    traced: Traced | None = None
    compiled: Callable[..., Any] | None = None
    choice: EngineName | None = None
    gain: float = 0.0  # seconds a call that compiling is expected to save
    cost: float = 0.0  # seconds that compiling is expected to take
    calls: int = 0
    trials: dict[EngineName, list[float]] = field(default_factory=dict)


class Engine(Generic[Result]):
    """Runs a function of tensors, for each kind of call in the way that is fastest.

    ``"eager"`` calls it, ``"traced"`` runs its tensor program, ``"compiled"`` that program made into kernels by
    ``torch.compile``. ``"auto"`` traces what will be called often, compiles what that will pay for (a rule of the
    program's size and the calls to come, so that it is the same in every run), and then takes the faster of both by
    timing some calls. What cannot be traced or compiled is run in the next simpler way; a log line says so once.

    Args:
        function: From tensors to a nest of tensors and constants; see :func:`~bnn_pyro.tracing.trace.trace`.
        bases: One-dimensional tensors that parameters are views of.
        lowered: Operation -> a function of the same arguments that does the same; a compiler gets it in place of the
            operation, to fuse what it does with what stands around it.
        engine: Which way; ``"auto"`` chooses.

    Raises:
        ValueError: If ``engine`` is unknown.
    """

    def __init__(
        self,
        function: Callable[..., Result],
        *,
        bases: Sequence[Tensor] = (),
        lowered: Mapping[torch._ops.OpOverload, Callable[..., object]] = MappingProxyType({}),
        engine: EngineName = "auto",
    ) -> None:
        if engine not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
        self.function, self.bases, self.lowered, self.engine = function, bases, lowered, engine
        self.compile_seconds = 0.0
        self._most = 0.0
        self._ways: dict[Hashable, _Way] = {}

    def __call__(self, kind: Hashable, inputs: Sequence[Tensor], plan: Plan = MANY) -> Result:
        """Run the function and return its result.

        Args:
            kind: What the operations depend on besides shapes and dtypes.
            inputs: The function's arguments.
            plan: How many calls like this one are to be expected.
        """
        self._most = max(self._most, plan.at_most)
        key = (kind, tuple((t.shape, t.stride(), t.dtype, t.device) for t in inputs))
        way = self._ways.setdefault(key, _Way())
        if way.choice is None or (way.choice == "traced" and way.compiled is None and self.engine == "auto"):
            self._choose(way, inputs, plan)
        way.calls += 1
        if way.choice != "auto":
            return self._run(way.choice, way, inputs)
        return self._try(way, inputs)

    def _run(self, choice: EngineName | None, way: _Way, inputs: Sequence[Tensor]) -> Result:
        result: Result
        if choice == "compiled" and way.compiled is not None and way.traced is not None:
            with torch.no_grad():
                result = way.compiled(inputs, way.traced.live, way.traced.noise.draw())
        elif choice == "traced" and way.traced is not None:
            result = way.traced(*inputs)
        else:
            result = self.function(*inputs)
        return result

    def _choose(self, way: _Way, inputs: Sequence[Tensor], plan: Plan) -> None:
        """Traces and compiles as far as that pays, and says what to run."""
        if way.traced is None:
            is_worth = self.engine != "auto" or plan.at_most >= TRACE_CALLS
            way.choice = "eager"
            if self.engine == "eager" or not is_worth or not self._trace(way, inputs):
                return
            way.choice = "traced"
        lost = way.calls * way.gain
        pays = plan.at_least * way.gain > way.cost
        pays = pays or (lost > way.cost / 2 and plan.at_most * way.gain > way.cost)
        is_main = plan.at_most > self._most / 2  # and not, say, the last and smaller batch of every epoch
        if (self.engine == "compiled" and is_main) or (self.engine == "auto" and pays):
            way.choice = self._compile(way, inputs)

    def _trace(self, way: _Way, inputs: Sequence[Tensor]) -> bool:
        start = time.perf_counter()
        try:
            way.traced = trace(self.function, *inputs, bases=self.bases)
        except Exception as error:  # whatever a program of the user's does that torch cannot trace
            logger.info("the step runs eagerly, as it cannot be traced: %s", error)
            return False
        way.gain = _gain(way.traced.graph)
        way.cost = COMPILE_SECONDS * max(1.0, len(way.traced.graph.graph.nodes) / USUAL_NODES)
        logger.info("traced the step in %.1f s", time.perf_counter() - start)
        return True

    def _compile(self, way: _Way, inputs: Sequence[Tensor]) -> EngineName:
        """Compiles the traced program; the call that compiles it changes nothing."""
        traced = way.traced
        if traced is None:
            return "eager"
        graph, noise = _lower(traced.graph, self.lowered), traced.noise.fill()

        def compile_step() -> Callable[..., Any]:
            step = torch.compile(_function_of(graph), dynamic=False, fullgraph=True, options=COMPILER)
            with (
                compiling(),
                torch.no_grad(),
                torch.random.fork_rng(sorted({t.device for t in inputs if t.is_cuda}, key=str)),
            ):
                before = [tensor.clone() for tensor in traced.live]
                step(inputs, traced.live, noise)
                for tensor, value in zip(traced.live, before, strict=True):
                    if not torch.equal(tensor, value):  # one that is expanded could not be written to
                        tensor.copy_(value)
            return step

        start = time.perf_counter()
        try:
            way.compiled = shared("step", graph, (*inputs, *traced.live, *noise), compile_step)
        except Exception as error:  # no compiler, or an operation that it does not know
            logger.warning("the step runs traced, as it cannot be compiled: %s", error)
            way.compiled = traced.graph  # so that it is not tried again
            return "traced"
        seconds = time.perf_counter() - start
        self.compile_seconds += seconds
        logger.info("the step is compiled, after %.1f s", seconds)
        return "compiled" if self.engine == "compiled" else "auto"

    def _try(self, way: _Way, inputs: Sequence[Tensor]) -> Result:
        """Makes a call while timing it, and settles on a way after enough of them."""
        choice: EngineName = "compiled" if way.calls % 2 else "traced"
        _wait(inputs)
        start = time.perf_counter()
        result = self._run(choice, way, inputs)
        _wait(inputs)
        way.trials.setdefault(choice, []).append(time.perf_counter() - start)
        if min(len(way.trials.get(name, ())) for name in ("compiled", "traced")) >= TRIALS:
            compiled, traced = min(way.trials["compiled"]), min(way.trials["traced"])
            way.choice = "compiled" if compiled < 1.1 * traced else "traced"  # nearly alike: always the same one
            logger.info("compiled %.2f ms, traced %.2f ms a call: %s", 1e3 * compiled, 1e3 * traced, way.choice)
        return result


def _gain(module: fx.GraphModule) -> float:
    """Returns the seconds a call that compiling is expected to save: the price of operations that can be fused."""
    seconds = 0.0
    for node in module.graph.nodes:
        value = node.meta.get("val")
        if node.op == "call_function" and isinstance(value, Tensor):
            is_pointwise = torch.Tag.pointwise in getattr(node.target, "tags", ())
            seconds += OPERATION_SECONDS + (value.numel() * NUMBER_SECONDS if is_pointwise else 0.0)
    return seconds


def _lower(module: fx.GraphModule, lowered: Mapping[torch._ops.OpOverload, Callable[..., object]]) -> fx.GraphModule:
    """Returns a copy of a graph with functions in place of some operations, and without tensors of the run."""
    module = without_examples(copy.deepcopy(module))
    for node in module.graph.nodes:
        node.target = lowered.get(node.target, node.target)
    module.recompile()
    return module


def _function_of(graph: fx.GraphModule) -> Callable[..., Any]:
    """Returns a graph as a function of inputs, tensors found outside, and noise."""

    def whole(inputs: Sequence[Tensor], live: Sequence[Tensor], noise: Sequence[Tensor]) -> Any:
        return graph(*inputs, *live, *noise)

    # a code object of its own: torch.compile counts recompilations, and gives up, by code object; and
    # globals of its own, where torch.compile puts what it has made
    own_globals = {"__name__": __name__, "__builtins__": builtins}
    own = types.FunctionType(whole.__code__.replace(), own_globals, whole.__name__, None, whole.__closure__)
    forgotten_with(own)
    return own


def _wait(inputs: Sequence[Tensor]) -> None:
    if inputs and inputs[0].is_cuda:
        torch.cuda.synchronize(inputs[0].device)
