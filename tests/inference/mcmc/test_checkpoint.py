"""Draws that are saved, and runs that were killed and go on."""

import signal
import subprocess
import sys
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.plan import KERNELS, Kernel, SamplingPlan
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.draws import Draws
from bnn_pyro.priors import Gaussian, SpikeSlab
from guides import AutoSpikeSlab
from tests.inference.mcmc.test_sample import regression
from tests.models import data

ROOT = Path(__file__).resolve().parents[3]


RUN = SamplingPlan(chains=2, warmup=24, draws=4, max_tree_depth=3)


def options(kernel: Kernel) -> Any:
    plan = replace(RUN, kernel=kernel, trajectory_length=0.2 if kernel == "hmc" else None)
    return {"plan": plan, "seed": 3, "progress": False, "engine": "traced"}


def rows_of_data() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return data()


@cache
def finished(kernel: Kernel) -> Draws:
    """The draws of a run that was not stopped."""
    return sample(regression, rows_of_data(), **options(kernel))


def assert_same(one: Draws, other: Draws) -> None:
    for each in fields(Draws):
        left, right = getattr(one, each.name), getattr(other, each.name)
        if isinstance(left, Tensor):
            torch.testing.assert_close(left, right, rtol=0, atol=0, equal_nan=True, msg=each.name)
    assert one.values.keys() == other.values.keys()
    assert all(torch.equal(value, other.values[name]) for name, value in one.values.items())


# ---- runs on their way -----------------------------------------------------------------------------------------------
KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from bnn_pyro.inference.checkpoint import Checkpoint
from bnn_pyro.inference.mcmc import runs as chains
from bnn_pyro.inference.mcmc.plan import KERNELS
from bnn_pyro.inference.mcmc.sample import sample
from tests.inference.mcmc.test_checkpoint import KERNELS, options, regression, rows_of_data

def dying(advance):
    def advanced(self):
        advance(self)
        if self.done == 27:
            os.kill(os.getpid(), signal.SIGKILL)
    return advanced

for way in (chains.SequentialRun, chains.BatchRun):
    way.advance = dying(way.advance)
for kernel in KERNELS:
    child = os.fork()
    if not child:
        checkpoint = Checkpoint(f"{sys.argv[1]}/{kernel}.pt", every=10)
        sample(regression, rows_of_data(), checkpoint=checkpoint, **options(kernel))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints of runs that were killed after 27 transitions, 20 of them saved."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-c", KILLED, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == [str(-signal.SIGKILL)] * len(KERNELS), done.stderr
    return folder


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_killed_run_goes_on(kernel: Kernel, killed: Path) -> None:
    path = killed / f"{kernel}.pt"
    assert torch.load(path, weights_only=True)["state"]["done"] == 20
    again = sample(regression, rows_of_data(), checkpoint=path, **options(kernel))
    assert_same(again, finished(kernel))
    assert not list(killed.glob("*partial*"))


def test_without_a_seed_the_checkpoint_has_it(tmp_path: Path) -> None:
    given = {**options("chees"), "seed": None, "checkpoint": tmp_path / "run.pt"}
    one, two = (sample(regression, rows_of_data(), **given) for _ in range(2))
    assert_same(one, two)


def other_regression(x: Tensor, y: Tensor) -> None:
    """The same sites, another noise."""
    regression(x / 2, y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plan": replace(RUN, warmup=25)}, r"another warmup \(24 there, 25 here\)"),
        ({"plan": replace(RUN, kernel="hmc")}, "another kernel"),
        ({"seed": 4}, r"another seed \(3 there, 4 here\)"),
        ({"start": torch.zeros(2, 3)}, "another start;"),
    ],
    ids=str,
)
def test_a_checkpoint_of_other_options_is_refused(change: dict[str, Any], message: str, killed: Path) -> None:
    with pytest.raises(ValueError, match=message):
        sample(regression, rows_of_data(), **{**options("nuts"), **change}, checkpoint=killed / "nuts.pt")


def test_a_checkpoint_of_another_model_or_data_is_refused(killed: Path) -> None:
    x, y = rows_of_data()
    given = {**options("nuts"), "checkpoint": killed / "nuts.pt"}
    with pytest.raises(ValueError, match="checkpoint must be a file of the same model, data and .* another data;"):
        sample(regression, (x, y + 1e-6), **given)
    with pytest.raises(ValueError, match="another density of the model"):
        sample(other_regression, (x, y), **given)
    with pytest.raises(ValueError, match="another sites of the model"):
        sample(regression, (x[:, :2], y), **given)


def test_checkpoints_that_are_none(tmp_path: Path) -> None:
    given = options("nuts")
    with pytest.raises(ValueError, match="checkpoint must be a file in a folder that exists"):
        sample(regression, rows_of_data(), **given, checkpoint=tmp_path / "nowhere" / "run.pt")
    (tmp_path / "damaged.pt").write_bytes(b"not a file of torch")
    with pytest.raises(ValueError, match="written by sample, got .*damaged"):
        sample(regression, rows_of_data(), **given, checkpoint=tmp_path / "damaged.pt")


def test_a_checkpoint_whose_state_is_incomplete_is_refused(tmp_path: Path, killed: Path) -> None:
    content = torch.load(killed / "nuts.pt", weights_only=True)
    del content["state"]["track"]
    torch.save(content, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="checkpoint must be a file written by sample, .*track"):
        sample(regression, rows_of_data(), **options("nuts"), checkpoint=tmp_path / "run.pt")


# ---- networks --------------------------------------------------------------------------------------------------------
BRIEF = SamplingPlan(kernel="chees", chains=2, warmup=4, draws=4, gates="exact")


def brief(path: Path, prior: Any = None, *, guided: bool = False) -> Draws:
    """Draws of a small network."""
    torch.manual_seed(0)
    x, net = torch.randn(12, 3, dtype=torch.float64), mlp(3, (4,), 1).double()
    prior = prior or SpikeSlab(Gaussian(), inclusion=0.3)
    model = SparseNetwork(net, x, prior=prior, likelihood=GaussianNoise(), num_data=12)
    given: dict[str, Any] = {"seed": 0, "progress": False, "engine": "traced", "checkpoint": path}
    given["pseudo_prior"] = AutoSpikeSlab(model.prior) if guided else None
    found: Draws = sample(model, (x, x[:, 0]), BRIEF, **given).draws
    return found


def test_a_networks_prior_is_compared_by_name(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    first = brief(path)
    for prior, message in (
        (SpikeSlab(Gaussian(1 + 1e-6), inclusion=0.3), r"another prior.slab.sigma \(1.0 there, 1.000001 here\);"),
        (SpikeSlab(Gaussian(), inclusion=0.31), r"another prior.inclusion.hidden1 \(0.3 there, 0.31 here\);"),
    ):
        with pytest.raises(ValueError, match=f"checkpoint must be a file of the same model, .*: {message}"):
            brief(path, prior)
    with pytest.raises(ValueError, match="another pseudo_prior"):
        brief(path, guided=True)
    content = torch.load(path, weights_only=True)
    del content["model"]  # as in an older file
    torch.save(content, path)
    assert_same(brief(path), first)


def test_zeroed_bytes_are_found(tmp_path: Path, killed: Path) -> None:
    whole = (killed / "nuts.pt").read_bytes()
    middle = len(whole) // 2
    (tmp_path / "run.pt").write_bytes(whole[:middle] + bytes(500) + whole[middle + 500 :])
    with pytest.raises(ValueError, match="path must be a file written by sample, got .*run.pt: damaged"):
        sample(regression, rows_of_data(), **options("nuts"), checkpoint=tmp_path / "run.pt")
