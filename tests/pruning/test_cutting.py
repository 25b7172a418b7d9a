"""A net that is cut computes what the whole net does when nobody reads the removed nodes."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.nodes import Axis, NodeGroup, find_nodes
from bnn_pyro.nodes.kinds import kind_of
from bnn_pyro.pruning.cutting import InputSelection, cut, cut_inputs, kept_positions, split_selection, with_selection
from tests.nodes.nets import CASES, concat, mlp, nodes_of, random_masks, tied, without_readers


def all_nodes(groups: Sequence[NodeGroup], kept: bool) -> dict[str, Tensor]:
    """Keep all nodes, or none."""
    return {group.name: torch.full((group.size,), kept) for group in groups}


MASKS: dict[str, Callable[[Sequence[NodeGroup]], dict[str, Tensor]]] = {
    "random 0": lambda groups: random_masks(groups, 0),
    "random 1": lambda groups: random_masks(groups, 1),
    "random 2": lambda groups: random_masks(groups, 2),
    "all": lambda groups: all_nodes(groups, True),
    "none": lambda groups: all_nodes(groups, False),
}


def expected_shape(name: str, net: nn.Module, groups: Sequence[NodeGroup], keep: dict[str, Tensor]) -> list[int]:
    """Count along each dimension the positions whose node, in every group, is kept."""
    shape = []
    for dim, length in enumerate(dict((*net.named_parameters(), *net.named_buffers()))[name].shape):
        axes = [
            (group.standing(keep[group.name]), axis.index)
            for group in groups
            for axis in group.axes
            if (axis.parameter, axis.dim) == (name, dim)
        ]
        shape.append(sum(all(i[p] < 0 or bool(mask[i[p]]) for mask, i in axes) for p in range(length)))
    return shape


def network_of(small: nn.Module) -> nn.Module:
    """The net itself, without the selection of its inputs."""
    return small.get_submodule("network") if hasattr(small, "network") else small


@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("name", CASES)
def test_cut_net_computes_the_same(name: str, masks: str) -> None:
    net, x, nodes = nodes_of(name)
    keep = MASKS[masks](nodes.groups)
    small = cut(net, nodes.groups, keep)
    expected = without_readers(net, nodes.groups, keep)(x)
    torch.testing.assert_close(small(x), expected, rtol=1e-12, atol=1e-12)

    inner = network_of(small)
    for tensor, value in (*inner.named_parameters(), *inner.named_buffers()):
        assert list(value.shape) == expected_shape(tensor, net, nodes.groups, keep)
    for layer in inner.modules():
        for attribute, leaf, dim in kind.sizes if (kind := kind_of(layer)) else ():
            tensor = getattr(layer, leaf)
            assert tensor is None or tensor.shape[dim] == getattr(layer, attribute)


@pytest.mark.parametrize("name", CASES)
def test_groups_without_a_mask_keep_all_nodes(name: str) -> None:
    net, x, nodes = nodes_of(name)
    last = nodes.groups[-1]
    keep = all_nodes(nodes.groups, True) | random_masks([last], seed=3)
    small = cut(net, nodes.groups, {last.name: keep[last.name]})
    torch.testing.assert_close(small(x), without_readers(net, nodes.groups, keep)(x), rtol=1e-12, atol=1e-12)


def test_number_of_parameters_by_hand() -> None:
    """5-6-4-2 without the second bias becomes 3-2-3-2."""
    net, _, nodes = nodes_of("mlp")
    kept = {"inputs": 3, "0": 2, "3": 3}
    keep = {group.name: torch.arange(group.size) < kept[group.name] for group in nodes.groups}
    small = cut(net, nodes.groups, keep)
    assert sum(parameter.numel() for parameter in small.parameters()) == (3 * 2 + 2) + 2 * 3 + (3 * 2 + 2)


@pytest.mark.parametrize(
    ("name", "masks"),
    [
        ("mlp", "random 0"),
        ("residual", "random 1"),
        ("concat", "none"),
        ("convolutions", "random 0"),
        ("residual_convolutions", "random 1"),
        ("dense_block", "random 0"),
        ("squeeze_and_excitation", "none"),
        ("depthwise", "none"),
        ("transposed", "random 0"),
    ],
)
def test_cut_net_can_be_exported(name: str, masks: str) -> None:
    net, x, nodes = nodes_of(name)
    keep = MASKS[masks](nodes.groups)
    exported = torch.export.export(cut(net, nodes.groups, keep), (x,), strict=False).module()
    expected = without_readers(net, nodes.groups, keep)(x)
    torch.testing.assert_close(exported(x), expected, rtol=1e-12, atol=1e-12)


def test_without_any_node_the_biases_are_left() -> None:
    net, x, nodes = nodes_of("mlp")
    small = cut(net, nodes.groups, all_nodes(nodes.groups, False))
    assert torch.equal(small(x), net.get_parameter("5.bias").expand(7, 2))


def test_inputs_are_selected_before_the_net() -> None:
    net, x, nodes = nodes_of("mlp")
    small = cut(net.train(), nodes.groups, {"inputs": torch.tensor([True, False, False, True, True])})
    assert isinstance(small, nn.Sequential)
    select = small.select
    assert isinstance(select, InputSelection)
    assert torch.equal(select(x), x[:, [0, 3, 4]])
    assert "kept=3" in repr(select) and small.state_dict()["select.index"].tolist() == [0, 3, 4]
    assert all(module.training for module in small.modules())
    assert list(dict(small.named_children())) == ["select", "network"]
    assert not cut(net.eval(), nodes.groups, {"inputs": torch.arange(5) < 2}).training


def test_selection_is_put_before_a_net_and_taken_away_again() -> None:
    net = mlp().train()
    net[5].eval()  # type: ignore[index]
    index = torch.tensor([0, 3, 1, 4, 2])
    selecting = with_selection(net, index)
    assert [module.training for module in selecting.get_submodule("network").modules()] == [
        module.training for module in net.modules()
    ]
    inner, same = split_selection(selecting)
    assert inner is net and same is not None and torch.equal(same, index)
    assert with_selection(net, None) is net and split_selection(net) == (net, None)


def test_no_selection_where_all_inputs_stay() -> None:
    net, _, nodes = nodes_of("mlp")
    small = cut(net, nodes.groups, all_nodes(nodes.groups, True))
    assert [name for name, _ in small.named_modules()] == [name for name, _ in net.named_modules()]


def test_the_net_is_left_alone_and_shares_no_memory() -> None:
    net, x, nodes = nodes_of("concat")
    net(x).sum().backward()
    before, gradient = copy.deepcopy(net.state_dict()), net.get_parameter("head.weight").grad
    small = cut(net, nodes.groups, {"a": torch.tensor([True, False, True, False])})
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.fill_(9.0)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.get_parameter("head.weight").grad is gradient
    assert all(parameter.grad is None for parameter in small.parameters())


def test_old_storage_is_freed_and_new_parameters_are_contiguous() -> None:
    net, _, nodes = nodes_of("mlp")
    for parameter in cut(net, nodes.groups, random_masks(nodes.groups, 0)).parameters():
        assert parameter.is_contiguous()
        assert parameter.untyped_storage().nbytes() == parameter.numel() * parameter.element_size()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_mode_and_requires_grad_are_kept(dtype: torch.dtype) -> None:
    net = mlp().to(dtype).train()
    net[5].eval()  # type: ignore[index]
    net.get_parameter("0.weight").requires_grad_(False)
    groups = find_nodes(net, torch.randn(7, 5, dtype=dtype)).groups
    small = cut(net, groups, random_masks(groups, 0))
    assert [module.training for module in small.modules()] == [module.training for module in net.modules()]
    for name, parameter in small.named_parameters():
        assert parameter.dtype == dtype and parameter.requires_grad == (name != "0.weight")


def test_tied_weights_stay_tied() -> None:
    net = tied().double()
    groups = find_nodes(net, torch.randn(7, 5)).groups
    small = cut(net, groups, {"a": torch.tensor([True, False, True, False])})
    assert small.get_submodule("a").weight is small.get_submodule("b").weight
    assert small.get_parameter("a.weight").shape == (2, 5)


@pytest.mark.parametrize("name", ["mlp", "concat", "residual_convolutions", "depthwise", "squeeze_and_excitation"])
@pytest.mark.parametrize("masks", ["random 0", "none"])
@pytest.mark.parametrize("multiple", [2, 4])
def test_channels_are_rounded_up_to_a_multiple(name: str, masks: str, multiple: int) -> None:
    net, x, nodes = nodes_of(name)
    keep = MASKS[masks](nodes.groups)
    small = cut(net, nodes.groups, keep, multiple=multiple)
    torch.testing.assert_close(small(x), without_readers(net, nodes.groups, keep)(x), rtol=1e-12, atol=1e-12)
    inner = network_of(small)
    for group in nodes.groups:
        if group.writers:
            axis, kept = group.writers[0], int(keep[group.name].sum())
            left = inner.get_parameter(axis.parameter).shape[axis.dim]
            least = kept if group.can_be_empty else max(kept, 1)
            assert left == min(-(-least // multiple) * multiple, group.size)


def test_which_nodes_fill_up_to_a_multiple() -> None:
    group = NodeGroup("a", 6, writers=(Axis("a.weight", 0, torch.arange(6)),), readers=())
    keep = torch.tensor([False, True, False, False, True, True])
    assert group.standing(keep, multiple=4).tolist() == [True, True, False, False, True, True]
    assert group.standing(keep, multiple=8).all() and group.standing(keep).equal(keep)
    assert group.standing(torch.zeros(6, dtype=torch.bool), multiple=4).sum() == 0
    never_empty = replace(group, can_be_empty=False)
    assert never_empty.standing(torch.zeros(6, dtype=torch.bool)).tolist() == [True, *[False] * 5]
    inputs = replace(group, writers=())
    assert inputs.standing(keep, multiple=4).equal(keep)


def test_a_cut_net_can_be_cut_again() -> None:
    net, x, nodes = nodes_of("residual")
    keep = {"stem": torch.arange(6) != 2, "blocks.0.up": torch.arange(7) > 3}
    once = cut(net, nodes.groups, keep)
    again = find_nodes(once, x).groups
    assert {group.name: group.size for group in again} == {"stem": 5, "blocks.0.up": 3, "blocks.1.up": 7}
    twice = cut(once, again, {"stem": torch.arange(5) != 4})
    torch.testing.assert_close(
        twice(x), cut(net, nodes.groups, keep | {"stem": torch.tensor([1, 1, 0, 1, 1, 0]).bool()})(x)
    )


def test_kept_positions_cut_whatever_is_shaped_like_a_parameter() -> None:
    net, _, nodes = nodes_of("concat")
    keep = {"inputs": torch.arange(5) > 0, "a": torch.tensor([True, False, True, True]), "b": torch.ones(3) > 0}
    positions = kept_positions(net, nodes.groups, keep)
    assert positions["a.weight"][0].tolist() == [0, 2, 3] and positions["a.weight"][1].tolist() == [1, 2, 3, 4]
    assert positions["head.weight"][1].tolist() == [0, 2, 3, 5, 6, 7, 8, 9, 10, 11]
    assert positions["a.bias"][0].tolist() == [0, 2, 3]
    assert set(positions) == {"a.weight", "a.bias", "b.weight", "head.weight"} and set(positions["b.weight"]) == {1}


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({"c": torch.ones(4) > 0}, "keep must be masks of the groups a, b; got one of 'c'"),
        (
            {"a": torch.ones(3) > 0},
            r"keep\['a'\] must be a bool tensor of shape \(4,\); got torch.bool of shape \(3,\)",
        ),
        ({"a": torch.ones(4)}, "got torch.float32 of shape"),
        ({"a": [True] * 4}, "got list"),
    ],
)
def test_bad_masks_are_refused(keep: dict[str, Tensor], message: str) -> None:
    net = concat()
    groups = find_nodes(net, torch.randn(7, 5)).groups
    with pytest.raises(ValueError, match=message):
        cut(net, groups, keep)


def test_groups_of_another_net_are_refused() -> None:
    net, _, nodes = nodes_of("concat")
    small = cut(net, nodes.groups, {"a": torch.arange(4) > 1})
    with pytest.raises(
        ValueError, match="'a' needs dim 0 of 'a.weight' to have length 4, got length 2. Call find_nodes"
    ):
        cut(small, nodes.groups[1:], {})
    with pytest.raises(ValueError, match="multiple must be at least 1, got 0"):
        cut(net, nodes.groups, {}, multiple=0)
    with pytest.raises(ValueError, match="of 'a.weight' to have length 4, got none"):
        cut(mlp(), nodes.groups[1:], {})


@pytest.mark.gpu
def test_cut_on_a_gpu() -> None:
    net, x = concat().double().cuda(), torch.randn(7, 5, device="cuda", dtype=torch.float64)
    groups = find_nodes(net, x, inputs=True).groups
    keep = random_masks(groups, 0)  # on the CPU
    small = cut(net, groups, keep)
    torch.testing.assert_close(small(x), without_readers(net, groups, keep)(x), rtol=1e-12, atol=1e-12)
    assert all(tensor.is_cuda for tensor in small.state_dict().values())


def test_a_net_reads_some_of_its_inputs() -> None:
    net, x, reads = mlp().double().eval(), torch.randn(6, 5, dtype=torch.float64), torch.tensor([0, 3])
    small, closed = cut_inputs(net, x, reads), x.clone()
    closed[:, [1, 2, 4]] = 0.0
    assert torch.allclose(small(x[:, reads]), net(closed), atol=1e-14) and net(x).shape == (6, 2)
    with pytest.raises(ValueError, match=r"reads must have numbers of the 5 features, from 0, got \[0, 5\]"):
        cut_inputs(net, x, torch.tensor([0, 5]))
    with pytest.raises(ValueError, match=r"reads must be increasing, got \[3, 0\]"):
        cut_inputs(net, x, torch.tensor([3, 0]))
    images, image = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(18, 1)), torch.zeros(2, 1, 5, 5)
    with pytest.raises(ValueError, match="inputs that can be removed one by one"):
        cut_inputs(images, image, torch.tensor([0, 3]))
