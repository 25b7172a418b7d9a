"""Networks as files that run elsewhere: programs of torch, ONNX, or weights with a description of their sizes."""

import copy
import importlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_file, save_model
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from bnn_pyro.identity import digest
from bnn_pyro.input_layout import Inputs, output_of
from bnn_pyro.pruning.cutting import replace_tensors, split_selection, with_selection
from bnn_pyro.storage import whole_file

_EXAMPLE_ROWS = 2  # torch.export takes a size of 1 for a constant


_DESCRIPTION, _WEIGHTS = "architecture.json", "weights.safetensors"
_DIGEST = "sha256"  # key of the metadata in the file of the weights


def export_net(net: nn.Module, example_input: Inputs, path: str | Path, *, form: str = "pt2") -> None:
    """Write a network to a file, as a program that takes any number of rows, or as weights.

    Args:
        net: The network, or a `bnn_pyro.posterior.predictive_net.PredictiveNet`; it is left alone, and written in
            evaluation mode.
        example_input: Input of the network with a row or more, shape ``(rows, ...)``; or a tuple of several, its
            positional arguments, or a dictionary, its keyword arguments.
        path: The file, or the folder for ``weights``.
        form: ``pt2``, a program that `torch.export.load` reads where there is torch alone; ``onnx``, which needs the
            packages of the extra ``export``; or ``weights``, the folder that `bnn_pyro.export.save_net` writes.

    Raises:
        ValueError: If there is no such form, no row, or a package that is needed is not installed.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    for tensor in tree_leaves(example_input):
        if not len(tensor):
            raise ValueError(f"example_input must have a row, got shape {tuple(tensor.shape)}")
    plain = copy.deepcopy(net).cpu().eval().requires_grad_(False)
    rows = torch.arange(_EXAMPLE_ROWS)
    example: Inputs = tree_map_only(Tensor, lambda tensor: tensor.detach().cpu()[rows % len(tensor)], example_input)
    FORMS[form](plain, example, Path(path))


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


def _export_program(net: nn.Module, x: Inputs, path: Path) -> None:
    program = traced_program(net, x)
    with whole_file(path) as partial:
        torch.export.save(program, partial)


def _export_onnx(net: nn.Module, x: Inputs, path: Path) -> None:
    try:
        importlib.import_module("onnxscript")  # what torch writes ONNX by
    except ImportError as error:
        raise ValueError(
            f"form onnx needs packages that are not installed ({error}): pip install 'bnn_pyro[export]', or take pt2"
        ) from error
    torch.onnx.export(traced_program(net, x), dynamo=True, verbose=False).save(path)  # type: ignore[union-attr]


def traced_program(net: nn.Module, x: Inputs) -> torch.export.ExportedProgram:
    """Trace a network to a program of torch's public operations that takes any number of rows.

    Args:
        net: The network, in evaluation mode.
        x: Input of two rows or more, shape ``(rows, ...)``, or a tuple or dictionary of several.

    Returns:
        The program, which returns the output tensor of a net that returns a dictionary or an object. What
        ``torch.export`` raises for a network that it cannot trace is not caught.
    """
    named = dict(x) if isinstance(x, Mapping) else {}
    positional = () if named else (x,) if isinstance(x, Tensor) else tuple(x)
    with torch.no_grad():
        returned = net(*positional, **named)
    if named or not isinstance(returned, Tensor | tuple):
        net = _OutputAlone(net, list(named))
    every_row = torch.export.ShapesCollection()
    rows = torch.export.Dim("rows")
    for tensor in (*positional, *named.values()):
        every_row[tensor] = {0: rows}
    program = torch.export.export(net, positional, named, dynamic_shapes=every_row, strict=False)
    if any(getattr(node.target, "__module__", "").startswith("torch._functorch") for node in program.graph.nodes):
        program = program.run_decompositions({})  # torch.vmap left private operations of this version of torch
    return program


class _OutputAlone(nn.Module):
    """A network without what it returns besides its output, and with the names of its arguments in its signature."""

    def __init__(self, net: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.net = net

        def forward(*inputs: Tensor, **named: Tensor) -> Tensor | tuple[Tensor, ...]:
            found = net(*inputs, **named)
            return found if isinstance(found, tuple) else output_of(found)

        if names:  # torch.export checks its inputs by the names in the signature
            parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
            forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        self.forward = forward


def _save_weights(net: nn.Module, x: Inputs, path: Path) -> None:
    save_net(net, path)


FORMS: dict[str, Callable[[nn.Module, Inputs, Path], None]] = {
    "pt2": _export_program,
    "onnx": _export_onnx,
    "weights": _save_weights,
}
"""The forms by name."""


# ---- weights and sizes -----------------------------------------------------------------------------------------------


class Architecture(TypedDict):
    """The sizes of a network, as ``architecture.json`` holds them.

    Attributes:
        inputs: Number of inputs that a selection before the net passes on; None where there is none.
        tensors: Name -> shape of each parameter and buffer of the net behind it.
    """

    inputs: int | None
    tensors: dict[str, list[int]]


def architecture_of(net: nn.Module) -> Architecture:
    """Describe the sizes of a network, pruned or not.

    Args:
        net: A network as `bnn_pyro.prune` returns it.

    Returns:
        The sizes, as JSON values.
    """
    inner, selection = split_selection(net)
    tensors = (*inner.named_parameters(), *inner.named_buffers())
    return {
        "inputs": None if selection is None else len(selection),
        "tensors": {name: list(tensor.shape) for name, tensor in tensors},
    }


def build(dense: nn.Module, architecture: Architecture) -> nn.Module:
    """Build a network of a described architecture; its weights are arbitrary, for ``load_state_dict`` to fill.

    Args:
        dense: The network before it was pruned, or another one of its class and names; it is left alone.
        architecture: What `architecture_of` said of the pruned network.

    Returns:
        The network, on the device and in the dtype of ``dense``.

    Raises:
        ValueError: If the description is of a network with other parameters or buffers.
    """
    net = copy.deepcopy(dense)
    named = dict((*net.named_parameters(), *net.named_buffers()))
    shapes = architecture["tensors"]
    if set(shapes) != set(named):
        odd = sorted(set(shapes) ^ set(named))
        raise ValueError(
            f"architecture must be that of a net with the parameters and buffers of dense; they differ in "
            f"{', '.join(odd[:5])}{', ...' if len(odd) > 5 else ''}"
        )
    changed = {name: shape for name, shape in shapes.items() if list(named[name].shape) != list(shape)}
    replace_tensors(net, {name: _blank(named[name], shape) for name, shape in changed.items()})
    inputs = architecture["inputs"]
    if inputs is None:
        return net
    device = next((tensor.device for tensor in named.values()), torch.device("cpu"))
    return with_selection(net, torch.arange(inputs, device=device))


def _blank(old: Tensor, shape: list[int]) -> Tensor:
    """Return a tensor of zeros of another shape, a parameter for a parameter."""
    blank = old.detach().new_zeros(shape)
    return nn.Parameter(blank, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else blank


def save_net(net: nn.Module, folder: str | Path) -> None:
    """Save a network's weights, and its architecture beside them.

    The metadata of ``weights.safetensors`` has the SHA-256 of its tensors, by which `load_net` finds damage.

    Args:
        net: A network as `bnn_pyro.prune` returns it.
        folder: Folder to write ``weights.safetensors`` and ``architecture.json`` into; it is made where it is absent.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    (path / _DESCRIPTION).write_text(json.dumps(architecture_of(net), indent=1), encoding="utf-8")
    with whole_file(path / _WEIGHTS) as partial:
        save_model(net, str(partial))  # which leaves out what is tied
        mapped, metadata = _contents(partial)
        tensors = {name: tensor.clone() for name, tensor in mapped.items()}  # the file is written again
        save_file(tensors, partial, metadata={**metadata, _DIGEST: digest(sorted(tensors.items()))})


