"""Whether the emulated device works in this torch: run in a process of its own, which may not survive it."""

import os

import torch
from torch import nn

from tests.emulated_cuda.device import install, waits


def main() -> None:
    """Compute, draw, go backwards and wait on the device."""
    install()
    x = torch.arange(6.0, device="cuda").view(2, 3)
    expect("a product", torch.equal((x @ x.t()).cpu(), torch.tensor([[5.0, 14.0], [14.0, 50.0]])))
    torch.cuda.manual_seed(1)
    first = torch.randn(3, device="cuda")
    torch.cuda.manual_seed(1)
    expect("a seed", torch.equal(first, torch.randn(3, device="cuda")))
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 1)).cuda()
    net(torch.randn(4, 1, 4, 4, device="cuda")).square().mean().backward()
    expect("a gradient", all(p.grad is not None and p.grad.is_cuda for p in net.parameters()))
    expect("two devices", refused(lambda: x + torch.ones(2, 3, device="cuda:1")) and refused(lambda: x + torch.ones(3)))
    with waits() as found:
        x.sum().item()
    expect("a wait", sum(found.values()) == 1)


def refused(function: object) -> bool:
    """Return whether torch refuses to compute something."""
    try:
        function()  # type: ignore[operator]
    except RuntimeError as error:
        return "same device" in str(error)
    return False


def expect(what: str, is_right: bool) -> None:
    """Raise an error if something is wrong."""
    if not is_right:
        raise SystemExit(f"{what} is wrong")


if __name__ == "__main__":
    main()
    os._exit(0)  # threads of the emulated device may abort a process that ends as others do
