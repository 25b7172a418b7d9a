"""Networks as files that run elsewhere: programs of torch, ONNX, or plain weights."""

import copy
import importlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from bnn_pyro.saving import save_net

_EXAMPLE_ROWS = 2  # torch.export takes a size of 1 for a constant


def export_net(net: nn.Module, example_input: Tensor, path: str | Path, *, form: str = "pt2") -> None:
    """Write a network to a file, as a program that takes any number of rows, or as weights.

    Args:
        net: The network; it is left alone, and written in evaluation mode.
        example_input: Input of the network with a row or more, shape ``(rows, ...)``.
        path: The file, or the folder for ``weights``.
        form: ``pt2``, a program that `torch.export.load` reads where there is torch alone; ``onnx``, which needs the
            packages of the extra ``export``; or ``weights``, the folder that `bnn_pyro.saving.save_net` writes.

    Raises:
        ValueError: If there is no such form, no row, or a package that is needed is not installed.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    if not len(example_input):
        raise ValueError(f"example_input must have a row, got shape {tuple(example_input.shape)}")
    plain = copy.deepcopy(net).cpu().eval().requires_grad_(False)
    rows = torch.arange(_EXAMPLE_ROWS) % len(example_input)
    FORMS[form](plain, example_input.detach().cpu()[rows], Path(path))


def check_target(path: str | Path) -> None:
    """Check that a file or folder may be written: it is not there yet, and the folder around it is.

    Args:
        path: The file or folder.

    Raises:
        ValueError: If it may not.
    """
    if Path(path).exists():
        raise ValueError(f"out must not exist yet, got '{path}'; name another file or remove it")
    if not Path(path).parent.is_dir():
        raise ValueError(f"out must be in a folder that exists, got '{path}'")


def _export_program(net: nn.Module, x: Tensor, path: Path) -> None:
    torch.export.save(_program(net, x), path)


def _export_onnx(net: nn.Module, x: Tensor, path: Path) -> None:
    try:
        importlib.import_module("onnxscript")  # what torch writes ONNX by
    except ImportError as error:
        raise ValueError(
            f"form onnx needs packages that are not installed ({error}): pip install 'bnn_pyro[export]', or take pt2"
        ) from error
    torch.onnx.export(_program(net, x), dynamo=True, verbose=False).save(path)  # type: ignore[union-attr]


def _program(net: nn.Module, x: Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("rows")},), strict=False)


def _save_weights(net: nn.Module, x: Tensor, path: Path) -> None:
    save_net(net, path)


FORMS: dict[str, Callable[[nn.Module, Tensor, Path], None]] = {
    "pt2": _export_program,
    "onnx": _export_onnx,
    "weights": _save_weights,
}
"""The forms by name."""
