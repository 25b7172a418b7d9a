"""Parameters as views of one vector: values, gradients, positions, and memory of their own afterwards."""

import copy

import torch
from torch import Tensor, nn

from bnn_pyro.inference.training.flat_parameters import ParameterVector, gradients_of
from bnn_pyro.networks import mlp


def net() -> nn.Module:
    return mlp(4, (3,), 2).double()


def test_the_net_computes_the_same_and_follows_the_vector() -> None:
    plain = net()
    held = copy.deepcopy(plain)
    flat = ParameterVector(dict(held.named_parameters()))
    x = torch.randn(5, 4, dtype=torch.float64)
    assert torch.equal(held(x), plain(x))
    flat.values.mul_(2)
    for one, two in zip(held.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, 2 * two)


def parameters(*shapes: tuple[int, ...]) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return {f"p{i}": nn.Parameter(value) for i, value in enumerate(values)}


SHAPES = ((2, 3), (), (4,), (0, 2), (1, 2, 2))


def test_parameters_become_views() -> None:
    named = parameters(*SHAPES)
    before = [p.detach().clone() for p in named.values()]
    flat = ParameterVector(named)
    assert flat.values.shape == (6 + 1 + 4 + 0 + 4,) and not flat.values.requires_grad
    assert all(torch.equal(p, v) and p.requires_grad for p, v in zip(flat.parameters, before, strict=True))
    flat.values.mul_(2)
    assert all(torch.equal(p, 2 * value) for p, value in zip(flat.parameters, before, strict=True))
    views = flat.views(flat.values)
    assert views.keys() == named.keys()
    assert all(views[name].data_ptr() == p.data_ptr() and views[name].shape == p.shape for name, p in named.items())


def test_release_gives_parameters_memory_of_their_own() -> None:
    flat = ParameterVector(parameters(*SHAPES))
    flat.release()
    before = [p.detach().clone() for p in flat.parameters]
    flat.values.zero_()
    assert all(torch.equal(p, value) for p, value in zip(flat.parameters, before, strict=True))
    assert all(p.untyped_storage().nbytes() == p.numel() * p.element_size() for p in flat.parameters)


def test_gradients_side_by_side() -> None:
    flat = ParameterVector(parameters((2, 2), (3,)))
    ours, theirs = torch.arange(4.0, dtype=torch.float64).view(2, 2).t(), torch.ones(3, dtype=torch.float64)
    both = flat.gradient([ours, theirs])
    assert both is not None and both.tolist() == [0, 2, 1, 3, 1, 1, 1]
    one = flat.gradient([None, theirs])
    assert one is not None and one.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert flat.gradient([None, None]) is None
    alone = ParameterVector(parameters((2, 2))).gradient([ours])
    assert alone is not None and alone.tolist() == [0, 2, 1, 3] and alone.is_contiguous()


def test_gradients_of_what_moves() -> None:
    used, unused, fixed = parameters((2,), (3,), (2,)).values()
    fixed.requires_grad_(False)

    def loss(first: Tensor) -> Tensor:
        return (first * fixed).sum()

    gradient, *rest = gradients_of(loss(used), [used, unused, fixed])
    assert gradient is not None and torch.equal(gradient, fixed) and rest == [None, None]
    assert gradients_of(loss(used.detach()), [used, unused, fixed]) == [None] * 3


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
    assert torch.equal(flat.values[left], expected)
    assert torch.equal(flat.positions({}), torch.arange(15))
