"""What the scripts that time something share: side-by-side timing, the machine, tables, JSON files.

Times on a machine that others use are worth little one by one. Here all contestants take turns in one process, a few
calls each in an order that is new every round, so that what slows one down slows the others too; what is reported is
the ratio of medians.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import random
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from results_file import write_whole

from bnn_pyro.reports.figures import COLORS, MARKERS, new_figure, style_axes
from bnn_pyro.reports.markdown import markdown_table

Row = dict[str, Any]
Call = Callable[[], object]
Clock = Callable[[], float]

RESULTS = Path(__file__).parent / "results"
UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6}


# ---- timing ----------------------------------------------------------------------------------------------------------


def interleaved(
    calls: Mapping[str, Call],
    *,
    rounds: int,
    repeats: int,
    device: torch.device | str = "cpu",
    clock: Clock = perf_counter,
) -> dict[str, list[float]]:
    """Time contestants side by side.

    Args:
        calls: Contestant -> what it does; compiled and warm.
        rounds: How often each contestant has its turn.
        repeats: Timed calls a turn; one that is not timed goes before them, as the others have emptied the caches.
        device: Where they run; a CUDA device is waited for before the clock is read.
        clock: What to read.

    Returns:
        Contestant -> seconds a call, one entry a turn.
    """
    order, chance = list(calls), random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        chance.shuffle(order)
        for name in order:
            seconds[name].append(timed(calls[name], repeats=repeats, device=device, clock=clock))
    return seconds


def timed(call: Call, *, repeats: int, device: torch.device | str = "cpu", clock: Clock = perf_counter) -> float:
    """Return the seconds a call takes, averaged over ``repeats`` calls after one that is not timed.

    Args:
        call: What to time.
        repeats: Timed calls.
        device: Where it runs.
        clock: What to read.
    """
    call()
    wait(device)
    start = clock()
    for _ in range(repeats):
        call()
    wait(device)
    return (clock() - start) / repeats


def wait(device: torch.device | str) -> None:
    """Wait for what a CUDA device has been given to do.

    Args:
        device: The device; on a CPU there is nothing to wait for.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


# ---- rows and ratios -------------------------------------------------------------------------------------------------


def summary(values: Sequence[float], *, unit: str = "ms") -> Row:
    """Return minimum, median, maximum and number of some seconds, in a unit.

    Args:
        values: Seconds.
        unit: One of `UNITS`.
    """
    scaled = [value * UNITS[unit] for value in values]
    return {"min": min(scaled), "median": median(scaled), "max": max(scaled), "runs": len(scaled), "unit": unit}


def timed_rows(case: str, seconds: Mapping[str, Sequence[float]], *, unit: str = "ms") -> list[Row]:
    """Return a row for each contestant of a case.

    Args:
        case: The case's name.
        seconds: Contestant -> seconds a call.
        unit: One of `UNITS`.
    """
    return [{"case": case, "contestant": name, **summary(values, unit=unit)} for name, values in seconds.items()]


def ratios_of(rows: Iterable[Row], ours: str = "ours") -> dict[str, float]:
    """Return ``<case>/<baseline>`` -> the baseline's median over ours: more is better.

    Args:
        rows: Timed rows, all of one measure.
        ours: The contestant that all others are compared with.
    """
    medians = {(row["case"], row["contestant"]): row["median"] for row in rows if "median" in row}
    return {
        f"{case}/{name}": value / medians[case, ours]
        for (case, name), value in medians.items()
        if name != ours and (case, ours) in medians
    }


def table(rows: Sequence[Row], ours: str = "ours") -> str:
    """Return timed rows as a Markdown table, case by case.

    Args:
        rows: The rows; those with an ``error`` say so.
        ours: The contestant that all others are compared with.
    """
    ratios = ratios_of(rows, ours)
    lines = []
    for row in rows:
        if "error" in row:
            cells = ["does not run: " + row["error"], "", "", ""]
        else:
            ratio = ratios.get(f"{row['case']}/{row['contestant']}", 1.0 if row["contestant"] == ours else None)
            cells = [f"{row[key]:.3g} {row['unit']}" for key in ("median", "min", "max")]
            cells.append("" if ratio is None else f"{ratio:.3g}")
        lines.append((row["case"], row["contestant"], *cells))
    return markdown_table(("case", "contestant", "median", "min", "max", f"times {ours}"), lines)


# ---- the file --------------------------------------------------------------------------------------------------------


def read(path: Path) -> list[Row]:
    """Return the rows of a script's results; none where there is no file yet.

    Args:
        path: The JSON file.
    """
    found: list[Row] = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    return found


def write(path: Path, rows: Sequence[Row], ratios: Mapping[str, float], **more: Any) -> None:
    """Write a script's results, whole or not at all.

    Args:
        path: The JSON file.
        rows: All timings.
        ratios: ``<case>/<baseline>`` -> ratio.
        **more: What else to say, before the rows.
    """
    rounded = {name: float(f"{value:.4g}") for name, value in ratios.items()}
    content = {"machine": machine(), "versions": versions(), **more, "ratios": rounded, "rows": list(rows)}
    write_whole(path, content)


def machine() -> dict[str, Any]:
    """Return what the timings were made on: nothing that names a host."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "machine": platform.machine(),
        "gpu": gpu,
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def versions() -> dict[str, str]:
    """Return the versions of Python and of the distributions that are timed, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in ("torch", "pyro-ppl", "numpyro", "jax", "bayesian-torch", "torchbnn", "blitz-bayesian-pytorch"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def origin(**settings: Any) -> Row:
    """Return what a row says of where it comes from: the commit, the versions and the settings.

    Args:
        **settings: Those of the run.
    """
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return {"commit": commit, "versions": versions(), "settings": settings}


# ---- command lines and pictures --------------------------------------------------------------------------------------


def parser(doc: str | None, name: str) -> argparse.ArgumentParser:
    """Return a command line with the options that all timing scripts have.

    Args:
        doc: The script's docstring.
        name: Name of the script's results, without suffix.
    """
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--device", default="cpu", help="cpu or cuda")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--quick", action="store_true", help="a smoke run: a few calls of everything small")
    made.add_argument("--out", type=Path, default=RESULTS / f"{name}.json", help="pictures stand beside it")
    return made


def prepare(threads: int) -> None:
    """Set up this process for timing: so many threads, and no denormal numbers, which are slow.

    Args:
        threads: Number of threads of torch.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


def curves(axes: Axes, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], xlabel: str) -> None:
    """Draw times over what they grow with, both on logarithmic axes.

    Args:
        axes: Where to draw.
        lines: Contestant -> (x, times), the same contestants in the same order in every picture of a script.
        xlabel: What x is.
    """
    for (name, (x, y)), color, marker in zip(lines.items(), COLORS, MARKERS, strict=False):
        axes.plot(x, y, color=color, marker=marker, markersize=4, linewidth=1.4, label=name)
    ticks = sorted({value for x, _ in lines.values() for value in x})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(xlabel)
    style_axes(axes)


def figure(title: str, *, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """Return an empty picture and its axes, side by side.

    Args:
        title: What it shows.
        panels: Number of axes.
    """
    made = new_figure(5.2 * panels, 3.7)
    made.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize="medium")
    return made, list(made.subplots(1, panels, squeeze=False)[0])
