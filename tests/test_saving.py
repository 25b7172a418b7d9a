"""A pruned net is built again from what is saved beside its weights."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from bnn_pyro.cutting import cut
from bnn_pyro.networks import lenet, mlp, resnet
from bnn_pyro.nodes import find_nodes
from bnn_pyro.saving import architecture_of, build, load_net, save_net
from tests.nodes.nets import CASES, nodes_of, random_masks


@pytest.mark.parametrize("name", ["mlp", "concat", "tied", "residual_convolutions", "dense_block", "depthwise"])
def test_state_loads_into_a_net_that_is_built_from_the_description(name: str) -> None:
    net, x, nodes = nodes_of(name)
    small = cut(net, nodes.groups, random_masks(nodes.groups, 0))
    description = json.loads(json.dumps(architecture_of(small)))
    torch.manual_seed(5)
    built = build(CASES[name].net().double(), description).eval()
    built.load_state_dict(small.state_dict())
    assert torch.equal(built(x), small(x))
    assert str(built) == str(small)  # every layer notes its sizes


def test_description_of_a_dense_net() -> None:
    assert architecture_of(mlp(3, (2,), 1)) == {
        "inputs": None,
        "tensors": {"hidden1.weight": [2, 3], "hidden1.bias": [2], "output.weight": [1, 2], "output.bias": [1]},
    }


@pytest.mark.parametrize("net", [resnet(8, width=4), lenet(filters=(3, 4), hidden=(5,))], ids=["resnet", "lenet"])
def test_a_saved_net_is_loaded(net: nn.Module, tmp_path: Path) -> None:
    x = torch.randn(3, 3, 16, 16) if next(net.parameters()).shape[1] == 3 else torch.randn(3, 1, 28, 28)
    groups = find_nodes(net, x).groups
    small = cut(net, groups, random_masks(groups, 1)).eval()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    save_net(small, tmp_path / "a" / "b")
    loaded = load_net(tmp_path / "a" / "b", net)
    assert torch.equal(loaded(x), small(x)) and not loaded.training
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_a_net_that_selects_its_inputs_is_loaded(tmp_path: Path) -> None:
    net, x, nodes = nodes_of("mlp")
    keep = {"inputs": torch.tensor([True, False, False, True, True]), "0": torch.arange(6) > 2}
    small = cut(net, nodes.groups, keep)
    save_net(small, tmp_path)
    loaded = load_net(tmp_path, CASES["mlp"].net().double())
    assert torch.equal(loaded(x), small(x))


def test_weights_that_are_tied_stay_tied(tmp_path: Path) -> None:
    net, x, nodes = nodes_of("tied")
    small = cut(net, nodes.groups, random_masks(nodes.groups[1:], 0))
    save_net(small, tmp_path)
    loaded = load_net(tmp_path, CASES["tied"].net().double())
    assert loaded.get_submodule("a").weight is loaded.get_submodule("b").weight
    assert torch.equal(loaded(x), small(x))


def test_layers_without_nodes_are_saved(tmp_path: Path) -> None:
    net, x, nodes = nodes_of("mlp")
    small = cut(net, nodes.groups, {group.name: torch.zeros(group.size, dtype=torch.bool) for group in nodes.groups})
    save_net(small, tmp_path)
    assert torch.equal(load_net(tmp_path, net)(x), small(x))


def test_what_is_no_saved_net_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folder must hold a net that save_net wrote"):
        load_net(tmp_path, mlp(3, (2,), 1))
    save_net(mlp(3, (2,), 1), tmp_path)
    with pytest.raises(ValueError, match="they differ in hidden2.bias, hidden2.weight"):
        load_net(tmp_path, mlp(3, (2, 2), 1))
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(ValueError, match="folder must hold a net that save_net wrote"):
        load_net(tmp_path, mlp(3, (2,), 1))
