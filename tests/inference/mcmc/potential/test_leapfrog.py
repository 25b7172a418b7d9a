"""Leapfrog steps as programs."""

import logging
from typing import Any

import pytest
import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.potential import leapfrog as module
from bnn_pyro.inference.mcmc.potential.leapfrog import compiled, compiled_loop, leapfrog, repeated
from bnn_pyro.tracing.small_matmuls import products_as_sums
from bnn_pyro.tracing.trace import Traced, trace

DOUBLE = torch.float64


def spring(q: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient and value of half the square of each chain's position."""
    return q, q.square().sum(0) / 2


def inputs(*shape: int) -> list[Tensor]:
    """Position, momentum, gradient and stride."""
    q, p = torch.randn(2, *shape, dtype=DOUBLE)
    return [q, p, q.clone(), torch.full((shape[0], *[1] * (len(shape) - 1)), 0.3, dtype=DOUBLE)]


def test_step_is_that_of_the_formula() -> None:
    q, p, slope, stride = inputs(3, 5)
    half = p - 0.15 * q
    moved = q + 0.3 * half
    expected = (moved, half - 0.15 * moved, moved.square().sum(0) / 2, moved)
    torch.testing.assert_close(leapfrog(spring)(q, p, slope, stride), expected)


def test_steps_of_a_spring_turn_it() -> None:
    r"""With the frequency :math:`2 \arcsin(s / 2) / s` that leapfrog steps of size s give it."""
    q, p, slope, stride = inputs(1)
    angle = 20 * 2 * torch.tensor(0.15, dtype=DOUBLE).asin()
    moved = repeated(leapfrog(spring))(q, p, slope, stride, 20)[0]
    root = (1 - torch.tensor(0.15, dtype=DOUBLE) ** 2).sqrt()
    torch.testing.assert_close(moved, q * angle.cos() + p / root * angle.sin())


@pytest.mark.parametrize("steps", [1, 7])
def test_repeated_step_is_called_as_often(steps: int) -> None:
    calls = []

    def flow(q: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(q)
        return spring(q)

    repeated(leapfrog(flow))(*inputs(3, 5), steps)
    assert len(calls) == steps


# ---- compiled --------------------------------------------------------------------------------------------------------


def traced(data: Tensor, *shape: int) -> tuple[Traced, list[Tensor]]:
    """A step along the potential of data, which are read where they stand."""
    example = inputs(*shape)
    return trace(leapfrog(lambda q: ((q - data) * q.cosh(), (q - data).sin().sum(0))), *example), example


def test_compiled_loop_is_as_many_steps_bit_for_bit() -> None:
    """Any number of them by one program, which reads the data where they stand and leaves its inputs as they were."""
    data = torch.randn(3, 1, dtype=DOUBLE)
    program, example = traced(data, 3, 4)
    loop, single = compiled_loop(program, *example), repeated(compiled(program, *example))
    for steps in (1, 2, 9):
        data += 0.1
        given = inputs(3, 4)
        before = [part.clone() for part in given]
        found = loop(*given, steps)
        assert all(map(torch.equal, found, single(*given, steps)))
        torch.testing.assert_close(found, repeated(program)(*given, steps))
        assert all(map(torch.equal, given, before))


def test_small_products_are_sums_for_one_chain_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch gains nothing by it."""
    written: list[Any] = []

    def counting(graph: Any, given: Any) -> Any:
        written.append(graph)
        return products_as_sums(graph, given)

    monkeypatch.setattr(module, "products_as_sums", counting)
    for data, shape, expected in ((torch.zeros(3), (3,), 1), (torch.zeros(3, 1), (3, 4), 1)):
        program, example = traced(data.to(DOUBLE), *shape)
        run = compiled(program, *example)
        assert len(written) == expected
        torch.testing.assert_close(run(*example), program(*example))


def test_loop_that_cannot_be_compiled_is_a_call_a_step(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no such operation")

    calls = []
    program, example = traced(torch.zeros(3, 1, dtype=DOUBLE), 3, 4)

    def counting(*given: Tensor) -> Any:
        calls.append(given)
        return program(*given)

    monkeypatch.setattr(module, "_loop", broken)
    monkeypatch.setattr(module, "compiled", lambda *_: counting)
    with caplog.at_level(logging.INFO, logger=module.__name__):
        loop = compiled_loop(program, *example)
    assert "a call of its own" in caplog.text and "no such operation" in caplog.text
    torch.testing.assert_close(loop(*example, 5), repeated(program)(*example, 5))
    assert len(calls) == 5


def test_step_that_could_not_be_compiled_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in for it once is not kept for the chains that come later."""
    example, tries = inputs(3, 5), []
    program = trace(leapfrog(spring), *example)

    def fails_once(graph: Any, given: Any, **options: Any) -> Any:
        tries.append(given)
        if len(tries) == 1:
            raise RuntimeError("no room")
        return graph

    monkeypatch.setattr(torch._inductor, "compile", fails_once)
    monkeypatch.setattr(torch, "compile", lambda graph, **options: graph)
    for _ in range(3):
        torch.testing.assert_close(compiled(program, *example)(*example), program(*example))
    assert len(tries) == 2  # the third has the program of the second
