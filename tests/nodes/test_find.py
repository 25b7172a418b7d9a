"""What `find_nodes` finds, what it refuses, and that it leaves the net alone."""

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.nodes import find_nodes
from tests.nodes.nets import CASES, Net, ResidualMLP, Untraceable, axes_of, mlp, nodes_of


@pytest.mark.parametrize("name", CASES)
def test_groups_have_the_names_and_sizes_of_the_layers(name: str) -> None:
    _, _, nodes = nodes_of(name)
    assert {group.name: group.size for group in nodes.groups} == CASES[name].sizes
    assert tuple(nodes.dense) == CASES[name].dense
    assert set(nodes.dense.values()) == {"is the output of the net"}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.has_inputs])
def test_inputs_are_a_group_only_on_request_and_change_nothing_else(name: str) -> None:
    net, x, with_inputs = nodes_of(name)
    nodes = find_nodes(net, x)
    assert [group.name for group in nodes.groups] == [group.name for group in with_inputs.groups[1:]]
    for group, same in zip(nodes.groups, with_inputs.groups[1:], strict=True):
        assert axes_of(group.writers) == axes_of(same.writers) and axes_of(group.readers) == axes_of(same.readers)


def test_inputs_of_a_convolution_cannot_be_removed() -> None:
    net, x, _ = nodes_of("convolutions")
    with pytest.raises(ValueError, match="inputs that can be removed one by one; a convolution reads their last dim"):
        find_nodes(net, x, inputs=True)


def test_inputs_that_are_normalised_cannot_be_removed() -> None:
    net = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="they pass through '0'"):
        find_nodes(net, torch.randn(7, 5), inputs=True)
    assert [group.name for group in find_nodes(net, torch.randn(7, 5)).groups] == ["1"]


def test_a_net_without_layers_has_no_groups() -> None:
    net = Net(lambda net, x: x @ net.weight, weight=nn.Parameter(torch.ones(5, 2)))
    nodes = find_nodes(net, torch.randn(7, 5))
    assert nodes.groups == () and nodes.dense == {}


def test_a_net_that_cannot_be_read_has_no_groups_and_says_why() -> None:
    nodes = find_nodes(Untraceable(), torch.ones(7, 5))
    assert nodes.groups == ()
    assert "cannot be read by Torch-Pruning (RuntimeError: no hooks, please)" in nodes.dense["layer"]
    with pytest.raises(ValueError, match="inputs=True .*which cannot be read by Torch-Pruning"):
        find_nodes(Untraceable(), torch.ones(7, 5), inputs=True)


def test_a_net_without_nodes_has_no_groups() -> None:
    nodes = find_nodes(nn.Linear(5, 2), torch.randn(7, 5))
    assert nodes.groups == () and nodes.dense == {"": "is the output of the net"}


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (Net(lambda net, x: net.b(x + net.a(x)), a=nn.Linear(5, 5), b=nn.Linear(5, 2)), "output channels of 'a'"),
        (Net(lambda net, x: x + net.a(x), a=nn.Linear(5, 5)), "output channels of 'a'"),
        (Net(lambda net, x: torch.cat([x, net.a(x)], -1), a=nn.Linear(5, 5)), "is the output of the net"),
        (nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 2)), r"through '0' \(LayerNorm\)"),
        (nn.Sequential(nn.Softmax(-1), nn.Linear(5, 2)), "mixed before they are read"),
        (Net(lambda net, x: net.a(x[:, :2]) + net.b(x[:, 2:]), a=nn.Linear(2, 1), b=nn.Linear(3, 1)), "does not run"),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 2))), "plain parameter"),
    ],
)
def test_inputs_that_cannot_be_removed_are_refused(net: nn.Module, reason: str) -> None:
    with pytest.raises(ValueError, match=f"inputs=True .*{reason}"):
        find_nodes(net, torch.randn(7, 5), inputs=True)


def test_inputs_group_avoids_the_name_of_a_module() -> None:
    net = Net(lambda net, x: net.last(net.inputs(x).sigmoid()), inputs=nn.Linear(5, 4), last=nn.Linear(4, 2))
    nodes = find_nodes(net, torch.randn(7, 5), inputs=True)
    assert [group.name for group in nodes.groups] == ["network_inputs", "inputs"]
    assert nodes.groups[0].writers == ()


@pytest.mark.parametrize(
    ("excluded", "left"),
    [
        ("stem", ["blocks.0.up", "blocks.1.up"]),
        ("blocks.1.down", ["blocks.0.up", "blocks.1.up"]),
        ("blocks.0.up", ["stem", "blocks.1.up"]),
    ],
)
def test_exclude_leaves_all_dense_that_is_tied_to_a_layer(excluded: str, left: list[str]) -> None:
    nodes = find_nodes(ResidualMLP(), torch.randn(7, 5), exclude=[excluded])
    assert [group.name for group in nodes.groups] == left
    assert nodes.dense[excluded] == "is excluded by name"


