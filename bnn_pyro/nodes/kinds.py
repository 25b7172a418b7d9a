"""Where the channels of a layer lie in its parameters, for each kind of layer that can be cut."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm


@dataclass(frozen=True)
class LayerKind:
    """Parameters of a kind of layer, with the dimension along which its output, and its input, channels lie.

    A kind without readers passes each channel on by itself, so that its output channels are its input channels, or has
    no input channels, as an embedding.

    Attributes:
        writers: (parameter, dimension) of the output channels, that of the weight first.
        readers: (parameter, dimension) of the input channels.
        buffers: Buffers with one entry a channel.
        sizes: (attribute, parameter or buffer, dimension): what the layer notes of its own shape.
        is_carrier: Whether it does something to each channel by itself and computes none, as a normalisation.
    """

    writers: tuple[tuple[str, int], ...]
    readers: tuple[tuple[str, int], ...] = ()
    buffers: tuple[str, ...] = ()
    sizes: tuple[tuple[str, str, int], ...] = ()
    is_carrier: bool = False


_LINEAR = LayerKind(
    writers=(("weight", 0), ("bias", 0)),
    readers=(("weight", 1),),
    sizes=(("out_features", "weight", 0), ("in_features", "weight", 1)),
)
_CONVOLUTION = LayerKind(
    writers=(("weight", 0), ("bias", 0)),
    readers=(("weight", 1),),
    sizes=(("out_channels", "weight", 0), ("in_channels", "weight", 1)),
)
_TRANSPOSED = LayerKind(
    writers=(("weight", 1), ("bias", 0)),
    readers=(("weight", 0),),
    sizes=(("out_channels", "weight", 1), ("in_channels", "weight", 0)),
)
_DEPTHWISE = LayerKind(
    writers=(("weight", 0), ("bias", 0)),
    sizes=tuple((attribute, "weight", 0) for attribute in ("out_channels", "in_channels", "groups")),
)
_EMBEDDING = LayerKind(writers=(("weight", 1),), sizes=(("embedding_dim", "weight", 1),))
_BATCH_NORM = LayerKind(
    writers=(("weight", 0), ("bias", 0)),
    buffers=("running_mean", "running_var"),
    sizes=(("num_features", "running_mean", 0), ("num_features", "weight", 0)),
    is_carrier=True,
)
_CHANNEL_NORM = LayerKind(  # a GroupNorm with one group per channel
    writers=(("weight", 0), ("bias", 0)),
    sizes=(("num_channels", "weight", 0), ("num_groups", "weight", 0)),
    is_carrier=True,
)
_SLOPES = LayerKind(writers=(("weight", 0),), sizes=(("num_parameters", "weight", 0),), is_carrier=True)

_STATISTICS = "takes its statistics over several channels, so that none can go without a change of the others"
_REFUSED: dict[type[nn.Module], str] = {
    nn.LayerNorm: _STATISTICS,
    nn.RMSNorm: _STATISTICS,
    nn.GroupNorm: _STATISTICS,
    nn.LocalResponseNorm: _STATISTICS,
    _ConvNd: "is a grouped convolution, of which only whole groups could go",
    nn.Embedding: "rescales its rows by their norms over all channels",
    _InstanceNorm: "has no parameter or statistic that tells how many channels are left; affine=True gives it some",
}


def kind_of(module: object) -> LayerKind | None:
    """Tell where the channels of a layer lie.

    Args:
        module: Any object.

    Returns:
        The kind; None for what is no layer that can be cut.
    """
    if isinstance(module, nn.Linear):
        return _LINEAR
    if isinstance(module, _BatchNorm):
        return _BATCH_NORM
    if isinstance(module, _InstanceNorm):
        return _BATCH_NORM if module.affine or module.track_running_stats else None
    if isinstance(module, nn.GroupNorm):
        return _CHANNEL_NORM if module.affine and module.num_groups == module.num_channels else None
    if isinstance(module, nn.PReLU):
        return _SLOPES if module.num_parameters > 1 else None
    if isinstance(module, nn.Embedding):
        return _EMBEDDING if module.max_norm is None else None
    return _kind_of_convolution(module) if isinstance(module, _ConvNd) else None


def _kind_of_convolution(module: _ConvNd) -> LayerKind | None:
    if module.groups == 1:
        return _TRANSPOSED if isinstance(module, _ConvTransposeNd) else _CONVOLUTION
    return _DEPTHWISE if module.groups == module.in_channels == module.out_channels else None


def layers_of(net: nn.Module) -> dict[str, nn.Module]:
    """Find the layers that compute channels: linear ones, convolutions and embeddings.

    Args:
        net: Any network.

    Returns:
        Dotted name -> layer, those of a kind, normalisations left out.
    """
    kinds = ((name, module, kind_of(module)) for name, module in net.named_modules())
    return {name: module for name, module, kind in kinds if kind and not kind.is_carrier}


def refusal(module: object) -> str | None:
    """Say why the channels that reach a module cannot be removed, where its kind is the reason.

    Args:
        module: Any object.

    Returns:
        The reason; None for a layer that can be cut, and for what is not known.
    """
    if kind_of(module) is not None:
        return None
    return next((reason for refused, reason in _REFUSED.items() if isinstance(module, refused)), None)


def correct_sizes(module: nn.Module, kind: LayerKind | None = None) -> None:
    """Let a layer note the shape of its own parameters, after these were cut.

    Args:
        module: Any module; only a layer of a kind notes anything.
        kind: The kind of the layer when it was whole; by default what it is now. A depthwise convolution that was left
            with one channel looks like any other.
    """
    kind = kind or kind_of(module)
    for attribute, leaf, dim in () if kind is None else kind.sizes:
        if (tensor := getattr(module, leaf)) is not None:
            setattr(module, attribute, tensor.shape[dim])
