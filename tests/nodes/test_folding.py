"""Channels are folded as torch's operations fold them."""

import numpy as np
import pytest
import torch
from torch.nn.functional import glu, pixel_shuffle

from bnn_pyro.nodes.folding import folded, is_folding, unfolded

GLU, SHUFFLE = "GluBackward0", "PixelShuffleBackward0"


@pytest.mark.parametrize("operation", [GLU, SHUFFLE])
def test_channels_are_folded_as_by_torch(operation: str) -> None:
    x = torch.randn(1, 8, 2, 2, requires_grad=True)
    result = glu(x, 1) if operation == GLU else pixel_shuffle(x, 2)
    assert result.grad_fn is not None and type(result.grad_fn).__name__ == operation and is_folding(operation)
    after = result.shape[1]
    for channel in range(after):
        (slope,) = torch.autograd.grad(result[:, channel].sum(), x, retain_graph=True)
        expected = slope.abs().sum((0, 2, 3)).nonzero().flatten().tolist()
        results, inputs = unfolded(operation, np.array([channel]), 8, after)
        assert inputs.tolist() == expected and set(results.tolist()) == {channel}
        assert set(folded(operation, np.array(expected), 8, after).tolist()) == {channel}


def test_other_operations_are_none() -> None:
    assert not is_folding("MulBackward0") and not is_folding("PixelUnshuffleBackward0")
