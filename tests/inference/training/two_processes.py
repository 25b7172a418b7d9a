"""What each process of a run that is shared does; the test of the same concept starts it by ``torchrun``."""

import dataclasses
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from bnn_pyro import fit, recipes
from bnn_pyro.data import Split, load
from bnn_pyro.inference.svi.elbo import SparseELBO
from bnn_pyro.inference.svi.schedule import Schedule
from bnn_pyro.inference.svi.training_run import TrainingRun
from bnn_pyro.inference.training.compute import Compute
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.priors import Gaussian, GroupHorseshoe, SpikeSlab
from bnn_pyro.recipes import runs
from bnn_pyro.recipes.dense_training import DenseTraining
from guides import AutoSpikeSlab
from tests.inference.svi.test_fit import FAST, STILL, spy, state
from tests.test_network import inputs, labels, net_of, network

DATA = (inputs(), labels())
DRAWN = SparseELBO(local_reparameterization=False)  # weights are drawn, not outputs
OPTIONS: dict[str, Any] = {"batch_size": 8, "rates": FAST, "elbo": DRAWN, "seed": 3}
CASES: dict[str, dict[str, Any]] = {
    "traced": {"compute": Compute(engine="traced"), "batch_size": 6},
    "eager": {"compute": Compute(engine="eager"), "clip_norm": 1.0},
    "jittered": {
        "augmentation": lambda x: x + 0.1 * torch.randn_like(x),
        "elbo": SparseELBO(num_particles=2, local_reparameterization=False),
    },
    "images": {"batch_size": 6},  # with a BatchNorm
    "shrinking": {"schedule": Schedule(shrink_below=0.3, frozen_kl_weight=0.5, freeze=1), "validation": DATA},
}


class Counted(Dataset[tuple[Tensor, Tensor]]):
    """The rows, and the numbers of those that were read."""

    def __init__(self) -> None:
        self.read: set[int] = set()

    def __len__(self) -> int:
        return len(DATA[0])

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        self.read.add(row)
        return DATA[0][row], DATA[1][row]


class Stop(Exception):
    """The power fails."""


def start(name: str, seed: int = 0) -> GuidePosterior:
    """A net that depends on a seed, with some nodes nearly closed."""
    slab = Gaussian() if name == "traced" else GroupHorseshoe()  # the less to trace
    net = net_of("convolutions" if name == "images" else "mlp", seed)
    model: SparseNetwork = network(net, prior=SpikeSlab(slab, inclusion=0.3))
    guide = AutoSpikeSlab(model.prior, init_inclusion=0.6)
    with torch.no_grad():
        for site, parameter in guide.named_parameters():
            if site.startswith("logits"):
                parameter[: len(parameter) // 2] = -3.0
    return GuidePosterior(model, guide)


def train(name: str, seed: int = 0, **options: Any) -> GuidePosterior:
    """Fits it."""
    posterior = start(name, seed)
    given = {"epochs": 5, "data": DATA, **OPTIONS, **CASES.get(name, {}), **options}
    return fit(posterior.model, guide=posterior.guide, **given)


def stopped(path: Path, name: str, *, after: int) -> None:
    """Fits it until the power fails."""
    make_epoch = TrainingRun._epoch

    def fail(run: TrainingRun, epoch: int, *rest: Any) -> Tensor:
        if epoch == after:
            raise Stop
        return make_epoch(run, epoch, *rest)

    try:
        with mock.patch.object(TrainingRun, "_epoch", fail):
            train(name, checkpoint=path)
    except Stop:
        return
    raise RuntimeError("the run came to its end")


def gradients(**options: Any) -> list[Tensor]:
    """The loss and the gradients of one step on the whole data."""
    seen, factory = spy()
    posterior = train("eager", epochs=1, clip_norm=None, optimizer=factory, **{**options, "rates": STILL})
    loss = torch.tensor(posterior.history[0]["loss"])
    return [loss, *(g for g in seen[0]["gradients"] if g is not None)]


def job(out: Path) -> dict[str, Any]:
    """The whole job on some digits."""
    digits = load("digits")
    train, test = (Split(split.x[:64], split.y[:64]) for split in (digits.train, digits.test))
    settings = recipes.Recipe(hidden=(6,), dense=DenseTraining(epochs=2), epochs=2, schedule=Schedule(), batch_size=32)
    nothing = mock.Mock()  # to save time
    with mock.patch.object(runs, "write_networks", nothing), mock.patch.object(runs, "write_report", nothing):
        return recipes.run(dataclasses.replace(digits, train=train, test=test), settings, out=out)


def main(folder: Path) -> None:
    """Runs everything; the first process writes what came out."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    found: dict[str, Any] = {name: state(train(name, seed=rank)) for name in CASES}  # the first one's net is taken
    found["gradients"] = gradients(batch_size=12)
    found["noisy"] = gradients(batch_size=12, elbo=SparseELBO(local_reparameterization=True))
    rows = Counted()
    found["sampler"] = state(train("eager", data=DataLoader(rows, batch_size=4, sampler=DistributedSampler(rows))))
    found["rows read"] = sorted(rows.read)
    found["resumed"] = state(train("shrinking", checkpoint=folder / "by_one.pt"))
    stopped(folder / "by_two.pt", "shrinking", after=3)
    found["job"] = {k: v for k, v in job(folder / f"written_by_{rank}").items() if k.startswith("test_")}
    found["alone"] = state(train("jittered", seed=rank, compute=Compute(data_parallel=False)))
    everybody: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(everybody, found)
    if rank == 0:
        torch.save(everybody, folder / "found.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
