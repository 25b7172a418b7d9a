"""Processes that share a run make the steps of one, and any number of them goes on from what another has kept."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn

from bnn_pyro import fit
from bnn_pyro.inference.svi.elbo import SparseELBO
from bnn_pyro.inference.training.compute import Compute
from bnn_pyro.inference.training.processes import Processes
from tests.inference.svi.test_fit import is_same, state
from tests.inference.training import two_processes
from tests.inference.training.two_processes import CASES, DATA, gradients, job, stopped, train
from tests.recorded import assert_same
from tests.test_network import network

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have left, that went on from a run of this one."""
    folder = tmp_path_factory.mktemp("two_processes")
    stopped(folder / "by_one.pt", "shrinking", after=3)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [*launch, "-m", two_processes.__name__, str(folder)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> list[dict[str, Any]]:
    """What came out in each process."""
    processes: list[dict[str, Any]] = torch.load(folder / "found.pt", weights_only=True)
    return processes


@pytest.mark.parametrize(("backend", "sent_over"), [("nccl", torch.device("cuda:1")), ("gloo", None)])
def test_objects_are_sent_over_the_device_of_the_process(
    backend: str, sent_over: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NCCL takes the current GPU unless it is told, and two processes that share one wait for each other for good."""
    found: list[object] = []
    monkeypatch.setattr(distributed, "get_backend", lambda: backend)
    monkeypatch.setattr(
        distributed, "broadcast_object_list", lambda sent, first, device=None: found.append((sent, first, device))
    )
    assert Processes(0, 2, torch.device("cuda:1")).broadcast("value") == "value"
    assert found == [(["value"], 0, sent_over)]


def test_loss_and_gradients_are_those_of_one_process(found: list[dict[str, Any]]) -> None:
    expected = gradients(batch_size=12)
    for process in found:
        assert_same(process["gradients"], expected, 1e-12)


def test_noise_of_ones_own_is_that_of_as_many_parts(found: list[dict[str, Any]]) -> None:
    options: dict[str, Any] = {"batch_size": 12, "elbo": SparseELBO(local_reparameterization=True)}
    assert_same(found[0]["noisy"], gradients(compute=Compute(engine="eager", accumulate=2), **options), 1e-12)
    assert found[0]["noisy"][0] != pytest.approx(float(gradients(**options)[0]), rel=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_a_run_is_that_of_one_process(found: list[dict[str, Any]], name: str) -> None:
    first, second = (process[name] for process in found)
    assert is_same(first, second)  # to the last bit, or they would part
    parts = 2 if name == "images" else 1  # a BatchNorm normalises each by itself
    compute = replace(CASES[name].get("compute", Compute()), accumulate=parts)
    assert_same(first, state(train(name, compute=compute)), 1e-8)


def test_a_loader_may_share_its_rows_with_the_other_processes(found: list[dict[str, Any]]) -> None:
    for process in found:
        assert_same(process["sampler"], found[0]["eager"], 1e-12)


def test_each_process_reads_its_own_rows_alone(found: list[dict[str, Any]]) -> None:
    """But for row 0, which says what the items are."""
    for rank, process in enumerate(found):
        assert set(process["rows read"]) - {0} == set(range(rank, len(DATA[0]), 2)) - {0}


def test_each_process_may_have_a_run_of_its_own(found: list[dict[str, Any]]) -> None:
    for rank, process in enumerate(found):
        assert_same(process["alone"], state(train("jittered", seed=rank)), 1e-12)


def test_two_processes_go_on_from_one_and_one_from_two(folder: Path, found: list[dict[str, Any]]) -> None:
    expected = state(train("shrinking"))
    assert_same(found[0]["resumed"], expected, 1e-8)
    assert_same(state(train("shrinking", checkpoint=folder / "by_two.pt")), expected, 1e-8)


def test_the_first_process_measures_and_writes(folder: Path, found: list[dict[str, Any]], tmp_path: Path) -> None:
    assert found[0]["job"] == found[1]["job"]
    assert [path.name for path in folder.glob("written_by_*")] == ["written_by_0"]
    expected = job(tmp_path / "run")
    assert found[0]["job"] == pytest.approx({name: expected[name] for name in found[0]["job"]}, rel=0.05)


# ---- one alone -------------------------------------------------------------------------------------------------------


def test_one_process_alone_adds_nothing_up() -> None:
    alone = Processes.found()
    tensor = torch.ones(3)
    alone.add_up([tensor])
    alone.copy_first([tensor])
    alone.settle_buffers(nn.BatchNorm1d(2))
    assert alone.is_first and alone.count == 1 and alone.broadcast("this") == "this" and tensor.tolist() == [1, 1, 1]


def test_running_statistics_are_averaged_and_other_buffers_are_those_of_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2, track_running_stats=False))
    net.register_buffer("own", torch.zeros(()))
    copied: list[torch.Tensor] = []
    monkeypatch.setattr(Processes, "add_up", lambda self, tensors: [tensor.add_(4) for tensor in tensors])
    monkeypatch.setattr(Processes, "copy_first", lambda self, tensors: copied.extend(tensors))
    Processes(1, 2).settle_buffers(net)
    norm: Any = net[0]
    assert norm.running_mean.tolist() == [2, 2] and norm.running_var.tolist() == [2.5, 2.5]
    assert [tensor.dim() for tensor in copied] == [0, 0]  # the number of batches, and the net's own


def test_settings_are_compared_with_those_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Processes, "broadcast", lambda self, value: {**value, "rows": 12})
    Processes(1, 2).check_alike({"rows": 12, "epochs": 3})
    with pytest.raises(ValueError, match="rows must be the same in all processes, got 11 and 12"):
        Processes(1, 2).check_alike({"rows": 11, "epochs": 3})


def test_there_must_be_processes_to_share_with() -> None:
    with pytest.raises(ValueError, match="data_parallel must be False or None where .* start the program by torchrun"):
        fit(network(), DATA, epochs=1, compute=Compute(data_parallel=True))
