"""Calls of the command line, and a table to call it with."""

from pathlib import Path

import torch
from typer.testing import CliRunner

from bnn_pyro.cli import app


def call(*arguments: str) -> tuple[int, str, str]:
    """Return the exit code, stdout and stderr of a call."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def made_table(path: Path, rows: int = 80) -> None:
    x = torch.randn(rows, 2)
    lines = [f"{a:.4f},{b:.4f},{'yes' if a > 0 else 'no'},{a - b:.4f}" for a, b in x.tolist()]
    path.write_text("\n".join(["left,right,answer,price", *lines]))
