"""What each pass over a traced program is worth: the program with it and without it, side by side.

    python benchmarks/traced_programs.py --data-dir DATA
    python benchmarks/traced_programs.py --data-dir DATA --quick --cases yacht-10 --parts leapfrog

`leapfrog` times compiled trajectories on the posteriors of `samplers.py`. Of one chain each step is a call, and small
products of matrices are sums, without which it is `no-sums`; of a batch there is a compiled loop around the step,
without which it is `no-loop`, and products are products, in whose place `sums` has sums. `simplify` times the steps of
`fit`, traced and compiled, and traced leapfrog steps: without the pass that drops what changes nothing (`no-drop`),
without those of its rules that are about numbers (log of exp, multiplying by 1, adding 0; `no-rules`), and with no
simplification at all (`none`); `nodes` is what is left of the largest graph. `interpreter` runs the same traced
programs as an fx graph (`fx`).

All contestants of a case take turns in one process, on one thread, and ratios are those of medians, more being better
for what we do (`ours`). Seconds are those of the processor that the process had, as others use the machine. A part
that is not asked for keeps the rows of its last run, whose commit, versions and settings each row has.
"""

import json
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyro
import timing
import torch
from contestants import CASES as STEPS
from contestants import ours as fit_step
from sampler_contestants import Case
from samplers import CASES
from torch import Tensor, fx

from bnn_pyro.inference.mcmc.potential import leapfrog
from bnn_pyro.inference.mcmc.potential import potential as potentials
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.tracing import simplify, trace
from bnn_pyro.tracing.small_matmuls import products_as_sums

PARTS = ("leapfrog", "simplify", "interpreter")
CHAINS, LENGTHS = (1, 4, 16, 64), (16, 64)
Patches = Sequence[tuple[object, str, Any]]


def main() -> None:
    """Run the parts that the command line asks for; print the tables and write the JSON."""
    options = _options()
    timing.prepare(options.threads)
    pyro.enable_validation(False)
    rows, origin = _of_other_parts(options), timing.origin(rounds=options.rounds, threads=options.threads)
    parts = {"leapfrog": _leapfrog, "simplify": _simplify, "interpreter": _interpreter}
    for part in options.parts:
        for found in parts[part](options):
            print(timing.table(found), flush=True)
            rows += [{**row, "part": part, **origin} for row in found]
    timing.write(options.out, rows, timing.ratios_of(rows), clock="processor seconds of the process")


def _options() -> Namespace:
    parser = timing.parser(__doc__, "traced_programs")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES, help="of the leapfrog steps")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--rounds", type=int, default=15, help="turns of each contestant")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 3
    return options


def _of_other_parts(options: Namespace) -> list[timing.Row]:
    if not options.out.exists():
        return []
    rows = json.loads(options.out.read_text(encoding="utf-8"))["rows"]
    return [row for row in rows if row["part"] not in options.parts]


@contextmanager
def _patched(patches: Patches) -> Iterator[None]:
    """Replace functions while programs are made."""
    made = [patch.object(*each) for each in patches]
    for each in made:
        each.start()
    try:
        yield
    finally:
        for each in made:
            each.stop()


def _timed(case: str, calls: dict[str, timing.Call], options: Namespace, *, per: int = 1) -> list[timing.Row]:
    """Return a row a contestant, of some milliseconds a turn."""
    each = max(timing.timed(call, repeats=2, clock=time.process_time) for call in calls.values())
    repeats = max(2, min(200, round(0.02 / max(each, 1e-6))))
    seconds = timing.interleaved(calls, rounds=options.rounds, repeats=repeats, clock=time.process_time)
    return timing.timed_rows(case, {name: [value / per for value in values] for name, values in seconds.items()})


# ---- compiled leapfrog steps -----------------------------------------------------------------------------------------


def _potential(case: Case, *, compiled: bool) -> Potential:
    x, y, _ = case.rows()
    return Potential(noncentered(case.network()), x, y, compiled=compiled)


def _trajectories(potential: Potential, chains: int, steps: int) -> timing.Call:
    """Return a call that moves all chains, block by block as `sample` does; what it needs is compiled."""
    torch.manual_seed(0)
    position = 0.1 * torch.randn(potential.size, chains)
    stride = torch.full((potential.size, 1), 1e-4)
    if chains == 1:
        position, stride = position[:, 0], stride[:, 0]
    potential.value_and_gradient(position.t())
    zero = torch.zeros_like(position)
    blocks = [(position, zero, zero)]
    if chains > 1:
        size = potential.block(chains)
        blocks = [(part.contiguous(), zero[:, :size], zero[:, :size]) for part in position.split(size, 1)]
        blocks = [(q, p.contiguous(), slope.contiguous()) for q, p, slope in blocks]

    def call() -> None:
        for block in blocks:
            potential.leapfrog(*block, stride, steps)

    call()
    return call


