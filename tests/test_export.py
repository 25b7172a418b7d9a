"""Exported networks compute what the network does, for any number of rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.cutting import cut
from bnn_pyro.export import FORMS, check_target, export_net
from bnn_pyro.networks import lenet, mlp, resnet
from bnn_pyro.nodes import find_nodes
from bnn_pyro.saving import load_net
from tests.nodes.nets import random_masks

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
