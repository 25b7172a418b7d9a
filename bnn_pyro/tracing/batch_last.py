"""A traced program of one vector as a program of many, with the chains along the last dimension of every tensor."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx
from torch.func import vmap
from torch.utils._pytree import PyTree, tree_flatten, tree_leaves, tree_map_only, tree_unflatten

from bnn_pyro.tracing.operations import Operation, operation
from bnn_pyro.tracing.trace import Traced

aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class Many:
    """A tensor of each chain.

    Attributes:
        tensor: Shape ``(*shape, chains)``.
    """

    tensor: Tensor

    @property
    def dim(self) -> int:
        """Number of dimensions of one chain's tensor."""
        return self.tensor.dim() - 1


Operand = Tensor | Many
"""One tensor for all chains, or one of each."""


def chains_last(traced: Traced) -> Callable[[Tensor], PyTree]:
    """Returns a program of one vector as a function of many, which run side by side in the lanes of the processor.

    ``torch.func.vmap`` puts the chains first: what is done to the ten nodes of each row of a small network is then done
    ten numbers at a time, and its products are many tiny ones. With the chains last everything runs along them, and a
    product of the data with the weights of all chains is a single one. Trace it before use.

    Args:
        traced: A program of a vector, without noise.

    Returns:
        A function of vectors, shape ``(n, chains)``, that gives what the program gives, each tensor's chains last.
    """

    def run(vectors: Tensor) -> PyTree:
        chains = vectors.shape[-1]
        found: PyTree = None
        given: Iterator[Operand] = iter((Many(vectors), *traced.live))
        values: dict[fx.Node, object] = {}
        for node in traced.graph.graph.nodes:
            if node.op == "placeholder":
                values[node] = next(given)
            elif node.op == "get_attr":
                values[node] = getattr(traced.graph, node.target)
            elif node.op == "output":
                found = tree_map_only((Tensor, Many), lambda part: _whole(part, chains), _filled(node.args[0], values))
            else:
                values[node] = _call(node, _filled(node.args, values), _filled(node.kwargs, values))
        return found

    return run


def _filled(nest: object, values: dict[fx.Node, object]) -> PyTree:
    return tree_map_only(fx.Node, lambda node: values[node], _plain(nest))


def _plain(nest: object) -> object:
    """Returns a nest of an fx graph's own lists and dicts as one of Python's, which ``tree_map`` goes into."""
    if isinstance(nest, (list, tuple)):
        return type(nest)(map(_plain, nest)) if type(nest) in (list, tuple) else list(map(_plain, nest))
    return {name: _plain(part) for name, part in nest.items()} if isinstance(nest, dict) else nest


def _whole(part: Operand, chains: int) -> Tensor:
    """Returns the tensor of all chains, that which is the same for all of them repeated."""
    return part.tensor if isinstance(part, Many) else part.unsqueeze(-1).expand(*part.shape, chains)


def _call(node: fx.Node, args: Sequence[object], kwargs: Mapping[str, object]) -> PyTree:
    """Does what a node does, on many chains where one of its arguments is of many."""
    target = operation(node)
    if target is None or not any(isinstance(leaf, Many) for leaf in tree_leaves((args, kwargs))):
        return cast(Callable[..., object], node.target)(*args, **kwargs)
    value = node.meta.get("val")
    found: PyTree
    if target in _RULES and not kwargs:
        found = _RULES[target](value, *args)
    elif target in _DIM_AT:
        found = _along(target, args, kwargs)
    elif torch.Tag.pointwise in target.tags or target in _POINTWISE:
        found = target(*_aligned(args), **_aligned(kwargs))
    else:
        found = _by_vmap(target, args, kwargs)
    if isinstance(found, Tensor) and isinstance(value, Tensor) and found.dtype != value.dtype:
        found = found.to(value.dtype)  # numbers of a chain are no numbers to the rules of promotion: they have chains
    return tree_map_only(Tensor, Many, found)


