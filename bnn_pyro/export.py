"""Networks as files that run elsewhere: programs of torch, ONNX, or weights with a description of their sizes."""

import copy
import importlib
import inspect
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save, save_model
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from bnn_pyro.arguments import check_choice, check_path, check_type
from bnn_pyro.fields import VALUES, WHOLE, Rule, check_fields, is_whole, optional
from bnn_pyro.identity import digest
from bnn_pyro.input_layout import Inputs, output_of
from bnn_pyro.pruning.cutting import replace_tensors, split_selection, with_selection
from bnn_pyro.storage import read_json, whole_file

_EXAMPLE_ROWS = 2  # torch.export takes a size of 1 for a constant


_DESCRIPTION, _WEIGHTS = "architecture.json", "weights.safetensors"
_SELECTED = "select.index"  # the tensor of a selection of inputs
_UNHELD = 1 << 20  # numbers of a buffer that need not be in the file
_SHAPE = Rule("a list of whole numbers", lambda value: isinstance(value, list) and all(map(is_whole, value)))
_DIGEST, _SIZES = "sha256", "architecture"  # keys of the metadata in the file of the weights


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
    check_type("net", net, nn.Module)
    check_path("path", path)
    check_choice("form", form, FORMS)
    for tensor in tree_leaves(example_input):
        check_type("example_input", tensor, Tensor)
        if not len(tensor):
            raise ValueError(f"example_input must have a row, got shape {tuple(tensor.shape)}")
    plain = copy.deepcopy(net).cpu().eval().requires_grad_(False)
    rows = torch.arange(_EXAMPLE_ROWS, device="cpu")
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
    buffer = io.BytesIO()  # as torch aborts the interpreter where it cannot write to a file
    torch.export.save(program, buffer)
    _write(buffer.getbuffer(), path)


def _export_onnx(net: nn.Module, x: Inputs, path: Path) -> None:
    try:
        importlib.import_module("onnxscript")  # what torch writes ONNX by
    except ImportError as error:
        raise ValueError(
            f"form onnx needs packages that are not installed ({error}): pip install 'bnn_pyro[export]', or take pt2"
        ) from error
    program = torch.onnx.export(traced_program(net, x), dynamo=True, verbose=False)
    _write(program.model_proto.SerializeToString(), path)  # type: ignore[union-attr]


def _write(content: bytes | memoryview, path: Path) -> None:
    with whole_file(path) as partial:
        partial.write_bytes(content)


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

    The metadata of ``weights.safetensors`` has the SHA-256 of its tensors, by which `load_net` finds damage, and the
    architecture too, so that the one file that was written last is enough. Both files are written whole or not at all.

    Args:
        net: A network as `bnn_pyro.prune` returns it.
        folder: Folder to write ``weights.safetensors`` and ``architecture.json`` into; it is made where it is absent.
    """
    check_type("net", net, nn.Module)
    check_path("folder", folder)
    path, sizes = Path(folder), architecture_of(net)
    is_new = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    try:
        _write_net(net, path, sizes)
    except BaseException:
        if is_new:
            path.rmdir()  # nothing is left in it
        raise


def _write_net(net: nn.Module, path: Path, sizes: Architecture) -> None:
    with whole_file(path / _DESCRIPTION) as description, whole_file(path / _WEIGHTS) as partial:
        description.write_text(json.dumps(sizes, indent=1), encoding="utf-8")
        try:
            save_model(net, str(partial))  # which leaves out what is tied
        except SafetensorError as error:
            raise OSError(f"{error}: {path / _WEIGHTS}") from error
        mapped, metadata = _contents(partial)
        tensors = {name: tensor.clone() for name, tensor in mapped.items()}  # the file is written again
        known = {_DIGEST: digest(sorted(tensors.items())), _SIZES: json.dumps(sizes)}
        partial.write_bytes(save(tensors, metadata={**metadata, **known}))


def _contents(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file of safetensors and its metadata."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _check_weights(path: Path, architecture: Architecture) -> Architecture:
    """Return the sizes of the net whose tensors a file has, if they are those that were saved.

    The file's own description counts where it has one: the other file is older if a process was killed between both.
    Sizes are compared with the tensors of the file, so that no net is made that the file cannot fill.
    """
    if not path.is_file():
        raise ValueError(f"there is no {path.name}")
    tensors, metadata = _contents(path)
    if _SIZES in metadata:
        try:
            architecture = _checked_sizes(json.loads(metadata[_SIZES]), f"the metadata of {path.name}")
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"the metadata of {path.name} must be JSON, got {error!r}") from error
    _check_shapes(architecture, {name: list(tensor.shape) for name, tensor in tensors.items()}, path)
    if metadata.get(_DIGEST, found := digest(sorted(tensors.items()))) != found:
        noted = "the SHA-256 that was noted when it was written"
        raise ValueError(f"{path.name} is damaged: its tensors do not have {noted}")
    return architecture


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
    check_path("folder", folder)
    check_type("dense", dense, nn.Module)
    path = Path(folder)
    try:
        net = build(dense, _check_weights(path / _WEIGHTS, _read_sizes(path / _DESCRIPTION)))
        load_model(net, str(path / _WEIGHTS))
    except (SafetensorError, ValueError, OSError, KeyError, RuntimeError) as error:
        damaged = f"{_WEIGHTS} is damaged: " if isinstance(error, SafetensorError) else ""
        raise ValueError(f"folder must hold a net that save_net wrote, got '{folder}' ({damaged}{error})") from error
    return net.eval()


def _check_shapes(architecture: Architecture, held: Mapping[str, list[int]], path: Path) -> None:
    """Raise if a net of some sizes is not filled by tensors of some shapes; what is tied is there once."""
    sizes, inputs = dict(architecture["tensors"]), architecture["inputs"]
    if inputs is not None:
        sizes = {f"network.{name}": shape for name, shape in sizes.items()} | {_SELECTED: [inputs]}
    largest = max([_UNHELD, *(math.prod(shape) for shape in held.values())])
    for name, shape in sizes.items():
        if held.get(name, shape) != shape or math.prod(shape) > largest:
            got = f"{shape}, and {held[name]} there" if name in held else shape
            raise ValueError(
                f"{name!r} in '{path.parent / _DESCRIPTION}' must be as large as in {path.name}, got {got}"
            )


def _read_sizes(path: Path) -> Architecture:
    """Return the sizes of a net from its description."""
    found = read_json(path, what=f"the {_DESCRIPTION} of a net that save_net wrote")
    return _checked_sizes(found, f"'{path}'")


def _checked_sizes(found: Any, where: str) -> Architecture:
    check_fields(found, {"inputs": optional(WHOLE), "tensors": VALUES}, where)
    check_fields(found["tensors"], dict.fromkeys(found["tensors"], _SHAPE), where)
    return Architecture(inputs=found["inputs"], tensors=found["tensors"])
