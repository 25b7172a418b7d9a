"""The standard noise that a function draws as it runs, in its order, to run another version of it on the same noise."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten

_DRAWS = (aten.randn, aten.randn_like, aten.normal_, aten.rand, aten.rand_like, aten.uniform_)


class Recorded(TorchDispatchMode):
    """Notes what standard normal and uniform draws give."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.noise: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and note a draw."""
        result = func(*args, **(kwargs or {}))
        if _is_draw(func, args):
            self.noise.append(result.clone())
        return result


class Given(TorchDispatchMode):
    """Puts given noise in the place of what would be drawn."""

    def __init__(self, noise: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rest = iter(noise)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and overwrite a draw."""
        result = func(*args, **(kwargs or {}))
        return result.copy_(next(self.rest)) if _is_draw(func, args) else result


def _is_draw(func: Any, args: Sequence[Any]) -> bool:
    bounds = args[1:] if func._schema.is_mutable else ()
    return func.overloadpacket in _DRAWS and tuple(bounds) in ((), (0, 1))


def on(noise: Sequence[Tensor], function: Callable[..., Any], *inputs: Tensor) -> Any:
    """What a function returns with given noise, of which none is left over."""
    with Given(noise) as mode:
        result = function(*inputs)
    assert next(mode.rest, None) is None
    return result


def recorded(function: Callable[..., Any], *inputs: Tensor) -> tuple[Any, list[Tensor]]:
    """What a function returns, and the noise that it drew."""
    with Recorded() as mode:
        result = function(*inputs)
    return result, mode.noise


def assert_same(found: Any, expected: Any, tolerance: float = 1e-9) -> None:
    """Two nests of tensors and None are alike, relative to the largest entry of each tensor."""
    ours, theirs = tree_leaves(found), tree_leaves(expected)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        if other is None:
            assert one is None
            continue
        scale = float(other.abs().max()) if other.numel() else 1.0
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance * max(scale, 1e-3))
