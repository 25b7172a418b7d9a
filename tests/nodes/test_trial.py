"""That nodes which can be removed are told from those which cannot."""

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnn_pyro.nodes import Axis, NodeGroup, find_nodes
from bnn_pyro.nodes.mixing import IS_MIXED, IS_SPREAD
from bnn_pyro.nodes.trial import Trial
from tests.nodes.nets import CASES, MIXED, NEEDED, SEEN, Net, between, nodes_of, random_masks, without_readers


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(2))
def test_nobody_else_reads_a_node(name: str, seed: int) -> None:
    """With the readers' columns at zero, the output does not depend on the writers at all."""
    net, x, nodes = nodes_of(name)
    keep = random_masks(nodes.groups, seed)
    masked = without_readers(net, nodes.groups, keep)
    expected = masked(x)
    parameters = dict(masked.named_parameters())
    with torch.no_grad():
        for group in nodes.groups:
            for axis in group.writers:
                closed = ~axis.spread(keep[group.name])
                rows = parameters[axis.parameter].movedim(axis.dim, 0)
                rows[closed] = torch.randn_like(rows[closed])
        x = torch.where(keep["inputs"], x, torch.randn_like(x)) if "inputs" in keep else x
    torch.testing.assert_close(masked(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_each_node_matters(name: str) -> None:
    """The readers of a node are columns that it is read by: without any one node the output changes."""
    net, x, nodes = nodes_of(name)
    for group in nodes.groups:
        for node in range(group.size):
            keep = {other.name: torch.ones(other.size, dtype=torch.bool) for other in nodes.groups}
            keep[group.name][node] = False
            assert (without_readers(net, nodes.groups, keep)(x) - net(x)).abs().max() > 1e-6


@pytest.mark.parametrize(
    ("net", "layer", "reason"),
    [
        (between(lambda _, h: h.softmax(-1)), "first", MIXED),
        (between(lambda _, h: h - h.mean(-1, keepdim=True)), "first", MIXED),
        (between(lambda _, h: F.layer_norm(h, (6,))), "first", MIXED),
        (between(lambda _, h: h + h.flip(-1)), "first", MIXED),
        (between(lambda _, h: h / h.norm()), "first", MIXED),
        (between(lambda _, h: h + h.detach().roll(1, -1)), "first", MIXED),
        (between(lambda net, h: net.norm(h), norm=nn.LayerNorm(6)), "first", "through 'norm' (LayerNorm)"),
        (
            between(lambda net, h: net.norm(h[..., None])[..., 0], norm=nn.GroupNorm(2, 6)),
            "first",
            "norm' (GroupNorm), which takes",
        ),
        (
            between(
                lambda net, h: net.norm(h[..., None] * torch.arange(2.0).to(h))[..., 0],
                norm=nn.InstanceNorm1d(6),
            ),
            "first",
            "norm' (InstanceNorm1d), which has no parameter",
        ),
        (between(lambda _, h: h + torch.ones(6)), "first", NEEDED),
        (between(lambda _, h: h.reshape(7, 2, 3).sigmoid().flatten(1)), "first", NEEDED),
        (between(lambda _, h: h / h.shape[-1]), "first", "computes something else"),
        (between(lambda _, h: h.detach()), "first", SEEN),
        (between(lambda _, h: h.sigmoid(), unused=nn.Linear(2, 2)), "unused", SEEN),
        (
            Net(lambda net, x: net.b(x + net.a(x)), a=nn.Linear(5, 5), b=nn.Linear(5, 2)),
            "a",
            "ties its channels to the inputs",
        ),
        (
            Net(lambda net, x: torch.cat([net.a(x), net.b(net.a(x))], -1), a=nn.Linear(5, 3), b=nn.Linear(3, 1)),
            "a",
            "output",
        ),
        (
            nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)), nn.Linear(4, 2)),
            "0",
            "plain parameter",
        ),
        (
            nn.Sequential(nn.Linear(5, 4), nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))),
            "0",
            "plain parameter",
        ),
    ],
)
def test_what_cannot_be_removed_stays_dense_and_says_why(net: nn.Module, layer: str, reason: str) -> None:
    nodes = find_nodes(net, torch.randn(7, 5))
    assert reason in nodes.dense[layer]
    assert layer not in {group.name for group in nodes.groups}


