"""Exported networks compute what the network does, for any number of rows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_model
from torch import Tensor, nn

from bnn_pyro.export import FORMS, architecture_of, build, check_target, export_net, load_net, save_net
from bnn_pyro.networks import lenet, mlp, resnet
from bnn_pyro.nodes import find_nodes
from bnn_pyro.pruning.cutting import cut
from tests.nodes.nets import CASES, nodes_of, random_masks

NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: mlp(5, (6, 4), 3), (5,)),
    "lenet": (lambda: lenet(filters=(3, 4), hidden=(5,)), (1, 28, 28)),
    "resnet": (lambda: resnet(8, width=4), (3, 16, 16)),
}


def pruned(name: str) -> tuple[nn.Module, nn.Module, Tensor]:
    """A dense net, the same one pruned, still training, and a row of input."""
    make, shape = NETS[name]
    net, x = make(), torch.randn(1, *shape)
    groups = find_nodes(net, x).groups
    return net, cut(net, groups, random_masks(groups, 0)), x


def expected(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        output: Tensor = net.eval()(x)
    return output


@pytest.mark.parametrize("name", NETS)
def test_a_program_takes_any_number_of_rows(name: str, tmp_path: Path) -> None:
    _, net, x = pruned(name)
    export_net(net, x, tmp_path / "net.pt2")
    assert net.training and all(parameter.requires_grad for parameter in net.parameters())
    program = torch.export.load(tmp_path / "net.pt2").module()
    for rows in (1, 2, 7):
        more = torch.randn(rows, *x.shape[1:])
        torch.testing.assert_close(program(more), expected(net, more))


def test_a_program_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(program: Any, file: Any) -> None:
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.export, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        export_net(mlp(5, (6,), 3), torch.zeros(1, 5), tmp_path / "net.pt2")
    assert list(tmp_path.iterdir()) == []


class Twice(nn.Module):
    """A net with two sets of weights, called by ``torch.vmap``."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 3, 5))

    def forward(self, x: Tensor) -> Tensor:
        return torch.vmap(nn.functional.linear, in_dims=(None, 0))(x, self.weight).mean(0)


def test_programs_hold_public_operations_alone(tmp_path: Path) -> None:
    net = Twice()
    export_net(net, torch.zeros(1, 5), tmp_path / "net.pt2")
    program = torch.export.load(tmp_path / "net.pt2")
    called = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert called and all(isinstance(target, torch._ops.OpOverload) for target in called)
    x = torch.randn(7, 5)
    torch.testing.assert_close(program.module()(x), expected(net, x))


@pytest.mark.parametrize("name", NETS)
def test_weights_are_a_folder_that_load_net_reads(name: str, tmp_path: Path) -> None:
    dense, net, x = pruned(name)
    export_net(net, x, tmp_path / "net", form="weights")
    assert torch.equal(load_net(tmp_path / "net", dense)(x), expected(net, x))


@pytest.mark.parametrize("name", NETS)
def test_onnx_takes_any_number_of_rows(name: str, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason=f"{package}, of the extra export, is not installed")
    from onnx.reference import ReferenceEvaluator

    _, net, x = pruned(name)
    export_net(net, x, tmp_path / "net.onnx", form="onnx")
    session: Any = ReferenceEvaluator(str(tmp_path / "net.onnx"))
    for rows in (1, 7):
        more = torch.randn(rows, *x.shape[1:])
        output = session.run(None, {session.input_names[0]: more.numpy()})[0]
        np.testing.assert_allclose(output, expected(net, more).numpy(), rtol=1e-4, atol=1e-5)


def test_onnx_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)  # as if it were not installed
    with pytest.raises(ValueError, match=r"form onnx needs packages .* pip install 'bnn_pyro\[export\]'"):
        export_net(mlp(5, (6,), 3), torch.zeros(1, 5), tmp_path / "net.onnx", form="onnx")
    assert not list(tmp_path.iterdir())


def test_bad_calls_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"form must be one of {', '.join(FORMS)}, got 'tflite'"):
        export_net(mlp(5, (6,), 3), torch.zeros(1, 5), tmp_path / "net", form="tflite")
    with pytest.raises(ValueError, match=r"example_input must have a row, got shape \(0, 5\)"):
        export_net(mlp(5, (6,), 3), torch.zeros(0, 5), tmp_path / "net")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    check_target(tmp_path / "net.pt2")
    with pytest.raises(ValueError, match="out must not exist yet"):
        check_target(tmp_path)
    with pytest.raises(ValueError, match="out must be in a folder that exists"):
        check_target(tmp_path / "absent" / "net.pt2")


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


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    net, x = mlp(30, (40,), 3), torch.randn(2, 30)
    save_net(net, tmp_path)
    path = tmp_path / "weights.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-2000] + bytes(1500) + whole[-500:])
    with pytest.raises(ValueError, match="weights.safetensors is damaged: its tensors do not have the SHA-256"):
        load_net(tmp_path, net)
    for damaged in (bytes(1500) + whole[1500:], whole[:-100], b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="weights.safetensors is damaged"):
            load_net(tmp_path, net)
    path.write_bytes(whole)
    assert torch.equal(load_net(tmp_path, net)(x), expected(net, x))


def test_weights_are_a_file_of_safetensors_as_before(tmp_path: Path) -> None:
    net, x = mlp(5, (6,), 3), torch.randn(2, 5)
    save_net(net, tmp_path)
    path = tmp_path / "weights.safetensors"
    found = load_file(path)
    assert found.keys() == net.state_dict().keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in net.state_dict().items())
    with safe_open(path, framework="pt") as file:
        assert len(file.metadata()["sha256"]) == 64
    save_model(net, str(path))  # as save_net wrote it when there was no digest
    assert torch.equal(load_net(tmp_path, mlp(5, (6,), 3))(x), expected(net, x))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["architecture.json", "weights.safetensors"]


def test_what_is_no_saved_net_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folder must hold a net that save_net wrote"):
        load_net(tmp_path, mlp(3, (2,), 1))
    save_net(mlp(3, (2,), 1), tmp_path)
    with pytest.raises(ValueError, match="they differ in hidden2.bias, hidden2.weight"):
        load_net(tmp_path, mlp(3, (2, 2), 1))
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(ValueError, match="folder must hold a net that save_net wrote"):
        load_net(tmp_path, mlp(3, (2,), 1))
