"""The engine: which way a call is run, what it falls back to, and that all ways give the same."""

import logging
import time
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from bnn_pyro.tracing import engine as engines
from bnn_pyro.tracing.engine import ENGINES, Engine, Plan

X = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
LOG = "bnn_pyro.tracing.engine"


def needs_a_compiler(function: Any) -> Any:
    """Skips a test where torch.compile has no C++ compiler."""
    try:
        from torch._inductor.cpp_builder import get_cpp_compiler

        get_cpp_compiler()
        reason = ""
    except Exception as error:
        reason = f"torch.compile needs a C++ compiler: {error}"
    return pytest.mark.skipif(bool(reason), reason=reason or "has one")(function)


class Program:
    """A function that notes how often Python runs it."""

    def __init__(self) -> None:
        self.runs = 0
        self.weight = torch.ones(3, dtype=torch.float64)

    def __call__(self, x: Tensor) -> Any:
        """Noise, a parameter and no gradient for one of two."""
        self.runs += 1
        return (x * self.weight + torch.randn(3, dtype=torch.float64)).sum(), [x.exp(), None]


def fake_compile(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replaces torch.compile by what runs the function as it stands, and returns what was compiled."""
    compiled: list[Any] = []

    def compile(function: Any, **options: Any) -> Any:
        compiled.append(options)
        return function

    monkeypatch.setattr(torch, "compile", compile)
    return compiled


def test_an_unknown_name() -> None:
    with pytest.raises(ValueError, match="engine must be one of auto, compiled, traced, eager, got 'fast'"):
        Engine(Program(), engine="fast")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ENGINES)
def test_every_way_gives_the_same(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same seed, as one normal of three is drawn; and with parameters read where they stand."""
    fake_compile(monkeypatch)
    program = Program()
    engine = Engine(program, engine=name)
    for _ in range(3):
        program.weight.mul_(2)
        torch.manual_seed(5)
        found, (first, none) = engine("any", [X])
        torch.manual_seed(5)
        expected, (wanted, _) = Program().__class__.__call__(program, X)
        torch.testing.assert_close(first, wanted)
        assert none is None
        if name == "eager":
            torch.testing.assert_close(found, expected)
    assert program.runs == 3 + (3 if name == "eager" else 1)


# ---- which way -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "gain", "compiles", "runs"),
    [
        (Plan(10, 10), 1.0, 0, 3),  # too few calls to trace
        (Plan(0, 1000), 0.001, 0, 1),
        (Plan(1000, 1000), 0.001, 0, 1),
        (Plan(1000, 1000), 1.0, 1, 1),
    ],
)
def test_plans(plan: Plan, gain: float, compiles: int, runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = fake_compile(monkeypatch)
    monkeypatch.setattr(engines, "_gain", lambda module: gain)
    program = Program()
    engine = Engine(program)
    for _ in range(3):
        engine("any", [X], plan=plan)
    assert (len(compiled), program.runs) == (compiles, runs)


def test_what_was_lost_is_compiled_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not known how many calls will come, once traced calls have lost half of what compiling costs."""
    compiled = fake_compile(monkeypatch)
    monkeypatch.setattr(engines, "_gain", lambda module: 1.0)
    engine, plan = Engine(Program()), Plan(1, 1000)
    for i in range(1, 15):
        engine("any", [X], plan=plan)
        assert len(compiled) == int(i > engines.COMPILE_SECONDS / 2 + 1)


def test_a_larger_program_must_gain_more(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = fake_compile(monkeypatch)
    monkeypatch.setattr(engines, "_gain", lambda module: 2 * engines.COMPILE_SECONDS / 1000)
    for nodes, expected in ((1, 0), (10_000, 1)):
        monkeypatch.setattr(engines, "USUAL_NODES", nodes)
        Engine(Program())("any", [X], plan=Plan(1000, 1000))
        assert len(compiled) == expected


def test_the_faster_way_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_compile(monkeypatch)
    for traced, compiled, expected in ((1.0, 2.0, "traced"), (2.0, 1.0, "compiled"), (1.0, 1.05, "compiled")):
        seconds = {"traced": traced, "compiled": compiled}
        engine = Engine(Program())
        ways: list[str] = []
        clock = [0.0]
        run = engine._run

        def spy(
            choice: Any, *args: Any, clock: Any = clock, run: Any = run, ways: Any = ways, took: Any = seconds
        ) -> Any:
            ways.append(choice)
            clock[0] += took[choice]
            return run(choice, *args)

        monkeypatch.setattr(engine, "_run", spy)
        monkeypatch.setattr(time, "perf_counter", lambda clock=clock: clock[0])
        for _ in range(20):
            engine("any", [X])
        monkeypatch.undo()
        fake_compile(monkeypatch)
        trials = ways[: 2 * engines.TRIALS]
        assert sorted(trials) == ["compiled"] * engines.TRIALS + ["traced"] * engines.TRIALS
        assert set(ways[2 * engines.TRIALS :]) == {expected}


def test_kinds_shapes_and_strides_have_programs_of_their_own() -> None:
    runs = []

    def function(x: Tensor) -> Tensor:
        runs.append(x.shape)
        return x.contiguous().view(-1).sum()

    engine = Engine(function, engine="traced")
    square = torch.arange(9.0).view(3, 3)
    for kind, x in [("a", square), ("b", square), ("a", square[:2]), ("a", square.t()), ("a", square.double())] * 2:
        assert float(engine(kind, [x])) == float(x.sum())
    assert len(runs) == 5


# ---- falling back ----------------------------------------------------------------------------------------------------


def test_what_cannot_be_traced_runs_eagerly(caplog: pytest.LogCaptureFixture) -> None:
    """A branch on a value stays right, and is said once."""
    runs = []

    def function(x: Tensor) -> Tensor:
        runs.append(1)
        return x * 2 if x.mean() > 0 else x * 3

    engine = Engine(function)
    with caplog.at_level(logging.INFO, LOG):
        assert engine("any", [X]).tolist() == (X * 2).tolist()
        assert engine("any", [-X]).tolist() == (-X * 3).tolist()
        assert engine("any", [X]).tolist() == (X * 2).tolist()
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "the step runs eagerly, as it cannot be traced"
    ]
    assert len(runs) == 4  # once in vain


@pytest.mark.parametrize("name", ["auto", "compiled"])
def test_what_cannot_be_compiled_runs_traced(
    name: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    def compile(function: Any, **options: Any) -> Any:
        def fail(*args: Any) -> Any:
            tries.append(1)
            raise RuntimeError("no compiler")

        return fail

    monkeypatch.setattr(torch, "compile", compile)
    program = Program()
    engine = Engine(program, engine=name)
    with caplog.at_level(logging.INFO, LOG):
        for _ in range(4):
            engine("any", [X])
    said = [record for record in caplog.records if "cannot be compiled: no compiler" in record.message]
    assert len(said) == len(tries) == 1 and program.runs == 1


def test_the_call_that_compiles_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the program writes to and the random state are as they were before the first real call."""
    fake_compile(monkeypatch)
    total, base = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    expanded = torch.ones(1, dtype=torch.float64).expand(3)

    def function(x: Tensor) -> Any:
        total.add_(x)
        base.mul_(2)
        return (torch.bernoulli(expanded / 2) * x).sum() * 0 + base.sum(), None

    engine = Engine(function, engine="compiled", bases=[base])
    torch.manual_seed(0)
    result, _ = engine("any", [X])
    assert float(result) == 6
    assert base.tolist() == [2, 2, 2] and torch.equal(total, X)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    torch.bernoulli(expanded / 2)
    assert torch.equal(torch.get_rng_state(), after)


def test_a_compiler_gets_functions_in_place_of_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """And only the compiler: what is traced or eager keeps the operation."""
    fake_compile(monkeypatch)
    seen = []

    def instead(x: Tensor) -> Tensor:
        seen.append(1)
        return x * 2

    lowered = {torch.ops.aten.sin.default: instead}
    for name, expected in (("eager", X.sin()), ("traced", X.sin()), ("compiled", X * 2)):
        engine = Engine(lambda x: x.sin() + 1, lowered=lowered, engine=name)  # type: ignore[arg-type]
        assert torch.equal(engine("any", [X]), expected + 1)
    assert len(seen) == 2  # of the call that compiles, and the real one


@needs_a_compiler
def test_compiled_for_real() -> None:
    """It equals the traced program, and no call but the first of a kind compiles anything."""
    program = Program()
    compiled, traced = Engine(program, engine="compiled"), Engine(program, engine="traced")
    torch._dynamo.reset()
    counters.clear()
    graphs = []
    for i in range(6):
        program.weight.add_(0.5)
        found = []
        for engine in (compiled, traced):
            torch.manual_seed(i)
            loss, (first, none) = engine("any", [X + i])
            found.append((loss.clone(), first.clone()))
            assert none is None
        torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-9)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs == [1] * 6 and compiled.compile_seconds > 0 == traced.compile_seconds
