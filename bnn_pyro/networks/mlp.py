"""Fully connected nets as plain modules: a perceptron with named layers, and one with residual blocks."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from bnn_pyro.arguments import check_type, check_wholes


def mlp(
    in_features: int,
    hidden: Sequence[int],
    out_features: int,
    *,
    activation: Callable[[], nn.Module] = nn.SiLU,
    bias: bool = True,
) -> nn.Sequential:
    """Build a multi-layer perceptron with the children ``hidden1``, ``activation1``, ``hidden2``, ..., ``output``.

    Each hidden layer is ``h <- activation(W h + b)``. The output layer is linear, and so is a net without hidden ones.

    Args:
        in_features: Number of inputs; the net takes tensors of shape ``(*batch, in_features)``.
        hidden: Width of each hidden layer, from the input on.
        out_features: Number of outputs; the net gives tensors of shape ``(*batch, out_features)``.
        activation: Makes the activation of a hidden layer; called once per layer.
        bias: Whether the layers have biases.

    Returns:
        The net, with PyTorch's own initial values.

    Raises:
        ValueError: A size is not positive.
    """
    _require_positive(in_features=in_features, out_features=out_features)
    check_type("hidden", hidden, Sequence)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    width = in_features
    for depth, next_width in enumerate(hidden, start=1):
        _require_positive(**{f"hidden[{depth - 1}]": next_width})
        layers[f"hidden{depth}"] = nn.Linear(width, next_width, bias=bias)
        layers[f"activation{depth}"] = activation()
        width = next_width
    layers["output"] = nn.Linear(width, out_features, bias=bias)
    return nn.Sequential(layers)


def residual_mlp(
    in_features: int,
    width: int,
    depth: int,
    out_features: int,
    *,
    block_width: int | None = None,
    activation: Callable[[], nn.Module] = nn.SiLU,
) -> "ResidualMLP":
    """Build a perceptron whose layers are residual blocks, ``h <- h + output(act(hidden(act(h))))``.

    Args:
        in_features: Number of inputs; the net takes tensors of shape ``(*batch, in_features)``.
        width: Number of channels that all blocks read from and add to.
        depth: Number of blocks.
        out_features: Number of outputs; the net gives tensors of shape ``(*batch, out_features)``.
        block_width: Number of nodes inside each block; ``width`` by default.
        activation: Makes an activation; called twice per block and once before the head.

    Returns:
        The net, with PyTorch's own initial values.

    Raises:
        ValueError: A size is not positive.
    """
    return ResidualMLP(in_features, width, depth, out_features, block_width=block_width, activation=activation)


class ResidualMLP(nn.Module):
    """A stem, residual blocks that add to its channels, and a head: ``y = head(activation(h))``.

    The skip connections tie the channels of the stem and of all blocks together, whereas the nodes inside a block are
    its own. Source: He, Zhang, Ren and Sun (2016), "Identity Mappings in Deep Residual Networks", less normalisation.

    Args:
        in_features: Number of inputs.
        width: Number of channels that all blocks share.
        depth: Number of blocks.
        out_features: Number of outputs.
        block_width: Number of nodes inside each block; ``width`` by default.
        activation: Makes an activation; called twice per block and once before the head.

    Raises:
        ValueError: A size is not positive.
    """

    def __init__(
        self,
        in_features: int,
        width: int,
        depth: int,
        out_features: int,
        *,
        block_width: int | None = None,
        activation: Callable[[], nn.Module] = nn.SiLU,
    ) -> None:
        super().__init__()
        inner = width if block_width is None else block_width
        _require_positive(
            in_features=in_features, width=width, depth=depth, out_features=out_features, block_width=inner
        )
        self.stem = nn.Linear(in_features, width)
        self.blocks = nn.Sequential(*(_ResidualBlock(width, inner, activation) for _ in range(depth)))
        self.activation = activation()
        self.head = nn.Linear(width, out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs of shape ``(*batch, in_features)`` to outputs of shape ``(*batch, out_features)``.

        Args:
            x: The inputs.

        Returns:
            The outputs.
        """
        output: Tensor = self.head(self.activation(self.blocks(self.stem(x))))
        return output


class _ResidualBlock(nn.Module):
    """``h + output(activation2(hidden(activation1(h))))``."""

    def __init__(self, width: int, block_width: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.activation1 = activation()
        self.hidden = nn.Linear(width, block_width)
        self.activation2 = activation()
        self.output = nn.Linear(block_width, width)

    def forward(self, h: Tensor) -> Tensor:
        change: Tensor = self.output(self.activation2(self.hidden(self.activation1(h))))
        return h + change


def _require_positive(**sizes: int) -> None:
    check_wholes(sizes)
