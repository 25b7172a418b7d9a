"""Layers that treat each channel by itself, or make one of several, let channels go without loss."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.nodes import find_nodes
from bnn_pyro.pruning.cutting import cut


class Scaled(nn.Module):
    """A learned factor and a learned shift per channel, as layer scale has them."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.factor, self.shift = nn.Parameter(torch.rand(*shape)), nn.Parameter(torch.randn(*shape))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor + self.shift


MIDDLES: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "InstanceNorm": (lambda: nn.InstanceNorm2d(8, affine=True), 8, 8),
    "InstanceNorm with statistics": (lambda: nn.InstanceNorm2d(8, track_running_stats=True), 8, 8),
    "GroupNorm, a group per channel": (lambda: nn.GroupNorm(8, 8), 8, 8),
    "PReLU with a slope per channel": (lambda: nn.PReLU(8), 8, 8),
    "a factor per channel": (lambda: Scaled(8, 1, 1), 8, 8),
    "GLU": (lambda: nn.GLU(1), 4, 4),
    "PixelShuffle": (lambda: nn.PixelShuffle(2), 2, 2),
}


@pytest.mark.parametrize(("middle", "read", "nodes"), MIDDLES.values(), ids=MIDDLES.keys())
def test_channels_go_without_loss(middle: Callable[[], nn.Module], read: int, nodes: int) -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 8, 3), middle(), nn.Conv2d(read, 4, 3), nn.Flatten()).double().eval()
        x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    found = find_nodes(net, x)
    (group,) = found.groups
    assert group.name == "0" and group.size == nodes and set(found.dense) == {"2"}
    keep = torch.arange(nodes) % 2 == 1
    with torch.no_grad():
        for axis in group.readers:
            closed = (~axis.spread(keep)).nonzero().flatten()
            net.get_parameter(axis.parameter).index_fill_(axis.dim, closed, 0.0)
    small = cut(net, found.groups, {"0": keep})
    assert small.get_parameter("0.weight").shape[0] == 8 * int(keep.sum()) // nodes
    torch.testing.assert_close(small(x), net(x))


def test_an_embedding_of_positions_is_no_factor_per_channel() -> None:
    net = nn.Sequential(nn.Linear(3, 8), Scaled(5, 8), nn.Linear(8, 2))
    nodes = find_nodes(net, torch.randn(2, 5, 3))
    assert nodes.groups == () and "(Parameter), which has not one number per channel" in nodes.dense["0"]
