"""The command line: `bnn-pyro fit digits` trains, prunes and reports."""

from bnn_pyro.cli.commands import app, main

__all__ = ["app", "main"]
