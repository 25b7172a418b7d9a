"""How many chains go through a program side by side: the layout is one of sizes, and blocks divide the chains."""

import pytest
import torch
from torch import Tensor
from torch.func import grad_and_value

from bnn_pyro.tracing.batch import batched, block
from bnn_pyro.tracing.trace import Traced, trace
from tests.models import DOUBLE

BMM = torch.ops.aten.bmm.default


def made(rows: int, width: int) -> Traced:
    """Value and gradient of two hidden layers of one width."""
    x = torch.linspace(-1, 1, 3 * rows, dtype=DOUBLE).reshape(rows, 3)

    def energy(v: Tensor) -> Tensor:
        hidden = torch.tanh(x @ v[: 3 * width].view(3, width))
        hidden = torch.tanh(hidden @ v[3 * width : 3 * width + width**2].view(width, width))
        return (hidden @ v[-width:]).square().sum()

    return trace(grad_and_value(energy), 0.1 * torch.randn(4 * width + width**2, dtype=DOUBLE))


@pytest.mark.parametrize(
    ("width", "chains", "is_first"), [(4, 4, False), (8, 4, True), (8, 16, False), (16, 4, True), (16, 16, True)]
)
def test_both_layouts_give_each_chain_the_program_of_one_vector(width: int, chains: int, is_first: bool) -> None:
    """Of small products, with the chains last, and of large ones, each a batch of the library's."""
    single = made(50, width)
    vectors = torch.randn(chains, 4 * width + width**2, dtype=DOUBLE)
    many = batched(single, chains)
    found = many(vectors.t().contiguous())
    expected = [torch.stack(parts) for parts in zip(*map(single, vectors), strict=True)]
    torch.testing.assert_close([found[0].t(), found[1]], expected)
    graph = trace(lambda v: many(v), vectors.t().contiguous()).graph.graph
    strides = [node.args[0].meta["val"].stride() for node in graph.nodes if node.target is BMM]
    assert strides and all((min(stride[1:]) == 1) is is_first for stride in strides)


def test_blocks_divide_the_chains_and_fill_lanes_where_those_are_last() -> None:
    single = made(10, 6)
    assert block(single, 48) == 48
    assert all(chains % block(single, chains) == 0 for chains in (2, 16, 37, 48, 4096))
    assert block(single, 2**20) < 2**20 and block(single, 2**20) % 16 == 0


def test_blocks_of_large_tensors_are_of_few_chains() -> None:
    """Down to one, where the chains stand first."""
    assert block(made(1000, 16), 64) == 8
    assert block(made(2**13, 16), 64) == 1


@pytest.mark.parametrize(("rows", "least"), [(50, 16), (2**14, 1)])
def test_where_rows_are_many_chains_go_one_by_one(rows: int, least: int) -> None:
    """Of small products too, from 5 nodes on: 16 lanes of 2 ** 14 rows of 8 nodes are 16 MiB."""
    assert block(made(rows, 8), 16) == least
    assert block(made(rows, 3), 16) == 16
