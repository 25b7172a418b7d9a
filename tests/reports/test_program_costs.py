"""Programs are measured as the files that they are."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from bnn_pyro.export import export_net
from bnn_pyro.posterior.predictive_net import predictive_net
from bnn_pyro.reports.measures import Run
from bnn_pyro.reports.program_costs import program_costs
from tests.reports.finished import classification, regression


@pytest.mark.parametrize("make", [classification, regression])
def test_ensemble_point_net_and_dense_net(make: Callable[[], Run], tmp_path: Path) -> None:
    run = make()
    nets = {"ensemble": predictive_net(run.posterior, draws=20), "pruned": run.pruned, "dense": run.dense}
    found = program_costs(nets, run.test[0], repeats=3)
    assert json.loads(json.dumps(found)) == found
    for name, net in nets.items():
        export_net(net, run.test[0], tmp_path / f"{name}.pt2")
        assert found["program_bytes"][name] == pytest.approx((tmp_path / f"{name}.pt2").stat().st_size, rel=0.05)
    assert found["program_bytes"]["ensemble"] > found["program_bytes"]["pruned"]
    assert set(found["program_latency_ms"]) == {"1", "256"}
    for times in found["program_latency_ms"].values():
        assert set(times) == set(nets) and min(times.values()) > 0


def test_a_larger_network_takes_more_bytes_and_time() -> None:
    small, large = nn.Linear(4, 1), nn.Sequential(nn.Linear(4, 2000), nn.Linear(2000, 1000))
    found = program_costs({"small": small, "large": large}, torch.randn(3, 4), batches=(64,), repeats=11)
    sizes, times = found["program_bytes"], found["program_latency_ms"]["64"]
    assert sizes["large"] - sizes["small"] > 4 * 2000 * 1000
    assert times["large"] > times["small"]


def test_networks_are_left_alone() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Dropout()).train()
    before = copy.deepcopy(net.state_dict())
    program_costs({"net": net}, torch.randn(3, 4, requires_grad=True), batches=(2,), repeats=1)
    assert net.training and all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_bad_calls_are_refused() -> None:
    with pytest.raises(ValueError, match="nets and batches must not be empty"):
        program_costs({}, torch.zeros(1, 4))
    with pytest.raises(ValueError, match="nor batches below 1"):
        program_costs({"net": nn.Linear(4, 1)}, torch.zeros(1, 4), batches=(0,))
    with pytest.raises(ValueError, match="example_input must have a row"):
        program_costs({"net": nn.Linear(4, 1)}, torch.zeros(0, 4))
    with pytest.raises(ValueError, match="repeats must be at least 1"):
        program_costs({"net": nn.Linear(4, 1)}, torch.zeros(1, 4), repeats=0)