@pytest.mark.parametrize(
    ("middle", "reason"),
    [
        (nn.Conv2d(6, 6, 3, groups=2), "pass through '1' (Conv2d), which is a grouped convolution"),
        (nn.Conv2d(6, 12, 3, groups=6), "'1' (Conv2d), which is a grouped convolution"),
        (nn.ConvTranspose2d(6, 6, 3, groups=3), "'1' (ConvTranspose2d), which is a grouped convolution"),
        (nn.GroupNorm(3, 6), "'1' (GroupNorm), which takes its statistics over several channels"),
        (nn.LayerNorm([6, 5, 5]), "'1' (LayerNorm), which takes its statistics over several channels"),
        (nn.LocalResponseNorm(3), MIXED),
        (nn.Softmax(dim=1), MIXED),
        (nn.PixelShuffle(1), None),
        (nn.ChannelShuffle(2), "the net does not run without some of its channels"),
    ],
    ids=str,
)
def test_what_stands_between_convolutions(middle: nn.Module, reason: str | None) -> None:
    size = 12 if isinstance(middle, nn.Conv2d) and middle.out_channels == 12 else 6
    net = nn.Sequential(nn.Conv2d(2, 6, 3), middle, nn.Sigmoid(), nn.Conv2d(size, 4, 3), nn.Flatten(1), nn.ReLU())
    nodes = find_nodes(net, torch.randn(2, 2, 7, 7))
    if reason is None:
        assert [group.name for group in nodes.groups] == ["0"]
    else:
        assert reason in nodes.dense["0"] and nodes.groups == ()
        assert ("1" in nodes.dense) == isinstance(middle, nn.modules.conv._ConvNd)


@pytest.mark.parametrize("spread", [torch.mul, torch.add, lambda h, gate: gate.expand_as(h) * h])
def test_a_map_of_one_channel_ties_no_channels_together(spread: Callable[[Tensor, Tensor], Tensor]) -> None:
    net = Net(
        lambda net, x: net.last(spread(net.first(x), net.map(net.first(x)).sigmoid())).mean((2, 3)),
        **{"first": nn.Conv2d(2, 6, 3), "map": nn.Conv2d(6, 1, 1), "last": nn.Conv2d(6, 3, 3)},
    )
    nodes = find_nodes(net, torch.randn(2, 2, 7, 7))
    assert {group.name: group.size for group in nodes.groups} == {"first": 6}
    assert [axis.parameter for axis in nodes.groups[0].readers] == ["map.weight", "last.weight"]
    assert nodes.dense["map"] == IS_SPREAD


def test_a_map_of_pooled_channels_keeps_all_of_them() -> None:
    """Spatial attention as in CBAM: it reads the mean and the maximum over all channels."""

    def forward(net: Any, x: Tensor) -> Any:
        h = net.first(x)
        pooled = torch.cat([h.mean(1, keepdim=True), h.amax(1, keepdim=True)], 1)
        return net.last(h * net.map(pooled).sigmoid()).mean((2, 3))

    net = Net(forward, first=nn.Conv2d(2, 6, 3), map=nn.Conv2d(2, 1, 3, padding=1), last=nn.Conv2d(6, 3, 3))
    nodes = find_nodes(net, torch.randn(2, 2, 7, 7))
    assert nodes.groups == () and nodes.dense["first"] == IS_MIXED and nodes.dense["map"] == IS_SPREAD


def test_one_gate_for_all_hidden_nodes_is_no_node() -> None:
    net = Net(
        lambda net, x: net.last(net.first(x).sigmoid() * net.gate(x).sigmoid()),
        **{"first": nn.Linear(5, 6), "gate": nn.Linear(5, 1), "last": nn.Linear(6, 2)},
    )
    nodes = find_nodes(net, torch.randn(7, 5))
    assert {group.name: group.size for group in nodes.groups} == {"first": 6}
    assert nodes.dense["gate"] == IS_SPREAD


