"""What a cut network looks like, as plain values: saved beside its weights, it is enough to build the network again."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from bnn_pyro.cutting import replace_tensors, split_selection, with_selection

_DESCRIPTION, _WEIGHTS = "architecture.json", "weights.safetensors"


def architecture_of(net: nn.Module) -> dict[str, Any]:
    """Describe the sizes of a network, pruned or not.

    Args:
        net: A network as `bnn_pyro.prune` returns it.

    Returns:
        JSON values: ``inputs``, the number of inputs that a selection before the net passes on (None where there is
        none), and ``tensors``, name -> shape of each parameter and buffer of the net behind it.
    """
    inner, selection = split_selection(net)
    tensors = (*inner.named_parameters(), *inner.named_buffers())
    return {
        "inputs": None if selection is None else len(selection),
        "tensors": {name: list(tensor.shape) for name, tensor in tensors},
    }


def build(dense: nn.Module, architecture: Mapping[str, Any]) -> nn.Module:
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

    Args:
        net: A network as `bnn_pyro.prune` returns it.
        folder: Folder to write ``weights.safetensors`` and ``architecture.json`` into; it is made where it is absent.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    (path / _DESCRIPTION).write_text(json.dumps(architecture_of(net), indent=1), encoding="utf-8")
    save_model(net, str(path / _WEIGHTS))


def load_net(folder: str | Path, dense: nn.Module) -> nn.Module:
    """Load a network that was saved by `save_net`.

    Args:
        folder: The folder.
        dense: The network before it was pruned, or another one of its class and names, such as a new one; it is left
            alone.

    Returns:
        The network, in evaluation mode, on the device and in the dtype of ``dense``.

    Raises:
        ValueError: If the folder holds no network, or one that is not cut from ``dense``.
    """
    path = Path(folder)
    try:
        architecture = json.loads((path / _DESCRIPTION).read_text(encoding="utf-8"))
        net = build(dense, architecture)
        load_model(net, str(path / _WEIGHTS))
    except (OSError, KeyError, RuntimeError, json.JSONDecodeError) as error:
        raise ValueError(f"folder must hold a net that save_net wrote, got '{folder}' ({error})") from error
    return net.eval()
