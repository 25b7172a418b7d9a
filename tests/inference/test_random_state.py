"""The state of the generators goes there and back."""

import pytest
import torch

from bnn_pyro.inference.random_state import random_state, set_random_state


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_same_numbers_again(device: str) -> None:
    place = torch.device(device)
    state = random_state(place)
    assert set(state) == {"cpu", device}
    first = [torch.rand(3), torch.rand(3, device=place)]
    set_random_state(state, place)
    again = [torch.rand(3), torch.rand(3, device=place)]
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


def test_the_state_of_another_device_is_left_out() -> None:
    state = random_state(torch.device("cpu"))
    first = torch.rand(3)
    set_random_state({**state, "cuda": torch.zeros(16, dtype=torch.uint8)}, torch.device("cpu"))
    assert torch.equal(torch.rand(3), first)
