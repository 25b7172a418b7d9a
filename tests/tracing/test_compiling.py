"""FutureWarnings of the compiler's own code are left out, others are shown; programs go with their functions."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.potential import leapfrog
from bnn_pyro.tracing.compiling import compiling
from bnn_pyro.tracing.trace import trace

ROOT = Path(__file__).resolve().parents[2]


def warn(module: str, message: str = "soon gone") -> None:
    warnings.warn_explicit(message, FutureWarning, "file.py", 1, module)


def test_those_of_torch_are_left_out() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with compiling():
            warn("torch._inductor.lowering")
            warn("somewhere", "torch._prims_common.check is deprecated")
        assert not seen
        warn("torch._inductor.lowering")
        assert len(seen) == 1


def test_those_of_others_are_shown() -> None:
    with pytest.warns(FutureWarning, match="soon gone"), compiling():
        warn("a_users_model")


def test_a_program_is_compiled_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the compiler stands one that warns and returns the graph."""

    def compiler(graph: torch.fx.GraphModule, *_: object, **options: object) -> torch.fx.GraphModule:
        warn("torch._inductor.lowering")
        return graph

    monkeypatch.setattr(torch._inductor, "compile", compiler)
    x = torch.ones(3)

    def double(x: Tensor) -> Tensor:
        return 2 * x

    assert torch.equal(leapfrog.compiled(trace(double, x), x)(x), 2 * x)


PROGRAM = """
import builtins, gc, types, weakref, torch
from bnn_pyro.tracing.compiling import forgotten_with

def run():
    constant = torch.ones(2)
    def whole(x): return x + constant
    own = types.FunctionType(whole.__code__.replace(), {"__builtins__": builtins}, "own", None, whole.__closure__)
    forgotten_with(own)
    assert torch.compile(own, backend="eager", fullgraph=True)(torch.ones(2)).tolist() == [2, 2]
    return weakref.ref(own.__code__)

codes = [run() for _ in range(3)]
for _ in range(3):
    gc.collect()
print([code() is None for code in codes[1:]])
"""


def test_what_a_function_was_compiled_to_goes_with_it() -> None:
    """Torch keeps it otherwise; in a process of its own, as pytest keeps what torch logs. The first one may stay."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[True, True]\n", done.stderr
