"""Runs that are killed on their way; the test of kills starts this program, and resumes what it leaves."""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from bnn_pyro import (
    Categorical,
    Checkpoint,
    Gaussian,
    GaussianNoise,
    GroupEM,
    OneShot,
    SamplingPlan,
    SparseNetwork,
    SpikeSlab,
    sample,
)
from bnn_pyro import fit as fit_by_svi
from bnn_pyro.cli import app
from bnn_pyro.inference.checkpoint import EpochFile
from bnn_pyro.inference.mcmc.checkpoint import RunFile as ChainFile
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
COMMANDS = {
    "command": TABLE,
    "command-sghmc": [*TABLE, "--method", "sghmc"],
    "command-path": ["path", "my.csv", "--hidden", "5", "--prior", "ss-ig", "--epochs", "4", "--kl-weights", ".3,1"],
}
CHEES = SamplingPlan(kernel="chees", chains=2, warmup=20, draws=40, max_tree_depth=3)
NUTS = SamplingPlan(kernel="nuts", chains=2, warmup=20, draws=40, max_tree_depth=3)


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(3))
    return x, x[:, 0] - x[:, 1]


def network(num_data: int = 60) -> SparseNetwork:
    torch.manual_seed(1)
    prior = SpikeSlab(Gaussian(), inclusion=0.3)
    return SparseNetwork(mlp(4, (6,), 1), rows()[0][:2], prior=prior, likelihood=GaussianNoise(), num_data=num_data)


def by_svi(path: Path | None) -> State:
    posterior = fit_by_svi(network(), rows(), epochs=12, batch_size=20, seed=0, checkpoint=path, progress=False)
    return dict(posterior.guide.state_dict())


def by_sghmc(path: Path | None) -> State:
    posterior = fit_sghmc(network(), rows(), PLAN, epochs=8, batch_size=20, seed=0, checkpoint=path, progress=False)
    return dict(posterior.model.net.state_dict())


def by_sampling(plan: SamplingPlan, path: Path | None) -> State:
    checkpoint = None if path is None else Checkpoint(path, every=2)
    posterior = sample(network(), rows(), plan, seed=0, checkpoint=checkpoint, progress=False)
    return {"vectors": posterior.draws.vectors}


def by_adam(path: Path | None) -> State:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 2))
    data = rows()[0], (rows()[1] > 0).long()
    options: Any = {
        "likelihood": Categorical(),
        "validation": 0.25,
        "epochs": 6,
        "batch_size": 20,
        "seed": 0,
        "progress": False,
    }
    return dict(dense.train_dense(net, data, checkpoint=path, **options).state_dict())


def command(path: Path, arguments: list[str] = TABLE, *, resume: bool = False) -> int:
    """Run the command line in a folder that has the table, and return its exit code."""
    os.chdir(path)
    claim.SAVED_AFTER = 0.0
    try:
        app([*arguments, *(["--resume"] if resume else [])])
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


def outcome(folder: Path) -> dict[str, Any]:
    """What a run of the command line has found, without its times."""
    metrics = json.loads((folder / "metrics.json").read_text())
    posterior = torch.load(folder / "checkpoint.pt", weights_only=True)
    names = ("test_", "pruned_test_", "dense_test", "nodes", "params")
    found = {name: value for name, value in metrics.items() if name.startswith(names)}
    weights = posterior["guide"] if "guide" in posterior else posterior["snapshots"]
    path = folder / "path.json"
    return {
        **found,
        "weights": tree_map_only(torch.Tensor, torch.Tensor.tolist, weights),
        "path": path.exists() and path.read_text(),
    }


API: dict[str, Callable[[Path | None], State]] = {
    "svi": by_svi,
    "sample": partial(by_sampling, CHEES),
    "nuts": partial(by_sampling, NUTS),
    "sghmc": by_sghmc,
    "dense": by_adam,
}


def run(what: str, folder: Path) -> object:
    """Make or resume a run in a folder, and return what it has found; of the command line its exit code."""
    return API[what](folder / "run.pt") if what in API else command(folder)


# name -> what is run, what is replaced by a trap, at which of its calls it snaps, and by which signal
TRAPS: dict[str, tuple[str, object, str, int, int]] = {
    "svi": ("svi", RunFile, "write", 4, SIGKILL),
    "svi-within-a-write": ("svi", torch, "save", 3, SIGKILL),
    "sghmc": ("sghmc", EpochFile, "write", 5, SIGKILL),
    "sghmc-early": ("sghmc", EpochFile, "write", 3, SIGKILL),
    "sample": ("sample", ChainFile, "save", 5, SIGKILL),
    "sample-early": ("sample", ChainFile, "save", 2, SIGKILL),
    "nuts": ("nuts", ChainFile, "save", 6, SIGKILL),
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
            ended = run(what, place / name)
            os._exit(ended if isinstance(ended, int) else 0)
        codes[name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    (place / "codes.json").write_text(json.dumps(codes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
