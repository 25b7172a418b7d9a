"""One vector in place of many parameters."""

import copy

import torch
from torch import nn

from bnn_pyro.inference.training.flat_parameters import ParameterVector
from bnn_pyro.networks import mlp


def net() -> nn.Module:
    return mlp(4, (3,), 2).double()


def test_the_net_computes_the_same_and_follows_the_vector() -> None:
    plain = net()
    held = copy.deepcopy(plain)
    flat = ParameterVector(dict(held.named_parameters()))
    x = torch.randn(5, 4, dtype=torch.float64)
    assert torch.equal(held(x), plain(x))
    with torch.no_grad():
        flat.vector.mul_(2)
    for one, two in zip(held.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, 2 * two)


def test_joined_broadcasts() -> None:
    flat = ParameterVector({"a": nn.Parameter(torch.zeros(2, 3)), "b": nn.Parameter(torch.zeros(2))})
    joined = flat.joined({"a": torch.tensor([[1.0, 2.0, 3.0]]), "b": torch.tensor(7.0), "other": torch.ones(1)})
    assert joined.tolist() == [1, 2, 3, 1, 2, 3, 7, 7]


def test_positions_are_those_of_the_cut_parameters() -> None:
    a, b = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(3))
    flat = ParameterVector({"a": a, "b": b})
    rows, columns = torch.tensor([0, 2]), torch.tensor([1, 3])
    left = flat.positions({"a": {0: rows, 1: columns}, "b": {0: rows}})
    expected = torch.cat([a[rows][:, columns].flatten(), b[rows]])
    assert torch.equal(flat.vector[left], expected)
    assert torch.equal(flat.positions({}), torch.arange(15))
