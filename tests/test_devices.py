"""A device that is not there is refused in one line."""

from collections.abc import Callable

import pytest
import torch

from bnn_pyro.devices import checked_device, device_count, has_double, with_double


def test_a_device_that_is_there() -> None:
    assert checked_device("cpu") == torch.device("cpu") == checked_device(torch.device("cpu"))


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", 1.5])
def test_what_is_no_device(name: object) -> None:
    with pytest.raises(ValueError, match="device must be cpu or cuda, got"):
        checked_device(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["meta", "hpu"])
def test_a_device_that_computes_nothing_here(name: str) -> None:
    with pytest.raises(ValueError, match=f"device must be one of cpu, cuda, mps, xpu.*got '{name}'"):
        checked_device(name)


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_a_device_that_is_not_there(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnn_pyro.devices.device_count", lambda asked: 0)
    for name in (kind, f"{kind}:7"):
        with pytest.raises(ValueError, match=f"where torch finds no {kind.upper()} device, got '{name}'"):
            checked_device(name)


def test_a_number_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnn_pyro.devices.device_count", lambda asked: 2)
    assert checked_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match=r"those that are there \(cuda:0, cuda:1\), got 'cuda:7'"):
        checked_device("cuda:7")


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_the_number_of_devices(kind: str) -> None:
    there: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "xpu": torch.xpu.is_available,
    }
    assert (device_count(kind) > 0) == there[kind]()


def test_double_precision_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(2)
    assert has_double(x.device) and with_double(x) is x

    def refused(*args: object, **kwargs: object) -> None:
        raise TypeError("the MPS framework doesn't support float64")

    monkeypatch.setattr(torch, "empty", refused)
    assert not has_double.__wrapped__(torch.device("mps"))
