"""The state of the generators goes there and back."""

import pytest
import torch

from bnn_pyro.inference.generators import random_state, random_state_kept, seeded, set_random_state


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


def test_the_state_is_kept() -> None:
    expected = torch.rand(3)
    torch.manual_seed(0)
    with pytest.raises(KeyError), random_state_kept(torch.device("cpu")):
        torch.rand(5)
        raise KeyError
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("kind", "takes_device"), [("xpu", True), ("mps", False)])
def test_generators_of_other_devices(kind: str, takes_device: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are asked through the device's own module; that of MPS, which has one device, takes no number."""
    found = torch.Generator().manual_seed(3)
    device = torch.device(kind, 0)
    calls: list[tuple[object, ...]] = []

    class Module:
        @staticmethod
        def get_rng_state(*args: object) -> torch.Tensor:
            calls.append(args)
            return found.get_state()

        @staticmethod
        def set_rng_state(state: torch.Tensor, *args: object) -> None:
            calls.append(args)
            found.set_state(state)

        @staticmethod
        def manual_seed(seed: int) -> None:
            found.manual_seed(seed)

    monkeypatch.setattr(torch, "get_device_module", lambda asked: Module)
    expected = torch.rand(2, generator=torch.Generator().manual_seed(1))
    own = torch.rand(2, generator=torch.Generator().manual_seed(3))
    assert set(random_state(device)) == {"cpu", kind}
    with seeded(1, device):
        assert torch.equal(torch.rand(2, generator=found), expected)
    assert torch.equal(torch.rand(2, generator=found), own)
    assert set(calls) == {(device,) if takes_device else ()}


def test_seeded_draws_and_the_state_afterwards() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(7)
    own = torch.rand(2)
    torch.manual_seed(7)
    with pytest.raises(KeyError), seeded(1, torch.device("cpu")):
        assert torch.equal(torch.rand(3), expected)
        raise KeyError
    assert torch.equal(torch.rand(2), own)
    torch.manual_seed(1)
    with seeded(None, torch.device("cpu")):
        assert torch.equal(torch.rand(3), expected)


@pytest.mark.gpu
def test_seeded_draws_on_a_gpu() -> None:
    device = torch.device("cuda")
    torch.cuda.manual_seed(7)
    own = torch.rand(2, device=device)
    torch.cuda.manual_seed(7)
    with seeded(1, device):
        first = torch.rand(3, device=device)
    with seeded(1, device):
        assert torch.equal(torch.rand(3, device=device), first)
    with seeded(1, torch.device("cpu")):
        pass
    assert torch.equal(torch.rand(2, device=device), own)