def test_an_only_node_that_always_stands_is_tried_out_twice_in_its_place() -> None:
    """It reads a single channel, or the columns of flattened images, or of two views; not one channel of many."""
    single = nn.Sequential(*(nn.Conv2d(2, 1, 3), nn.BatchNorm2d(1), nn.ReLU(), nn.Conv2d(1, 3, 3), nn.Flatten()))
    flattened = nn.Sequential(nn.Conv2d(2, 1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(25, 3))
    views = Net(
        lambda net, x: net.last(torch.cat([net.first(x), net.first(-x)], 1).sigmoid()).mean((2, 3)),
        **{"first": nn.Conv2d(2, 1, 3), "last": nn.Conv2d(2, 3, 3)},
    )
    x = torch.randn(2, 2, 7, 7)
    for net in (single, flattened, views):
        assert next(iter(find_nodes(net, x).groups)).size == 1
    net = nn.Sequential(nn.Conv2d(2, 6, 3), nn.Conv2d(6, 3, 3)).double()
    weights = {"writers": (Axis("0.weight", 0, torch.tensor([0, *[-1] * 5])),)}
    wrong = NodeGroup(
        "0", 1, readers=(Axis("1.weight", 1, torch.zeros(6, dtype=torch.long)),), can_be_empty=False, **weights
    )
    assert Trial(net, x.double()).settle([wrong])[0][1] is not None


def test_a_depthwise_convolution_may_be_left_with_one_channel() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Conv2d(3, 3, 3, groups=3), nn.Sigmoid(), nn.Conv2d(3, 2, 1))
    assert [group.size for group in find_nodes(net, torch.randn(2, 2, 7, 7)).groups] == [3]


def test_weights_at_zero_hide_nothing() -> None:
    """A head that starts at zero passes nothing on, yet softmax still mixes."""
    net = between(lambda _, h: h.softmax(-1))
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    assert MIXED in find_nodes(net, torch.zeros(7, 5)).dense["first"]


def test_a_net_that_casts_is_tried_out_in_its_own_dtype() -> None:
    net = between(lambda _, h: h.sigmoid())
    mixing = between(lambda _, h: h.softmax(-1))
    for inner, groups in ((net, 1), (mixing, 0)):
        casting = Net(lambda outer, x: outer.inner(x.float()), inner=inner)
        assert len(find_nodes(casting, torch.randn(7, 5)).groups) == groups


class Block(nn.Module):
    """Two linear layers, with softmax between them where channels are to be mixed."""

    def __init__(self, *, is_mixed: bool) -> None:
        super().__init__()
        self.first, self.last, self.is_mixed = nn.Linear(5, 6), nn.Linear(6, 5), is_mixed

    def forward(self, x: Tensor) -> Tensor:
        """Return as many channels as there were."""
        hidden = self.first(x)
        output: Tensor = self.last(hidden.softmax(-1) if self.is_mixed else torch.tanh(hidden))
        return x + output


def in_blocks(number: int) -> NodeGroup:
    """The hidden channels of a block, as if they could all be removed."""
    index = torch.arange(6)
    writers = (Axis(f"{number}.first.weight", 0, index), Axis(f"{number}.first.bias", 0, index))
    return NodeGroup(f"{number}.first", 6, writers, (Axis(f"{number}.last.weight", 1, index),), can_be_empty=True)


def test_a_gradient_says_which_groups_are_to_be_tried_apart() -> None:
    """Each faulty one is tried alone, and all others at once."""
    faulty = (2, 5)
    net = nn.Sequential(*(Block(is_mixed=number in faulty) for number in range(8))).double()
    trial, groups = Trial(net, torch.randn(3, 5).double()), [in_blocks(number) for number in range(8)]
    assert trial._suspects(groups) == {"2.first", "5.first"}
    with mock.patch.object(trial, "_fault", wraps=trial._fault) as fault:
        settled = trial.settle(groups)
    assert [group.name for group, _ in settled] == [group.name for group in groups]
    assert [number for number, (_, reason) in enumerate(settled) if reason == IS_MIXED] == list(faulty)
    assert [len(call.args[0]) for call in fault.call_args_list] == [8, 6, 1, 1]


def test_a_net_without_gradients_is_tried_by_halves() -> None:
    class Detached(Block):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return super().forward(x)

    net = nn.Sequential(*(Detached(is_mixed=number == 1) for number in range(4))).double()
    trial, groups = Trial(net, torch.randn(3, 5).double()), [in_blocks(number) for number in range(4)]
    assert trial._suspects(groups) == set()
    assert [reason for _, reason in trial.settle(groups)] == [None, IS_MIXED, None, None]
