"""A command in each of several processes, one of which gets a signal; the test of the same concept starts it."""

import os
import sys

import torch

from bnn_pyro.cli import app
from bnn_pyro.inference.svi.training_run import TrainingRun
from bnn_pyro.reports import claim
from tests.kills import set_trap


def main(rank: str, number: int, *arguments: str) -> None:
    """Run a command line; a signal comes in the fourth epoch of inference.

    Args:
        rank: The processes that the signal comes to, such as 0 or 01; empty for none.
        number: The signal's number.
        arguments: The command line.
    """
    torch.set_num_threads(1)
    claim.SAVED_AFTER = 0.0
    if os.environ["RANK"] in rank:
        set_trap(TrainingRun, "_epoch", 4, number)
    app(list(arguments))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
