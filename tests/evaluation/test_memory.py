"""Memory of a forward pass: small nets by hand, and that nothing is computed or changed."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.evaluation.memory import peak_activations
from bnn_pyro.networks import lenet
from bnn_pyro.nodes import find_nodes
from bnn_pyro.pruning.cutting import cut
from tests.nodes.nets import Net

WIDE = nn.Linear(4, 10)


@pytest.mark.parametrize(
    ("net", "numbers"),
    [
        (nn.Linear(4, 10), 4 + 10),
        (nn.Sequential(WIDE, nn.ReLU(), nn.Linear(10, 3)), 4 + 10 + 10),  # the ReLU's input and output
        (nn.Sequential(WIDE, nn.ReLU(inplace=True), nn.Linear(10, 3)), 4 + 10 + 3),
        (nn.Sequential(WIDE, nn.Flatten(), nn.Unflatten(1, (5, 2))), 4 + 10),  # views hold nothing
        (Net(lambda net, x: net.back(net.wide(x)) + x, wide=WIDE, back=nn.Linear(10, 4)), 4 + 10 + 4),
        (Net(lambda net, x: (net.wide(x), net.wide(x))[0], wide=WIDE), 4 + 10 + 10),
        (nn.Identity(), 4),
    ],
    ids=["linear", "relu", "in place", "views", "skip", "two at once", "identity"],
)
@pytest.mark.parametrize(("dtype", "rows"), [(torch.float32, 1), (torch.float64, 7)])
def test_bytes_by_hand(net: nn.Module, numbers: int, dtype: torch.dtype, rows: int) -> None:
    x = torch.randn(rows, 4, dtype=dtype)
    assert peak_activations(net.to(dtype), x) == rows * numbers * dtype.itemsize


def test_a_pruned_net_holds_less() -> None:
    """Most is held by the first pooling: 20 channels of 24 x 24 pixels, and 12 x 12 largest ones with their places."""
    net, x = lenet(), torch.zeros(3, 1, 28, 28)
    assert peak_activations(net, x) == 3 * (4 * 28 * 28 + 20 * (4 * 24 * 24 + (4 + 8) * 12 * 12))
    groups = find_nodes(net, x).groups
    small = cut(net, groups, {group.name: torch.arange(group.size) % 5 == 0 for group in groups})
    assert peak_activations(small, x) == 3 * (4 * 28 * 28 + 4 * (4 * 24 * 24 + (4 + 8) * 12 * 12))


def test_nothing_is_computed_or_changed() -> None:
    net, x = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout()), torch.randn(5, 4)
    net[1].eval()
    state, generator = {name: value.clone() for name, value in net.state_dict().items()}, torch.get_rng_state()
    peak_activations(net, x)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert [module.training for module in net.modules()] == [True, True, False, True]
    assert torch.equal(torch.get_rng_state(), generator) and all(p.device == x.device for p in net.parameters())


def counted(act: Callable[[Tensor], Tensor]) -> int:
    return peak_activations(Net(lambda _, h: act(h)), torch.zeros(8))


def test_what_is_freed_is_not_counted() -> None:
    assert counted(lambda h: h.sin().cos().sin().cos()) == 4 * 8 * 3