@pytest.mark.parametrize(
    ("net", "x", "message"),
    [
        (mlp(), [[1.0] * 5], "example_input must be .* got one of list"),
        (mlp(), torch.ones(7, 5, dtype=torch.long), "a batch that net can be called with; a tensor, int64 .*Long"),
        (mlp(), torch.ones(0, 5), r"example_input must be a non-empty .* shape \(0, 5\)"),
        (mlp(), torch.tensor(1.0), r"example_input must be .* one row per observation in every input, got \(\)"),
        (mlp(), torch.full((2, 5), torch.nan), "example_input must be .* finite values.*; got 10 NaN"),
        (mlp(), torch.ones(7, 4), r"example_input must be a batch that net can be called with; .*\(rows, 4\) .*mat1"),
        (Net(lambda net, x: (net.a(x), x), a=nn.Linear(5, 2)), torch.ones(7, 5), "net must return one .* got tuple"),
        (Net(lambda net, x: net.a(x).argmax(-1), a=nn.Linear(5, 2)), torch.ones(7, 5), "net must return .*int64"),
        (Net(lambda net, x: net.a(x) / 0, a=nn.Linear(5, 2)), torch.ones(7, 5), "net must return finite values"),
    ],
)
def test_bad_input_is_refused(net: nn.Module, x: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_nodes(net, x)


@pytest.mark.parametrize("exclude", [["stem", "missing"], ["blocks.0"], "stem"])
def test_unknown_names_to_exclude_list_the_layers(exclude: Sequence[str]) -> None:
    with pytest.raises(ValueError, match="exclude must be .* stem, blocks.0.up, blocks.0.down, .*, head; got"):
        find_nodes(ResidualMLP(), torch.ones(7, 5), exclude=exclude)


@pytest.mark.parametrize("training", [True, False])
def test_the_net_is_left_alone(training: bool) -> None:
    net = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 4), nn.Linear(4, 2))
    net.train(training)
    net[1].train(not training)
    net[0].weight.requires_grad_(False)
    net(torch.randn(7, 5)).sum().backward()
    hook = net[2].register_forward_hook(lambda *_: None)
    x = torch.randn(7, 5, requires_grad=True)
    before, state, generator = copy.deepcopy(net), copy.deepcopy(net.state_dict()), torch.get_rng_state()
    x_before, parameters = x.detach().clone(), list(net.parameters())
    gradients = [parameter.grad if parameter.grad is None else parameter.grad.clone() for parameter in parameters]

    find_nodes(net, x)

    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert [module.training for module in net.modules()] == [module.training for module in before.modules()]
    assert all(parameter is same for parameter, same in zip(net.parameters(), parameters, strict=True))
    for parameter, same in zip(net.parameters(), before.parameters(), strict=True):
        assert parameter.requires_grad == same.requires_grad
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert parameter.grad is gradient is None or torch.equal(parameter.grad, gradient)  # type: ignore[arg-type]
    assert [len(module._forward_hooks) for module in net.modules()] == [0, 0, 0, 1, 0, 0, 0]
    assert torch.equal(x, x_before) and x.grad is None and x.requires_grad
    hook.remove()


def test_the_result_does_not_depend_on_dtype_mode_or_weights() -> None:
    expected = find_nodes(mlp().double().eval(), torch.randn(7, 5).double(), inputs=True)
    frozen = mlp().requires_grad_(False).train()
    for net, dtype in ((frozen, torch.float32), (mlp().bfloat16(), torch.bfloat16)):
        nodes = find_nodes(net, torch.randn(3, 5, dtype=dtype), inputs=True)
        assert nodes.dense == expected.dense
        for group, same in zip(nodes.groups, expected.groups, strict=True):
            assert group.name == same.name and group.size == same.size
            assert axes_of(group.writers) == axes_of(same.writers) and axes_of(group.readers) == axes_of(same.readers)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradients_may_be_off_outside(context: Callable[[], torch.no_grad]) -> None:
    with context():
        x = torch.randn(7, 5)
        assert [group.name for group in find_nodes(mlp(), x).groups] == ["0", "3"]


@pytest.mark.gpu
def test_nodes_of_a_net_on_a_gpu() -> None:
    net, x = mlp().cuda(), torch.randn(7, 5, device="cuda")
    generators = torch.get_rng_state(), torch.cuda.get_rng_state()
    nodes = find_nodes(net, x, inputs=True)
    assert torch.equal(torch.get_rng_state(), generators[0]) and torch.equal(torch.cuda.get_rng_state(), generators[1])
    assert {group.name: group.size for group in nodes.groups} == CASES["mlp"].sizes
    assert all(axis.index.is_cuda for group in nodes.groups for axis in (*group.writers, *group.readers))
