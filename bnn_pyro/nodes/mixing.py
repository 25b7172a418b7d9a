"""Operations that join all channels of a tensor in one, or spread one over all, read from the shapes of tensors.

A dependency graph takes each operation without parameters to work channel by channel. The mean over the channels does
not, nor does the product with a map of one channel, as in spatial attention.
"""

from __future__ import annotations

from collections.abc import Sequence

IS_MIXED = "its channels are mixed before they are read"
IS_SPREAD = "it is a single channel that is multiplied with, or added to, several others"


def channel_dim(shape: Sequence[int], convolved: frozenset[int]) -> int:
    """Tell which dimension of a tensor its channels are.

    Args:
        shape: The shape of a tensor, a batch.
        convolved: The numbers of dimensions of the tensors that convolutions of the net read.

    Returns:
        1 for what a convolution could read, else the last dimension.
    """
    return 1 if len(shape) in convolved else len(shape) - 1


def holds(shape: Sequence[int], channels: int, convolved: frozenset[int]) -> bool:
    """Tell whether a tensor can have so many channels, where its channels are taken to be.

    Args:
        shape: The shape of the tensor.
        channels: A number of channels, of which at least the last is known to be in the tensor.
        convolved: The numbers of dimensions of the tensors that convolutions of the net read.

    Returns:
        Whether the dimension is as long; True for a tensor without dimensions.
    """
    return not len(shape) or shape[channel_dim(shape, convolved)] >= channels


def mixing(source: Sequence[int], result: Sequence[int], convolved: frozenset[int]) -> str | None:
    """Tell whether an elementwise operation or a reduction keeps the channels of one of its inputs apart.

    Args:
        source: Shape of the input.
        result: Shape of the result.
        convolved: The numbers of dimensions of the tensors that convolutions of the net read.

    Returns:
        None where it does, as far as the shapes tell; else why no channel of the input can be removed.
    """
    dim = channel_dim(result, convolved)
    if not len(result):
        return IS_MIXED if source and source[channel_dim(source, convolved)] > 1 else None
    if len(source) > len(result):
        return None
    padded = (*[1] * (len(result) - len(source)), *source)
    channels, others = (padded[dim], result[dim]), [i for i in range(len(result)) if padded[i] != result[i]]
    if channels[0] == 1 < channels[1] and all(padded[i] == 1 for i in others):
        return IS_SPREAD
    if len(source) == len(result) and channels[1] == 1 < channels[0] and all(result[i] == 1 for i in others):
        return IS_MIXED
    return None
