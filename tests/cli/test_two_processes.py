"""Two processes of torchrun, of which one is killed or asked to end, are resumed by the same command."""

import os
import re
import subprocess
import sys
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest
import torch

from tests import kills
from tests.cli import two_processes
from tests.cli.calls import made_table

ROOT = Path(__file__).resolve().parents[2]


def run(place: Path, out: str, rank: str = "", number: int = 0, *options: str) -> tuple[int, str]:
    """Return the exit code of torchrun, and the lines of the command on stderr, without torchrun's own."""
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--redirects",
        "3",
    ]
    logs = place / f"logs-{out}-{rank}"
    command = [*launch, "--log-dir", str(logs), "-m", two_processes.__name__, rank, str(number), *kills.TABLE]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--out", out, *options], cwd=place, env=environment, capture_output=True, text=True
    )
    written = "".join(path.read_text() for path in sorted(logs.rglob("stderr.log")))
    return done.returncode, "".join(re.findall(r"^(?:stopped|error|Traceback).*\n", written, flags=re.MULTILINE))


@pytest.mark.slow
def test_two_processes_are_resumed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made_table(tmp_path / "my.csv")
    assert run(tmp_path, "undisturbed") == (0, "")
    expected = kills.outcome(tmp_path / "undisturbed")
    for rank, number in (("0", SIGKILL), ("01", SIGTERM)):
        out = f"signal-{int(number)}-to-{rank}"
        code, lines = run(tmp_path, out, rank, number)
        assert code != 0 and lines.count("\n") <= 1 and "Traceback" not in lines, (out, lines)
        assert run(tmp_path, out, "", 0, "--resume") == (0, ""), out
        assert kills.outcome(tmp_path / out) == expected, out
