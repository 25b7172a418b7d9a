"""What a step costs: ours, plain training of the same dense net, Pyro's own SVI, a hand-written loop, and the peers.

    python benchmarks/svi_step.py
    python benchmarks/svi_step.py --quick --cases small --parts steps

All contestants of a case take turns in one process; ratios are those of medians. A part that is not asked for keeps the
rows of its last run. The parts: `steps` are the timings,
`alone` is the time to the first step (compiling, with an empty cache and with a full one, imports left out) and memory,
each contestant in a process of its own, `scaling` is how the cost grows with width, depth, batch and draws.
`handwritten` samples weights or draws outputs as ours does at that batch size; both of its ways are there too.
"""

import json
import os
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import pyro
import timing
import torch
from contestants import CASES, CONTESTANTS, Case, draws_outputs
from same_bound import check_same_bound

from bnn_pyro.reports.markdown import markdown_table

PARTS = ("steps", "alone", "scaling")
COMPILED = ("ours", "ours-compiled", "deterministic-compiled")
GROWING = ("ours", "pyro-tracemeanfield", "handwritten", "deterministic-eager")
MEASURES = {
    "imports_s": ("importing torch's compiler", "s"),
    "first_step_s": ("time to the first step", "s"),
    "peak_mib": ("peak memory", "MiB"),
    "growth_mib": ("growth of memory", "MiB"),
}
BASE = Case("base")
SWEEPS: dict[str, tuple[str, list[tuple[float, Case]]]] = {
    "width": ("width of the two hidden layers", [(w, replace(BASE, hidden=(w, w))) for w in (50, 100, 200, 400, 800)]),
    "depth": ("hidden layers of 400", [(d, replace(BASE, hidden=(400,) * d)) for d in (1, 2, 4, 8)]),
    "batch": ("batch size", [(b, replace(BASE, batch=b)) for b in (32, 128, 512, 2048)]),
    "draws": ("draws a step", [(d, replace(BASE, draws=d)) for d in (1, 2, 4, 8)]),
}


def main() -> None:
    """Run the parts that the command line asks for; print the tables, write the JSON and the pictures."""
    options = _options()
    timing.prepare(options.threads)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    pyro.enable_validation(False)
    agreement = check_same_bound()
    print(agreement, flush=True)
    rows = _of_other_parts(options)
    for part in options.parts:
        rows += {"steps": _steps, "alone": _alone, "scaling": _scaling}[part](options)
    steps = [row for row in rows if row["measure"] == "step"]
    timing.write(options.out, rows, timing.ratios_of(steps), agreement=agreement, device=options.device)


def _of_other_parts(options: Namespace) -> list[timing.Row]:
    """Return the rows of the parts that are not run now, from the last run."""
    if not options.out.exists():
        return []
    parts = {"step": "steps", "scaling": "scaling"}
    rows = json.loads(options.out.read_text(encoding="utf-8"))["rows"]
    return [row for row in rows if parts.get(row["measure"], "alone") not in options.parts]


def _options() -> Namespace:
    parser = timing.parser(__doc__, "svi_step")
    names = [case.name for case in CASES]
    parser.add_argument("--cases", nargs="+", default=names, choices=names)
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--rounds", type=int, default=30, help="turns of each contestant")
    parser.add_argument("--repeats", type=int, default=5, help="timed steps a turn")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.repeats = min(options.rounds, 3), 2
    return options


# ---- timings ---------------------------------------------------------------------------------------------------------


def _steps(options: Namespace) -> list[timing.Row]:
    rows: list[timing.Row] = []
    for case in (case for case in CASES if case.name in options.cases):
        found = step_rows(case, options.contestants, options)
        print(timing.table(found), flush=True)
        estimator = "outputs" if draws_outputs(case) else "weights"
        rows += [{**row, "measure": "step", "ours_draws": estimator} for row in found]
    return rows


def step_rows(case: Case, names: Sequence[str], options: Namespace) -> list[timing.Row]:
    """Time the steps of some contestants side by side.

    Args:
        case: The case.
        names: The contestants; one that does not run has a row that says why.
        options: The command line's.

    Returns:
        A row a contestant.
    """
    device = torch.device(options.device)
    calls: dict[str, timing.Call] = {}
    failed: list[timing.Row] = []
    for name in names:
        try:
            calls[name] = _warm(CONTESTANTS[name](case, device), case, device)
        except Exception as error:  # another package's, or one that this torch no longer runs
            reason = (str(error).splitlines() or [""])[0][:200]
            failed.append({"case": case.name, "contestant": name, "error": f"{type(error).__name__}: {reason}"})
    seconds = timing.interleaved(calls, rounds=options.rounds, repeats=options.repeats, device=device)
    return timing.timed_rows(case.name, seconds) + failed


