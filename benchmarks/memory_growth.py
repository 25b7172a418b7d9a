"""How much memory a process has gained after many fits and samplings: a search makes a thousand of them.

    python benchmarks/memory_growth.py --calls 50
    python benchmarks/memory_growth.py --calls 50 --ways fit-compiled

Each way of calling is called a few times first, as libraries load and caches fill then, and then `--calls` times. What
the process has in memory is read from `/proc/self/statm` after the garbage collector, before and after these calls. A
process has no other way before its own. The network and its data are small, and the data differ from call to call: what
was compiled is used again.
"""

import gc
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import timing
import torch

from bnn_pyro import (
    Compute,
    Gaussian,
    GaussianNoise,
    SamplingPlan,
    SparseNetwork,
    SpikeSlab,
    fit,
    sample,
)
from bnn_pyro.networks import mlp
from bnn_pyro.reports.markdown import markdown_table

MB = 1e6
FIRST = 15  # calls before memory is read for the first time: the heap settles within about 12


def model_and_data(call: int) -> tuple[SparseNetwork, tuple[torch.Tensor, torch.Tensor]]:
    """Return a new network, and data of its own.

    Args:
        call: Number of the call.
    """
    generator = torch.Generator().manual_seed(call)
    x = torch.randn(60, 4, generator=generator)
    prior = SpikeSlab(Gaussian(), inclusion=0.3)
    model = SparseNetwork(mlp(4, (6,), 1), x[:2], prior=prior, likelihood=GaussianNoise(), num_data=len(x))
    return model, (x, x[:, 0] - x[:, 1])


def fitted(engine: str, call: int) -> None:
    """Fit a network.

    Args:
        engine: How the steps are made.
        call: Number of the call.
    """
    model, data = model_and_data(call)
    compute = Compute(engine=engine)  # type: ignore[arg-type]
    fit(model, data, epochs=2, batch_size=20, compute=compute, seed=call, progress=False)


def sampled(engine: str, call: int) -> None:
    """Sample a network.

    Args:
        engine: How the gradients are computed.
        call: Number of the call.
    """
    model, data = model_and_data(call)
    plan = SamplingPlan(kernel="chees", chains=2, warmup=4, draws=4, max_tree_depth=3)
    logging.disable(logging.WARNING)  # so few draws are not enough, as they say
    sample(model, data, plan, engine=engine, seed=call, progress=False)  # type: ignore[arg-type, call-overload]


WAYS: dict[str, Callable[[int], None]] = {
    "fit-traced": lambda call: fitted("traced", call),
    "fit-compiled": lambda call: fitted("compiled", call),
    "sample-traced": lambda call: sampled("traced", call),
    "sample-compiled": lambda call: sampled("compiled", call),
    "sample": lambda call: sampled("auto", call),
}


def resident() -> int:
    """Return how many bytes of the process are in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def growth(way: str, calls: int) -> dict[str, float]:
    """Return what a process gains, in MB.

    Args:
        way: What is called.
        calls: How many times.
    """
    for call in range(FIRST):
        WAYS[way](call)
    before = resident()
    between = before
    for call in range(calls):
        WAYS[way](FIRST + call)
        if call == calls // 2:
            between = resident()
    after = resident()
    return {"first": before / MB, "first_half": (between - before) / MB, "growth": (after - before) / MB}


def main() -> None:
    """Measure each way in a process of its own, print a table and write the rows; those of other ways stay."""
    parsed = timing.parser(__doc__, "memory_growth")
    parsed.add_argument("--calls", type=int, default=50)
    parsed.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parsed.add_argument("--alone", action="store_true", help="measure the one way in this process, and print JSON")
    given = parsed.parse_args()
    calls = 2 if given.quick else given.calls
    timing.prepare(given.threads)
    if given.alone:
        print(json.dumps(growth(given.ways[0], calls)))
        return
    rows = [row for row in timing.read(given.out) if row["way"] not in given.ways]
    own = [sys.executable, __file__, "--alone", "--calls", str(calls), "--threads", str(given.threads)]
    for way in given.ways:
        done = subprocess.run([*own, "--ways", way], stdout=subprocess.PIPE, text=True, check=True)
        rows.append({"way": way, "calls": calls, **json.loads(done.stdout), **timing.origin(threads=given.threads)})
    numbers = ("first", "first_half", "growth")
    cells = [(f"{row['calls']} x {row['way']}", *(f"{row[name]:.1f}" for name in numbers)) for row in rows]
    print(markdown_table(("calls", "first MB", "growth over the first half", "growth over all"), cells))
    timing.write(given.out, rows, {})


if __name__ == "__main__":
    main()
