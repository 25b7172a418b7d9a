"""The predicted cost is that of the net that is cut."""

import pytest
import torch
from torch import nn

from bnn_pyro.evaluation.cost import Cost, measure_cost
from bnn_pyro.evaluation.predicted_cost import predict_cost
from bnn_pyro.networks import lenet
from bnn_pyro.nodes import find_nodes
from bnn_pyro.pruning.cutting import cut, kept_positions
from tests.nodes.nets import CASES, nodes_of, random_masks

ONE_LAYER = ("linear", "no_batch")  # nothing to remove; no rows to count by


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", [name for name in CASES if name not in ONE_LAYER])
def test_prediction_is_the_measured_cost(name: str, seed: int) -> None:
    net, x, nodes = nodes_of(name)
    groups = [group for group in nodes.groups if group.writers]
    keep = random_masks(groups, seed)
    small = cut(net, groups, keep)
    assert predict_cost(net, kept_positions(net, groups, keep), x) == measure_cost(small, x)
    assert predict_cost(net, {}, x) == measure_cost(net, x)


def test_lenet_of_the_authors_by_hand() -> None:
    """Their 14-7-13-15 nodes, two-sided."""
    net, x = lenet(), torch.zeros(1, 1, 28, 28)
    kept = {"conv1": 14, "conv2": 7, "hidden1": 13, "hidden2": 15}
    groups = find_nodes(net, x).groups
    keep = {group.name: torch.arange(group.size) < kept[group.name] for group in groups}
    products = 24**2 * 14 * 25 + 8**2 * 7 * 14 * 25 + 7 * 16 * 13 + 13 * 15 + 15 * 10
    parameters = 14 * 26 + 7 * (14 * 25 + 1) + 13 * (7 * 16 + 1) + 15 * 14 + 10 * 16
    assert predict_cost(net, kept_positions(net, groups, keep), x) == Cost(parameters, 2 * products)


def test_the_net_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).train()
    net[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    predict_cost(net, {"0.weight": {0: torch.tensor([1])}}, torch.zeros(2, 4))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [module.training for module in net.modules()] == [True, True, False]
    assert all(not module._forward_hooks for module in net.modules())


def test_a_datum_is_needed() -> None:
    with pytest.raises(ValueError, match="example_input must have shape"):
        predict_cost(nn.Linear(4, 3), {}, torch.zeros(0, 4))
