"""FailuresAsNaN: where a matrix cannot be factorised a program goes on with NaN, and its caller sees it."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bnn_pyro.tracing.operations import Operation

aten = torch.ops.aten

_CHECK = aten._linalg_check_errors.default  # what raises, after the operation that failed
_TELLS = "info"  # the result of an operation that is not 0 where it failed


class FailuresAsNaN(TorchDispatchMode):
    """Gives NaN where a factorisation fails, of a matrix that is not positive definite or singular, and does not raise.

    What a library leaves behind where it fails is finite, and would pass for a right factor. Traced, this becomes a
    part of the program.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self,
        func: Operation,
        types: object,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        if func is _CHECK:
            return None
        found = func(*args, **(kwargs or {}))
        names = [result.name for result in func._schema.returns]
        if _TELLS not in names or not isinstance(found, tuple):
            return found
        failed = found[names.index(_TELLS)] != 0
        return type(found)([_marked(result, failed) for result in found])


def _marked(result: Tensor, failed: Tensor) -> Tensor:
    """Return a result, NaN where it failed."""
    if not (result.is_floating_point() or result.is_complex()):
        return result
    return result.masked_fill(failed.reshape(*failed.shape, *[1] * (result.dim() - failed.dim())), math.nan)
