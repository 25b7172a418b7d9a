"""Runs that are killed on their way; the test of kills starts this program, and resumes what it leaves."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM
from typing import Any

import torch
from torch import nn

from bnn_pyro import Categorical, Gaussian, GaussianNoise, GroupEM, OneShot, SparseNetwork, SpikeSlab
from bnn_pyro import fit as fit_by_svi
from bnn_pyro.cli import app
from bnn_pyro.inference.checkpoint import EpochFile
from bnn_pyro.inference.sgmcmc.fit import fit_sghmc
from bnn_pyro.inference.svi.checkpoint import RunFile
from bnn_pyro.inference.svi.training_run import TrainingRun
from bnn_pyro.inference.training import dense
from bnn_pyro.networks import mlp
from bnn_pyro.recipes import runs
from bnn_pyro.reports import claim, folder

State = dict[str, Any]
PLAN = OneShot(cycles=2, em=GroupEM(spike=0.1, hard=3e-3, warmup=3))
TABLE = ["fit", "my.csv", "--hidden", "5", "--prior", "ss-ig", "--epochs", "6", "--quick"]


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(3))
    return x, x[:, 0] - x[:, 1]


def network(num_data: int = 60) -> SparseNetwork:
    torch.manual_seed(1)
    prior = SpikeSlab(Gaussian(), inclusion=0.3)
    return SparseNetwork(mlp(4, (6,), 1), rows()[0][:2], prior=prior, likelihood=GaussianNoise(), num_data=num_data)


def by_svi(path: Path | None) -> State:
    posterior = fit_by_svi(network(), rows(), epochs=6, batch_size=20, seed=0, checkpoint=path, progress=False)
    return dict(posterior.guide.state_dict())


def by_sghmc(path: Path | None) -> State:
    posterior = fit_sghmc(network(), rows(), PLAN, epochs=8, batch_size=20, seed=0, checkpoint=path, progress=False)
    return dict(posterior.model.net.state_dict())


def by_adam(path: Path | None) -> State:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 2))
    data = rows()[0], (rows()[1] > 0).long()
    options: Any = {"likelihood": Categorical(), "epochs": 6, "batch_size": 20, "seed": 0, "progress": False}
    return dict(dense.train_dense(net, data, checkpoint=path, **options).state_dict())


def command(path: Path) -> None:
    """Run the command line in a folder that has the table."""
    os.chdir(path)
    claim.SAVED_AFTER = 0.0
    app(TABLE)


RUNS: dict[str, Callable[[Path], object]] = {
    "svi": lambda path: by_svi(path / "run.pt"),
    "sghmc": lambda path: by_sghmc(path / "run.pt"),
    "dense": lambda path: by_adam(path / "run.pt"),
    "command": command,
}

# name -> what is run, what is replaced by a trap, at which of its calls it snaps, and by which signal
TRAPS: dict[str, tuple[str, object, str, int, int]] = {
    "svi": ("svi", RunFile, "write", 4, SIGKILL),
    "svi-within-a-write": ("svi", torch, "save", 3, SIGKILL),
    "sghmc": ("sghmc", EpochFile, "write", 5, SIGKILL),
    "sghmc-early": ("sghmc", EpochFile, "write", 3, SIGKILL),
    "dense": ("dense", EpochFile, "write", 3, SIGKILL),
    "dense-at-the-end": ("dense", dense._BestEpoch, "restore", 1, SIGKILL),
    "command-dense": ("command", dense._Training, "_epoch", 3, SIGKILL),
    "command-fit-terminated": ("command", TrainingRun, "_epoch", 4, SIGTERM),
    "command-fit-interrupted": ("command", TrainingRun, "_epoch", 3, SIGINT),
    "command-networks": ("command", runs, "write_networks", 1, SIGKILL),
    "command-report": ("command", folder, "write_page", 1, SIGKILL),
}


def set_trap(owner: Any, name: str, at: int, number: int) -> None:
    """Replace a function by one that sends a signal to its own process at one of its calls."""
    before, calls = getattr(owner, name), [0]

    def trapped(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            if owner is torch:
                args[1].write(b"half of it")
            os.kill(os.getpid(), number)
        return before(*args, **options)

    setattr(owner, name, trapped)


def main(place: Path, names: list[str]) -> None:
    """Start each run in a process of its own, and note how it has ended."""
    torch.set_num_threads(1)
    codes = {}
    for name in names:
        what, owner, attribute, at, number = TRAPS[name]
        child = os.fork()
        if not child:
            error = os.open(place / name / "stderr", os.O_CREAT | os.O_WRONLY)
            os.dup2(error, 2)
            set_trap(owner, attribute, at, number)
            RUNS[what](place / name)
            os._exit(0)
        codes[name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    (place / "codes.json").write_text(json.dumps(codes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