def _contents(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file of safetensors and its metadata."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _check_weights(path: Path) -> None:
    """Raise if the tensors of a file are not those that were saved; older files have no digest."""
    tensors, metadata = _contents(path)
    if metadata.get(_DIGEST, found := digest(sorted(tensors.items()))) != found:
        raise ValueError(
            f"folder must hold a net that save_net wrote, got '{path.parent}': {path.name} is damaged (its tensors do "
            "not have the SHA-256 that was noted when it was written)"
        )


def load_net(folder: str | Path, dense: nn.Module) -> nn.Module:
    """Load a network that was saved by `save_net`.

    Args:
        folder: The folder.
        dense: The network before it was pruned, or another one of its class and names, such as a new one; it is left
            alone.

    Returns:
        The network, in evaluation mode, on the device and in the dtype of ``dense``.

    Raises:
        ValueError: If the folder holds no network, a damaged one, or one that is not cut from ``dense``.
    """
    path = Path(folder)
    try:
        architecture = json.loads((path / _DESCRIPTION).read_text(encoding="utf-8"))
        net = build(dense, architecture)
        _check_weights(path / _WEIGHTS)
        load_model(net, str(path / _WEIGHTS))
    except SafetensorError as error:
        raise ValueError(
            f"folder must hold a net that save_net wrote, got '{folder}': {_WEIGHTS} is damaged ({error})"
        ) from error
    except (OSError, KeyError, RuntimeError, json.JSONDecodeError) as error:
        raise ValueError(f"folder must hold a net that save_net wrote, got '{folder}' ({error})") from error
    return net.eval()
