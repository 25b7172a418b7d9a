"""What is cut can be put back."""

import pytest
import torch

from bnn_pyro.pruning.positions import put_back, select


# ---- positions -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(), (5,), (5, 4), (3, 5, 4)])
def test_what_is_selected_can_be_put_back(shape: tuple[int, ...]) -> None:
    whole = torch.randn(shape)
    dims = {dim: torch.tensor([length - 1, 0]) for dim, length in enumerate(shape) if length > 3}
    part = select(whole, dims)
    assert part.shape == tuple(2 if length > 3 else length for length in shape)
    target = torch.zeros(shape)
    put_back(target, part, dims)
    assert torch.equal(select(target, dims), part)
    assert int(target.count_nonzero()) == part.numel()