def _by_vmap(target: Operation, args: Sequence[object], kwargs: Mapping[str, object]) -> PyTree:
    parts = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Many)]
    same: dict[int, Tensor] = {}  # results that are the same for all chains, which vmap may not return: torch 2.6 fails

    def one(*tensors: Tensor) -> PyTree:
        given = iter(tensors)
        args_, kwargs_ = tree_map_only(Many, lambda _: next(given), (args, kwargs))
        leaves, nest = tree_flatten(target(*args_, **kwargs_))
        for i, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor) and not torch._C._functorch.is_batchedtensor(leaf):
                same[i] = leaf
        leaves = [tensors[0] if i in same or leaf is None else leaf for i, leaf in enumerate(leaves)]  # nor nothing
        return tree_unflatten(leaves, nest)

    leaves, nest = tree_flatten(vmap(one, in_dims=-1, out_dims=-1)(*[part.tensor for part in parts]))
    for i, value in same.items():
        leaves[i] = _whole(value, parts[0].tensor.shape[-1])
    return tree_unflatten(leaves, nest)


# ---- entry by entry --------------------------------------------------------------------------------------------------

_POINTWISE = {
    aten.log_sigmoid_forward.default,
    aten.clone.default,
    aten.detach.default,
    aten.alias.default,
    aten._to_copy.default,
    aten.full_like.default,
    aten.ones_like.default,
    aten.zeros_like.default,
    aten.empty_like.default,
    aten.where.self,
}


def _aligned(nest: PyTree) -> PyTree:
    """Gives tensors that broadcast with each other dimensions to do so with the chains last."""
    leaves = tree_leaves(nest)
    dims = max((_dim(leaf) for leaf in leaves if isinstance(leaf, (Tensor, Many))), default=0)
    return tree_map_only((Tensor, Many), lambda leaf: _with_dims(leaf, dims), nest)


def _dim(value: Operand) -> int:
    return value.dim if isinstance(value, Many) else value.dim()


def _with_dims(leaf: Operand, dims: int) -> Tensor:
    if isinstance(leaf, Tensor):
        return leaf.unsqueeze(-1) if leaf.dim() else leaf
    if leaf.dim == dims:
        return leaf.tensor
    return leaf.tensor.reshape(*[1] * (dims - leaf.dim), *leaf.tensor.shape)


# ---- along dimensions ------------------------------------------------------------------------------------------------

# where the dimension, or the list of them, stands among the arguments
_DIM_AT: dict[object, int] = {
    aten.sum.dim_IntList: 1,
    aten.mean.dim: 1,
    aten.amax.default: 1,
    aten.amin.default: 1,
    aten.logsumexp.default: 1,
    aten.cumsum.default: 1,
    aten._softmax.default: 1,
    aten._log_softmax.default: 1,
    aten._softmax_backward_data.default: 2,
    aten._log_softmax_backward_data.default: 2,
    aten.squeeze.dim: 1,
    aten.squeeze.dims: 1,
    aten.select.int: 1,
    aten.slice.Tensor: 1,
    aten.split.Tensor: 2,
    aten.split_with_sizes.default: 2,
    aten.unbind.int: 1,
}
_ALL_BY_DEFAULT = {aten.amax.default, aten.amin.default}


