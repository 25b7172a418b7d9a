"""One contestant in a process of its own: seconds to its first step, peak memory, growth of memory over more steps.

    python benchmarks/alone.py mlp400-b128 ours --steps 20 --more 2000

Prints one line of JSON. `svi_step.py` runs this script; a process that has done other things would show their memory.
"""

import argparse
import gc
import importlib
import json
from pathlib import Path
from time import perf_counter
from typing import Any

import pyro
import timing
import torch
from contestants import CASES, CONTESTANTS

MIB = 2**20


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cases = {case.name: case for case in CASES}
    parser.add_argument("case", choices=cases)
    parser.add_argument("contestant", choices=CONTESTANTS)
    parser.add_argument("--steps", type=int, default=20, help="steps after which memory and time are read")
    parser.add_argument("--more", type=int, default=0, help="steps over which the growth of memory is measured")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    timing.prepare(options.threads)
    pyro.enable_validation(False)
    device = torch.device(options.device)
    batches = cases[options.case].batches(device)
    print(json.dumps(measured(options.contestant, cases[options.case], batches, device, options.steps, options.more)))


def measured(name: str, case: Any, batches: Any, device: torch.device, steps: int, more: int) -> dict[str, float]:
    """Return what a contestant costs, in seconds and MiB.

    Args:
        name: The contestant.
        case: The case.
        batches: Its batches.
        device: Where to train.
        steps: Steps after which time and memory are read.
        more: Steps over which the growth of memory is measured; 0 for none.
    """
    start = perf_counter()
    _import_lazily()
    imports = perf_counter() - start
    before = resident(device)
    start = perf_counter()
    step = CONTESTANTS[name](case, device)
    step(*batches[0])
    timing.wait(device)
    first = perf_counter() - start
    for i in range(steps):
        step(*batches[i % len(batches)])
    timing.wait(device)
    found = {"imports_s": imports, "first_step_s": first, "peak_mib": (peak(device) - before) / MIB}
    if more:
        gc.collect()
        settled = resident(device)
        for i in range(more):
            step(*batches[i % len(batches)])
        timing.wait(device)
        gc.collect()
        found["growth_mib"] = (resident(device) - settled) / MIB
    return found


def _import_lazily() -> None:
    """Imports what torch imports at the first use of an optimiser and of its compiler, the same for all contestants."""
    importlib.import_module("torch._inductor.compile_fx")
    weight = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.Adam([weight], fused=True)
    weight.square().backward()
    optimizer.step()


def resident(device: torch.device) -> int:
    """Return the bytes that this process holds on a device now.

    Args:
        device: The device.
    """
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else _status("VmRSS")


def peak(device: torch.device) -> int:
    """Return the most bytes that this process has held on a device.

    Args:
        device: The device.
    """
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM")


def _status(key: str) -> int:
    """Return a figure of Linux; `getrusage` would count what the parent process held when it started this one."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}")


if __name__ == "__main__":
    main()
