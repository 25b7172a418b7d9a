"""That what cannot be read of a net leaves the rest of it readable."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.nodes import find_nodes
from bnn_pyro.nodes.reading import read
from tests.nodes.nets import Net


def recurrent(cell: Callable[..., nn.RNNBase]) -> nn.Module:
    """A recurrent layer between two linear ones, and a head."""

    def forward(net: Any, x: Tensor) -> Any:
        return net.head(net.behind(net.cell(net.before(x).sigmoid())[0][:, -1]).sigmoid())

    parts = {"before": nn.Linear(5, 3), "cell": cell(3, 4, batch_first=True), "behind": nn.Linear(4, 6)}
    return Net(forward, **parts, head=nn.Linear(6, 2))


class Shuffled(nn.Module):
    """A block of ShuffleNet: half of the channels passes by, and then both halves are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(4, 5, 1), nn.Sigmoid(), nn.Conv2d(5, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Work on the second half."""
        first, second = x.chunk(2, 1)
        joined = torch.cat([first, self.branch(second)], 1)
        return joined.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2)  # type: ignore[no-any-return]


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_recurrent_layer_stays_and_the_rest_is_found(cell: type[nn.RNNBase]) -> None:
    net = recurrent(cell)
    nodes = find_nodes(net, torch.randn(2, 7, 5))
    assert {group.name: group.size for group in nodes.groups} == {"behind": 6}
    assert nodes.dense["cell"].startswith("is recurrent")
    assert nodes.dense["before"].startswith(f"its channels pass through 'cell' ({cell.__name__}), which is recurrent")
    assert nodes.dense["head"] == "is the output of the net"
    assert all("forward" not in module.__dict__ for module in net.modules())


def test_parts_within_a_layer_that_cannot_be_read_are_found() -> None:
    shuffled = nn.Sequential(
        *(nn.Conv2d(2, 3, 3), nn.Sigmoid(), nn.Conv2d(3, 8, 3), Shuffled(), nn.Conv2d(8, 3, 1), nn.Sigmoid()),
        *(nn.Conv2d(3, 2, 3), nn.Flatten()),
    )
    x = torch.randn(2, 2, 8, 8)
    nodes = find_nodes(shuffled, x)
    assert {group.name: group.size for group in nodes.groups} == {"0": 3, "3.branch.0": 5, "4": 3}
    assert set(nodes.dense) >= {"2", "3.branch.2", "6"}


def test_a_net_that_can_be_read_has_one_graph() -> None:
    reading = read(nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)).eval(), torch.randn(7, 5))
    assert reading.graphs == (reading.whole,) and reading.closed == {}
