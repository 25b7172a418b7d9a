"""What the programs of a run cost where they are used: bytes of their files, and latency, side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

import torch
from torch import Tensor, nn

from bnn_pyro.evaluation.cost import measure_latency
from bnn_pyro.export import export_net

PROGRAM_BATCHES = (1, 256)
_REPEATS = 31


class ProgramCosts(TypedDict):
    """What programs cost, as JSON values, by the programs' names.

    Attributes:
        program_bytes: Size of the file ``.pt2``.
        program_latency_ms: Number of rows -> median milliseconds of one forward pass of so many rows, on the CPU.
    """

    program_bytes: dict[str, int]
    program_latency_ms: dict[str, dict[str, float]]


def program_costs(
    nets: Mapping[str, nn.Module], x: Tensor, *, batches: Sequence[int] = PROGRAM_BATCHES, repeats: int = _REPEATS
) -> ProgramCosts:
    """Measure networks as the programs that `bnn_pyro.export.export_net` writes of them.

    Each is exported to a temporary file and loaded again, as it is where it is used, and is timed on the CPU; all take
    turns, so that a change in the machine's load meets them alike. Networks that are timed as they are, on another
    device, or without the cost of a program's interpreter, have other latencies.

    Args:
        nets: Networks by name, such as ``ensemble`` (a `bnn_pyro.posterior.predictive_net.PredictiveNet`), ``pruned``
            and ``dense``; they are left alone.
        x: Inputs of all of them, shape ``(rows, *input_shape)``; rows are repeated where a batch needs more.
        batches: Numbers of rows to time.
        repeats: Timed passes of each.

    Returns:
        Bytes and latencies by name.

    Raises:
        ValueError: If there is no network or row, or a number of rows or passes is below 1.
    """
    if not nets or not batches or min(batches) < 1:
        raise ValueError(f"nets and batches must not be empty, nor batches below 1, got {len(nets)} nets, {batches}")
    with TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{number}.pt2" for number, name in enumerate(nets)}
        for name, net in nets.items():
            export_net(net, x[:1], files[name])
        sizes = {name: file.stat().st_size for name, file in files.items()}
        programs = {name: torch.export.load(file).module() for name, file in files.items()}
    rows = x.detach().cpu()
    times = {size: measure_latency(programs, rows[_numbers(size, len(x))], repeats=repeats) for size in batches}
    return {
        "program_bytes": sizes,
        "program_latency_ms": {
            str(size): {name: 1e3 * latency.median for name, latency in found.items()} for size, found in times.items()
        },
    }


def _numbers(size: int, rows: int) -> Tensor:
    """Return the numbers of a batch's rows, which are repeated if there are too few."""
    return torch.arange(size, device="cpu") % rows