def _warm(step: Callable[..., object], case: Case, device: torch.device, steps: int = 5) -> timing.Call:
    """Return a call that makes a step on the next batch, after a few that compile what is to be compiled."""
    batches = cycle(case.batches(device))

    def call() -> object:
        return step(*next(batches))

    for _ in range(steps):
        call()
    return call


# ---- each in a process of its own ------------------------------------------------------------------------------------


def _alone(options: Namespace) -> list[timing.Row]:
    rows: list[timing.Row] = []
    for case in options.cases:
        for name in options.contestants:
            rows += list(_alone_rows(case, name, options))
    print(_alone_table(rows), flush=True)
    return rows


def _alone_rows(case: str, name: str, options: Namespace) -> Iterator[timing.Row]:
    """Yield the rows of one contestant; what compiles starts twice, with an empty cache and with that of the first."""
    more = (50 if options.quick else 2000) if name in GROWING else 0
    with tempfile.TemporaryDirectory() as folder:
        for cache in ("empty", "full") if name in COMPILED else ("empty",):
            found = _run_alone(case, name, options, folder, more if cache == "empty" else 0)
            for key, value in found.items():
                measure, unit = MEASURES[key]
                row: timing.Row = {"case": case, "contestant": name, "measure": measure, "cache": cache, "unit": unit}
                if key == "growth_mib":
                    row["steps"] = more
                if cache == "empty" or key.endswith("_s"):
                    yield {**row, "min": value, "median": value, "max": value, "runs": 1}


def _run_alone(case: str, name: str, options: Namespace, cache: str, more: int) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__).with_name("alone.py")), case, name, "--more", str(more)]
    command += ["--device", options.device, "--threads", str(options.threads)]
    caches = {"TORCHINDUCTOR_CACHE_DIR": cache, "TRITON_CACHE_DIR": str(Path(cache) / "triton")}
    done = subprocess.run(command, env={**os.environ, **caches}, capture_output=True, text=True, check=False)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
    return found


def _alone_table(rows: Sequence[timing.Row]) -> str:
    lines = []
    for case, name in dict.fromkeys((row["case"], row["contestant"]) for row in rows):
        some = [row for row in rows if (row["case"], row["contestant"]) == (case, name)]
        by = {(row["measure"], row["cache"]): f"{row['median']:.2f} {row['unit']}" for row in some}
        by.update({(row["measure"], "steps"): f" in {row['steps']} steps" for row in some if "steps" in row})
        cells = [by.get((MEASURES["first_step_s"][0], cache), "") for cache in ("empty", "full")]
        cells.append(by.get((MEASURES["peak_mib"][0], "empty"), ""))
        growth = MEASURES["growth_mib"][0]
        cells.append(by.get((growth, "empty"), "") + by.get((growth, "steps"), ""))
        lines.append((case, name, *cells))
    return "\n" + markdown_table(("case", "contestant", "first step", "from the cache", "peak memory", "growth"), lines)


# ---- how cost grows --------------------------------------------------------------------------------------------------


def _scaling(options: Namespace) -> list[timing.Row]:
    rows: list[timing.Row] = []
    names = [name for name in GROWING if name in options.contestants]
    fewer = Namespace(**{**vars(options), "rounds": max(3, options.rounds // 4), "repeats": 3})
    for sweep, (label, points) in SWEEPS.items():
        some: list[dict[str, Any]] = []
        for value, case in points[:2] if options.quick else points:
            found = step_rows(replace(case, name=f"{sweep}-{value:g}"), names, fewer)
            some += [{**row, "measure": "scaling", sweep: value} for row in found]
        print(timing.table(some), flush=True)
        _plot(sweep, label, some, options.out)
        rows += some
    return rows


def _plot(sweep: str, label: str, rows: Sequence[timing.Row], out: Path) -> None:
    lines = {}
    for name in dict.fromkeys(row["contestant"] for row in rows if "median" in row):
        some = [row for row in rows if row["contestant"] == name and "median" in row]
        lines[name] = ([row[sweep] for row in some], [row["median"] for row in some])
    figure, (axes,) = timing.figure(f"A step's cost, by {label}")
    timing.curves(axes, lines, label)
    axes.set_ylabel("milliseconds a step")
    axes.legend(frameon=False, fontsize="small")
    figure.savefig(out.with_name(f"{out.stem}-{sweep}.png"))


if __name__ == "__main__":
    main()