def _along(target: Operation, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
    at, given = _DIM_AT[target], [*args]
    given += [[] if target in _ALL_BY_DEFAULT else 0] * (at + 1 - len(given))
    (dims,) = {_dim(part) for part in given[:at] if isinstance(part, (Tensor, Many))}
    chosen = given[at]
    if isinstance(chosen, int):
        given[at] = chosen % dims
    else:
        given[at] = [dim % dims for dim in chosen] if isinstance(chosen, Sequence) and chosen else list(range(dims))
    chains = next(part.tensor.shape[-1] for part in given if isinstance(part, Many))
    # a gradient that is the same for all chains, as that of weighted classes, does not broadcast in its operation
    whole = tree_map_only((Tensor, Many), lambda part: _whole(part, chains), given)
    return target(*whole, **kwargs)


def _sum(value: Tensor, x: Many) -> Tensor:
    return x.tensor.sum(list(range(x.dim))) if x.dim else x.tensor


def _reshape(value: Tensor, x: Many, *_: object) -> Tensor:
    return x.tensor.reshape(*value.shape, x.tensor.shape[-1])


def _expand(value: Tensor, x: Many, *_: object) -> Tensor:
    full = _with_dims(x, value.dim())
    return full.expand(*value.shape, full.shape[-1])


def _permute(value: Tensor, x: Many, dims: Sequence[int]) -> Tensor:
    return x.tensor.permute(*[dim % x.dim for dim in dims], x.dim)


def _transpose(value: Tensor, x: Many, one: int = 0, two: int = 1) -> Tensor:
    return x.tensor.transpose(one % x.dim, two % x.dim) if x.dim > 1 else x.tensor


def _cat(value: Tensor, parts: Sequence[Operand], dim: int = 0) -> Tensor:
    chains = next(part.tensor.shape[-1] for part in parts if isinstance(part, Many))
    return torch.cat([_whole(part, chains) for part in parts], dim % value.dim())


# ---- products --------------------------------------------------------------------------------------------------------


def _mm(value: Tensor, a: Operand, b: Operand) -> Tensor:
    """Returns products of matrices, ``(m, d)`` and ``(d, k)``, of each chain."""
    if isinstance(a, Tensor) and isinstance(b, Many):
        d, k, chains = b.tensor.shape
        return (a @ b.tensor.reshape(d, k * chains)).reshape(-1, k, chains)
    if isinstance(a, Many) and isinstance(b, Tensor):
        m, d, chains = a.tensor.shape
        return (b.t() @ a.tensor.transpose(0, 1).reshape(d, m * chains)).reshape(-1, m, chains).transpose(0, 1)
    one, two = _whole(a, 1), _whole(b, 1)
    if one.shape[1] == 1:
        return one * two
    if 1 in (one.shape[0], two.shape[1]):  # a product with a vector, which is fused with what stands around it
        return (one.unsqueeze(2) * two.unsqueeze(0)).sum(1)
    return torch.bmm(one.permute(2, 0, 1), two.permute(2, 0, 1)).permute(1, 2, 0)


def _addmm(value: Tensor, bias: Operand, a: Operand, b: Operand) -> Tensor:
    total: Tensor = torch.add(*_aligned([Many(_mm(value, a, b)), bias]))
    return total


def _mv(value: Tensor, a: Operand, b: Operand) -> Tensor:
    column = Many(b.tensor.unsqueeze(1)) if isinstance(b, Many) else b.unsqueeze(1)
    return _mm(value, a, column).squeeze(1)


def _log_sigmoid_backward(value: Tensor, *parts: Operand) -> Tensor:
    chains = next(part.tensor.shape[-1] for part in parts if isinstance(part, Many))
    found: Tensor = aten.log_sigmoid_backward.default(*[_whole(part, chains) for part in parts])  # does not broadcast
    return found


def _dot(value: Tensor, a: Operand, b: Operand) -> Tensor:
    return (_whole(a, 1) * _whole(b, 1)).sum(0)


_RULES: dict[object, Callable[..., Tensor]] = {
    aten.sum.default: _sum,
    aten.view.default: _reshape,
    aten._unsafe_view.default: _reshape,
    aten.reshape.default: _reshape,
    aten.unsqueeze.default: _reshape,
    aten.expand.default: _expand,
    aten.permute.default: _permute,
    aten.transpose.int: _transpose,
    aten.t.default: _transpose,
    aten.cat.default: _cat,
    aten.mm.default: _mm,
    aten.addmm.default: _addmm,
    aten.mv.default: _mv,
    aten.dot.default: _dot,
    aten.log_sigmoid_backward.default: _log_sigmoid_backward,
}
