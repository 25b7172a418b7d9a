"""Leapfrog steps as programs of tensors: one of them, and as many as a trajectory takes in one call."""

import copy
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch._higher_order_ops.while_loop import while_loop_op
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._pytree import PyTree

from bnn_pyro.tracing.compiling import compiling
from bnn_pyro.tracing.engine import COMPILER
from bnn_pyro.tracing.programs import shared
from bnn_pyro.tracing.small_matmuls import products_as_sums, without_examples
from bnn_pyro.tracing.trace import Traced

logger = logging.getLogger(__name__)

State = tuple[Tensor, Tensor, Tensor, Tensor]
"""Position, momentum, the potential energy at the position, and its gradient."""


def leapfrog(flow: Callable[[Tensor], Iterable[Tensor]]) -> Callable[..., State]:
    r"""Returns a leapfrog step along a function.

    .. math::
        p \leftarrow p - \tfrac12 s \nabla U(q), \qquad q \leftarrow q + s p, \qquad
        p \leftarrow p - \tfrac12 s \nabla U(q).

    Args:
        flow: From a position to the gradient of the potential energy and its value.

    Returns:
        A function of position, momentum, gradient and stride s.
    """

    def step(q: Tensor, p: Tensor, slope: Tensor, stride: Tensor) -> State:
        half = p - stride * slope / 2
        q = q + stride * half
        slope, value = flow(q)
        return q, half - stride * slope / 2, value, slope

    return step


def repeated(step: Callable[..., State]) -> Callable[..., State]:
    """Returns a step as a function of how often to make it, too: one call each.

    Args:
        step: A leapfrog step.

    Returns:
        A function of position, momentum, gradient, stride and the number of steps, one at least.
    """

    def run(q: Tensor, p: Tensor, slope: Tensor, stride: Tensor, steps: int) -> State:
        state = step(q, p, slope, stride)
        for _ in range(steps - 1):  # compiled steps take dense inputs, and may return others
            state = step(state[0].contiguous(), state[1].contiguous(), state[3].contiguous(), stride)
        return state

    return run


def compiled(traced: Traced, *inputs: Tensor) -> Callable[..., PyTree]:
    """Returns a traced program as kernels; those of one chain on a CPU have sums for small products.

    Sums make a step of one chain 1.1 to 1.8 times as fast; a batch gains nothing by them, as its products are larger
    (``benchmarks/traced_programs.py``).

    Args:
        traced: The program, without noise.
        *inputs: Example inputs.

    Returns:
        The program.
    """
    given = [*inputs, *traced.live]

    def graph() -> fx.GraphModule:
        is_one_chain = inputs[0].dim() == 1 and inputs[0].device.type == "cpu"
        return products_as_sums(traced.graph, given) if is_one_chain else without_examples(copy.deepcopy(traced.graph))

    def compile_step() -> Callable[..., PyTree]:
        with compiling():
            found: Callable[..., PyTree] = torch._inductor.compile(graph(), _alike(given), options=COMPILER)
        return found

    program: Callable[..., PyTree]
    try:  # without the guards of torch.compile, which cost as much as a step of one chain
        program = shared("leapfrog", traced.graph, given, compile_step)
    except Exception:  # it promises less than torch.compile does
        program = torch.compile(graph(), dynamic=False)

    def run(*inputs: Tensor) -> PyTree:
        with torch.no_grad():
            return program(*inputs, *traced.live)

    return run


def compiled_loop(traced: Traced, *inputs: Tensor) -> Callable[..., State]:
    """Returns a traced step as kernels, and a loop around them that is compiled too: any number of steps is one call.

    A loop rather than copies of the step: one program does for all numbers of steps, is compiled in a third of the
    time and runs as fast. It gives bit for bit what as many calls of the step give, 1.05 to 1.4 times as fast
    (``benchmarks/traced_programs.py``). Where it cannot be compiled each step is a call.

    Args:
        traced: A leapfrog step, on the CPU: its condition would make the host wait for another device.
        *inputs: Example inputs.

    Returns:
        A function of position, momentum, gradient, stride and the number of steps, one at least.
    """
    try:
        graph = _loop(traced, *inputs)
    except Exception as error:  # what it stands on is younger than the rest of the compiler
        logger.info("each leapfrog step is a call of its own, as a loop of them cannot be compiled: %s", error)
        return repeated(compiled(traced, *inputs))

    def run(q: Tensor, p: Tensor, slope: Tensor, stride: Tensor, steps: int) -> State:
        with torch.no_grad():
            return graph(torch.tensor(steps, device="cpu"), q, p, slope, stride, *traced.live)

    return run


def _loop(traced: Traced, *inputs: Tensor) -> Callable[..., State]:
    """Returns the compiled loop, as a function of the number of steps, the inputs, and what the step reads."""

    def more(number: Tensor, *rest: Tensor) -> Tensor:
        return number < rest[4]

    def once(
        number: Tensor, q: Tensor, p: Tensor, value: Tensor, slope: Tensor, steps: Tensor, stride: Tensor, *live: Tensor
    ) -> tuple[Tensor, ...]:
        return number + 1, *traced.graph(q, p, slope, stride, *live)

    def loop(steps: Tensor, q: Tensor, p: Tensor, slope: Tensor, stride: Tensor, *live: Tensor) -> tuple[Tensor, ...]:
        carried: PyTree = (torch.zeros_like(steps), q.clone(), p.clone(), torch.zeros_like(q[0]), slope.clone())
        found: tuple[Tensor, ...] = while_loop_op(more, once, carried, (steps, stride, *live))
        return found[1:]

    given = (torch.ones((), dtype=torch.int64, device="cpu"), *inputs, *traced.live)

    def compile_loop() -> Callable[..., State]:
        graph = without_examples(make_fx(loop)(*given))
        with compiling():
            found = torch._inductor.compile(graph, _alike(given), options={**COMPILER, "cpp_wrapper": True})
        found(*given)
        return cast(Callable[..., State], found)

    with torch.no_grad():
        return shared("loop", traced.graph, given, compile_loop)


def _alike(tensors: Sequence[Tensor]) -> list[Any]:
    """Returns tensors without numbers, as examples for the compiler, which keeps them."""
    mode = FakeTensorMode(shape_env=ShapeEnv())
    return [mode.from_tensor(tensor, static_shapes=True) for tensor in tensors]
