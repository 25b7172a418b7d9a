"""What a network will cost when nodes are removed, counted without removing them."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves

from bnn_pyro.evaluation.cost import Cost, count_flops, evaluating
from bnn_pyro.input_layout import Inputs, returned_by


def predict_cost(net: nn.Module, positions: Mapping[str, Mapping[int, Tensor]], example_input: Inputs) -> Cost:
    """Count the parameters and FLOPs that a network will have when it is cut.

    The products of a linear layer or convolution shrink with its weight, which counts two-sided: a weight is left when
    both its nodes are. Those of attention shrink with its heads. All other FLOPs stay.

    Args:
        net: The dense network; it is left as it was.
        positions: Parameter -> dimension -> positions that stay, `(kept,)`, as
            `bnn_pyro.pruning.cutting.kept_positions` gives them; what is not named stays whole.
        example_input: Input of the network, `(rows, ...)`, or a tuple or dictionary of several.

    Raises:
        ValueError: If example_input has no rows.
    """
    flops = count_flops(net, example_input)
    sizes = {name: _size_left(parameter, positions.get(name, {})) for name, parameter in net.named_parameters()}
    lost = {id(parameter): parameter.numel() - sizes[name] for name, parameter in net.named_parameters()}
    saved = sum(2 * lost.get(id(weight), 0) * places for weight, places in _products(net, example_input))
    rows = len(tree_leaves(example_input)[0])
    return Cost(parameters=sum(sizes.values()), flops=flops - round(saved / rows))


def _size_left(parameter: Tensor, dims: Mapping[int, Tensor]) -> int:
    """Count the elements of a parameter that is cut."""
    return math.prod(len(dims[dim]) if dim in dims else length for dim, length in enumerate(parameter.shape))


def _products(net: nn.Module, x: Inputs) -> list[tuple[Tensor, float]]:
    """Return, for each call of a layer, its weight and at how many places it is multiplied."""
    found: list[tuple[Tensor, float]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight: Tensor = layer.weight  # type: ignore[assignment]  # of a parametrised layer it is no parameter
        seen = inputs[0] if isinstance(layer, _ConvNd) and layer.transposed else output
        found.append((weight, seen.numel() // weight.shape[0]))

    def note_attention(layer: nn.MultiheadAttention, inputs: tuple[Tensor, ...], output: object) -> None:
        query, key = (x.numel() // layer.embed_dim for x in inputs[:2])
        batch = inputs[0].shape[0 if layer.batch_first else 1] if inputs[0].dim() == 3 else 1
        scores = 2 * query * key // batch * layer.embed_dim  # of queries and keys, and of weights and values
        projections = layer.in_proj_weight.numel() * (query + 2 * key) / 3
        found.append((layer.in_proj_weight, (scores + projections) / layer.in_proj_weight.numel()))
        found.append((layer.out_proj.weight, query))

    layers = [module for module in net.modules() if isinstance(module, nn.Linear | _ConvNd)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    attention = [module for module in net.modules() if isinstance(module, nn.MultiheadAttention)]
    hooks += [layer.register_forward_hook(note_attention) for layer in attention]
    try:
        with evaluating([net]), torch.no_grad():
            returned_by(net, x)
    finally:
        for hook in hooks:
            hook.remove()
    return found
