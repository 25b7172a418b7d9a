"""Attention computes what PyTorch's does, with any number of heads, and its heads are nodes where that is exact."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.nodes import find_nodes
from bnn_pyro.nodes.attention import Attention, attention_of, head_groups, make_attention_plain
from bnn_pyro.pruning.cutting import cut
from tests.nodes.nets import Net, group_of, random_masks, without_readers

WIDTH, HEADS = 8, 4


def attention(**options: Any) -> nn.MultiheadAttention:
    """Attention in float64 whose weights and biases are nowhere 0."""
    module = nn.MultiheadAttention(WIDTH, HEADS, **{"batch_first": True, **options}).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def tokens(length: int = 5, rows: int = 3) -> Tensor:
    return torch.randn(rows, length, WIDTH, dtype=torch.float64)


def masks() -> dict[str, dict[str, Tensor]]:
    """Masks for 5 queries and 6 keys, none of which hides all keys of a query."""
    hidden = torch.rand(5, 6) < 0.3
    hidden[:, 0] = False
    padding = torch.zeros(3, 6, dtype=torch.bool)
    padding[:, 4:] = padding[0, 3] = True
    return {
        "none": {},
        "bool": {"attn_mask": hidden},
        "added": {"attn_mask": torch.randn(5, 6, dtype=torch.float64)},
        "padding": {"key_padding_mask": padding},
        "both": {"attn_mask": hidden, "key_padding_mask": padding},
    }


@pytest.mark.parametrize("mask", list(masks()))
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_plain_attention_is_that_of_pytorch(bias: bool, batch_first: bool, mask: str) -> None:
    module = attention(bias=bias, batch_first=batch_first)
    plain, query, key = Attention(module), tokens(), tokens(6)
    query, key = (query, key) if batch_first else (query.transpose(0, 1), key.transpose(0, 1))
    chosen = masks()[mask]
    output, weights = plain(query, key, key, **chosen)
    torch.testing.assert_close(output, module(query, key, key, **chosen)[0])
    assert weights is None
    assert list(plain.state_dict()) == list(module.state_dict())


def transformer() -> nn.Module:
    """An encoder with heads of two numbers."""
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 6, batch_first=True, activation=nn.functional.silu)
    net = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Flatten(), nn.Linear(40, 2))
    return net.double().eval()


def test_heads_have_the_rows_of_queries_keys_and_values() -> None:
    net = transformer()
    heads = group_of(find_nodes(net, tokens()), "0.layers.0.self_attn")
    assert heads.size == HEADS
    rows = [0, 0, 1, 1, 2, 2, 3, 3]
    assert {(a.parameter, a.dim): a.index.tolist() for a in heads.axes} == {
        ("0.layers.0.self_attn.in_proj_weight", 0): rows * 3,
        ("0.layers.0.self_attn.in_proj_bias", 0): rows * 3,
        ("0.layers.0.self_attn.out_proj.weight", 1): rows,
    }


@pytest.mark.parametrize("kept", ["some", "none", "all"])
def test_net_without_heads_is_the_gated_one(kept: str) -> None:
    net, x = transformer(), tokens()
    nodes = find_nodes(net, x)
    keep = random_masks(nodes.groups, 1)
    keep |= {} if kept == "some" else {name: torch.full_like(mask, kept == "all") for name, mask in keep.items()}
    before = copy.deepcopy(net)
    small, gated = cut(net, nodes.groups, keep), without_readers(net, nodes.groups, keep)
    for training in (False, True):
        for module in (*small.modules(), *gated.modules()):
            module.training = training and not isinstance(module, nn.Dropout)
            if hasattr(module, "in_proj_weight"):
                module.dropout = 0.0  # type: ignore[assignment]
        with torch.set_grad_enabled(training):  # without gradients PyTorch's layer would run a fused kernel
            torch.testing.assert_close(small(x), gated(x), rtol=1e-12, atol=1e-12)
    assert str(net) == str(before) and isinstance(net[0].layers[0].self_attn, nn.MultiheadAttention)  # type: ignore
    found = {name: module.num_heads for name, module in attention_of(small).items()}
    assert found == {name: int(keep[name].sum()) for name in found}


def test_a_net_that_has_lost_heads_can_lose_more() -> None:
    net, x = transformer(), tokens()
    first = {"0.layers.0.self_attn": torch.tensor([True, False, True, True])}
    small = cut(net, find_nodes(net, x).groups, first)
    again = find_nodes(small, x).groups
    assert {group.name: group.size for group in again if "attn" in group.name} == {
        "0.layers.0.self_attn": 3,
        "0.layers.1.self_attn": 4,
    }
    second = {group.name: torch.arange(group.size) != 1 for group in again}
    torch.testing.assert_close(cut(small, again, second)(x), without_readers(small, again, second)(x))


@pytest.mark.parametrize(
    ("module", "call"),
    [
        (attention(kdim=8, vdim=6), lambda m, x: m(x, x, x[..., :6])[0]),
        (attention(add_bias_kv=True), lambda m, x: m(x, x, x)[0]),
        (attention(), lambda m, x: m(x, x, x)[1] @ m(x, x, x)[0]),
        (attention(), lambda m, x: m(x, x, x, attn_mask=torch.zeros(12, 5, 5).double())[0]),
    ],
    ids=["other widths", "bias of keys", "weights are read", "a mask a head"],
)
def test_heads_stay_where_a_plain_module_would_not_do(module: nn.Module, call: Any) -> None:
    net = Net(lambda net, x: net.head(call(net.attention, x).mean(1)), attention=module, head=nn.LazyLinear(2))
    net = net.double()
    net(tokens())
    nodes = find_nodes(net, tokens())
    assert nodes.groups == () and "plain attention module does not offer" in nodes.dense["attention"]


def test_excluded_attention_keeps_its_heads() -> None:
    nodes = find_nodes(transformer(), tokens(), exclude=["0.layers.1.self_attn"])
    assert nodes.dense["0.layers.1.self_attn"] == "is excluded by name"
    assert [group.name for group in nodes.groups if "attn" in group.name] == ["0.layers.0.self_attn"]


def test_a_key_of_zeros_is_not_plain() -> None:
    net = nn.Sequential(attention(add_zero_attn=True))
    make_attention_plain(net)
    assert list(head_groups(net)) == [] and list(attention_of(net)) == ["0"]


def test_attention_is_made_plain_in_place() -> None:
    net = transformer()
    parameters, x = list(net.parameters()), tokens()
    expected = net(x)
    make_attention_plain(net, only_cut=True)
    assert not list(head_groups(net))
    make_attention_plain(net)
    assert [group.size for group in head_groups(net)] == [HEADS] * 2
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    torch.testing.assert_close(net(x), expected)


def test_bad_calls_are_refused() -> None:
    plain = Attention(attention())
    for query, mask in ((tokens()[0], None), (tokens(), torch.zeros(12, 5, 5))):
        with pytest.raises(ValueError, match="needs inputs with a batch dimension, and a mask of shape"):
            plain(query, query, query, attn_mask=mask)
