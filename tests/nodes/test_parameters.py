"""Where the channels of layers are found."""

import torch
from torch import nn

from bnn_pyro.nodes.parameters import Parameters
from tests.nodes.nets import batch_norm, convolutions, tied, transposed


def test_sides_of_convolutions_and_batch_norms() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, groups=4))
    parameters = Parameters(net)
    assert parameters.sides(net[0], is_output_side=True) == [("0.weight", 0), ("0.bias", 0)]
    assert parameters.sides(net[0], is_output_side=False) == [("0.weight", 1)]
    norm = [("1.weight", 0), ("1.bias", 0), ("1.running_mean", 0), ("1.running_var", 0)]
    assert parameters.sides(net[1], is_output_side=True) == parameters.sides(net[1], is_output_side=False) == norm
    depthwise = [("2.weight", 0), ("2.bias", 0)]
    assert parameters.sides(net[2], is_output_side=True) == parameters.sides(net[2], is_output_side=False) == depthwise
    assert parameters.sides(nn.Linear(2, 2), is_output_side=True) == []  # of another net


def test_sides_are_written_read_or_kept() -> None:
    parameters = Parameters(batch_norm())
    assert parameters.is_written(("0.weight", 0)) and parameters.is_written(("1.bias", 0))
    assert parameters.is_read(("3.weight", 1)) and not parameters.is_read(("1.running_mean", 0))
    assert parameters.is_buffer(("1.running_mean", 0)) and not parameters.is_written(("1.running_mean", 0))


def test_rows_of_a_transposed_convolution_lie_along_its_second_dimension() -> None:
    parameters = Parameters(transposed())
    side, rows = parameters.rows("2")
    assert side == ("2.weight", 1) and rows.tolist() == [0, 1, 2, 3, 4]
    assert parameters.length(("2.weight", 0)) == 4 and parameters.length(("9.weight", 0)) == 0


def test_only_linear_layers_can_be_empty() -> None:
    parameters = Parameters(convolutions())
    assert parameters.are_linear([("6.weight", 0), ("6.bias", 0), ("8.weight", 1)])
    assert not parameters.are_linear([("3.weight", 0), ("6.weight", 1)])


def test_tied_layers_share_their_sides() -> None:
    net = tied()
    parameters = Parameters(net)
    assert parameters.sides(net.b, is_output_side=True) == [("a.weight", 0), ("b.bias", 0)]
    assert parameters.writers[("a.weight", 0)] == "a"


def test_grouped_convolutions_are_told_apart() -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 2, 3), nn.LayerNorm(2))
    parameters = Parameters(net)
    assert list(parameters.layers) == ["1"] and list(parameters.refused) == ["0"]
    assert "grouped convolution" in parameters.refused["0"]
    assert "'2' (LayerNorm), which takes its statistics" in str(parameters.obstacle(net[2]))
    assert parameters.obstacle(net[1]) is None and parameters.obstacle(nn.LayerNorm(2)) is None
    assert parameters.obstacle(net[2].weight) is None  # by itself it would be one number per channel


def test_names_of_the_inputs_do_not_clash() -> None:
    assert Parameters(nn.ModuleDict({"inputs": nn.Linear(2, 2)})).input_group == "network_inputs"
    assert Parameters(nn.Sequential(nn.Linear(2, 2))).input_group == "inputs"
    assert Parameters(nn.Linear(2, 2)).rank(("bias", 0)) == (1, 0)
    assert torch.is_tensor(Parameters(nn.Linear(2, 2)).tensors["weight"])