def _loop_of_sums(loop: Callable[..., Any], traced: trace.Traced, *inputs: Tensor) -> Callable[..., Any]:
    graph = products_as_sums(traced.graph, [*inputs, *traced.live])
    return loop(replace(traced, graph=graph), *inputs)  # type: ignore[no-any-return]


ONE_CHAIN: dict[str, Patches] = {
    "ours": [],
    "no-sums": [(leapfrog, "products_as_sums", lambda graph, inputs: graph)],
}
BATCH: dict[str, Patches] = {
    "ours": [],
    "sums": [(leapfrog, "_loop", partial(_loop_of_sums, leapfrog._loop))],
    "no-loop": [
        (potentials, "compiled_loop", lambda traced, *inputs: leapfrog.repeated(leapfrog.compiled(traced, *inputs)))
    ],
}


def _leapfrog(options: Namespace) -> Iterator[list[timing.Row]]:
    for name in options.cases:
        case = Case(name, *CASES[name], options.data_dir)
        for chains in CHAINS[:2] if options.quick else CHAINS:
            made: dict[str, Callable[[int], timing.Call]] = {}
            for contestant, patches in (ONE_CHAIN if chains == 1 else BATCH).items():
                potential = _potential(case, compiled=True)
                with _patched(patches):
                    _trajectories(potential, chains, 2)
                made[contestant] = partial(_trajectories, potential, chains)
            for steps in LENGTHS if chains > 1 else LENGTHS[:1]:
                calls = {contestant: make(steps) for contestant, make in made.items()}
                label = f"{name} {chains} chains {steps} steps"
                rows = _timed(label, calls, options, per=steps)
                yield [{**row, "measure": "leapfrog step", "chains": chains, "steps": steps} for row in rows]


# ---- traced programs -------------------------------------------------------------------------------------------------


def _only_identities(module: fx.GraphModule, node: Any) -> Any:
    return node.args[0] if node.target in simplify._SAME | simplify._COPIES else None


SIMPLIFICATIONS: dict[str, Patches] = {
    "ours": [],
    "no-rules": [(simplify, "_unchanged", _only_identities)],
    "no-drop": [(simplify, "_drop", lambda module, written: None)],
    "none": [(simplify, name, lambda *given: None) for name in ("_drop", "_merge", "_fold")],
}
INTERPRETERS: dict[str, Patches] = {"ours": [], "fx": [(trace, "interpreter", lambda graph, arguments: graph)]}
Program = Callable[[], timing.Call]


def _simplify(options: Namespace) -> Iterator[list[timing.Row]]:
    for engine in ("traced", "compiled"):
        for label, program in _programs(options, engine).items():
            yield _compared(f"{label} {engine}", program, SIMPLIFICATIONS, options)


def _interpreter(options: Namespace) -> Iterator[list[timing.Row]]:
    for label, program in _programs(options, "traced").items():
        yield _compared(f"{label} interpreted", program, INTERPRETERS, options)


def _programs(options: Namespace, engine: str) -> dict[str, Program]:
    """Return the steps of `fit`, and leapfrog steps where they are traced; those that are compiled have a part."""
    steps = [case for case in STEPS if case.batch <= 128]
    found: dict[str, Program] = {f"svi {case.name}": partial(_svi, case, engine) for case in steps}
    if engine == "traced":
        for name in options.cases[:1]:
            case = Case(name, *CASES[name], options.data_dir)
            found |= {f"leapfrog {name} {n} chains": partial(_traced_leapfrog, case, n) for n in (1, 16)}
    return found


def _svi(case: Any, engine: Any) -> timing.Call:
    device = torch.device("cpu")
    step = fit_step(case, device, engine=engine)
    ((x, y),) = case.batches(device, count=1)
    for _ in range(3):
        step(x, y)
    return lambda: step(x, y)


def _traced_leapfrog(case: Case, chains: int) -> timing.Call:
    return _trajectories(_potential(case, compiled=False), chains, 1)


def _compared(label: str, program: Program, contestants: dict[str, Patches], options: Namespace) -> list[timing.Row]:
    calls: dict[str, timing.Call] = {}
    nodes: dict[str, int] = {}
    for contestant, patches in contestants.items():
        sizes: list[int] = []
        with _patched([*patches, (trace, "simplify", partial(_counted, sizes))]):
            calls[contestant] = program()
        nodes[contestant] = max(sizes)
    return [{**row, "measure": "step", "nodes": nodes[row["contestant"]]} for row in _timed(label, calls, options)]


def _counted(sizes: list[int], module: fx.GraphModule) -> None:
    simplify.simplify(module)
    sizes.append(sum(node.op == "call_function" for node in module.graph.nodes))


if __name__ == "__main__":
    main()
