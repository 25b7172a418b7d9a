"""What tells one network, data set or option from another: plain values by name, and digests of tensors."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from numbers import Integral, Real

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from bnn_pyro.network import SparseNetwork

_PRECISION = 1e-9  # relative, of numbers: another machine's logarithm may differ in the last digit
_DEPTH = 6  # of objects in objects that are looked into
_SHORT = 60  # characters of a value that a message still prints
_NONE = object()

Identity = dict[str, object]  # numbers, strings, None and lists of these by name


def digest(values: object) -> str:
    """Return the SHA-256 of the tensors and plain values in a nest, in hexadecimal digits.

    Tensors enter with dtype, shape and content, wherever they are; the keys of mappings do not.

    Args:
        values: Tensors, numbers, strings and bytes in sequences and mappings; whatever else stands there is left out.
    """
    found = hashlib.sha256()
    for leaf in tree_leaves(values):
        if isinstance(leaf, Tensor):
            found.update(f"{leaf.dtype} {tuple(leaf.shape)}".encode())
            found.update(leaf.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        elif isinstance(leaf, (bool, int, float, str, bytes)):
            found.update(repr(leaf).encode())
    return found.hexdigest()


def described(name: str, value: object) -> Identity:
    """Return an option as plain values: itself, or its class with its own values by name.

    Of a tensor there are dtype, shape and the digest of its content, of a function its name alone.

    Args:
        name: What to call it; parts are called ``name.part``.
        value: The option.
    """
    return dict(_described(name, value, ()))


def _described(name: str, value: object, around: tuple[int, ...]) -> Iterator[tuple[str, object]]:
    if value is None or isinstance(value, (bool, str, Integral, Real)):
        yield name, _plain(value)
    elif isinstance(value, Tensor):
        yield name, f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
        yield f"{name}.content", digest(value)
    elif isinstance(value, np.generic):
        yield name, value.item()
    elif isinstance(value, np.ndarray):
        yield name, f"{value.dtype} {value.shape}"
        yield f"{name}.content", digest(value.tobytes())
    elif isinstance(value, (torch.dtype, torch.device)):
        yield name, str(value)
    elif isinstance(value, (set, frozenset)):
        yield name, sorted(map(str, value))
    elif id(value) in around or len(around) > _DEPTH:
        yield name, type(value).__qualname__
    elif isinstance(value, Mapping):
        yield name, [str(key) for key in value]
        yield from _parts(name, {str(key): part for key, part in value.items()}, value, around)
    elif isinstance(value, (list, tuple)):
        if all(part is None or isinstance(part, (bool, str, Integral, Real)) for part in value):
            yield name, [_plain(part) for part in value]
        else:
            yield name, len(value)
            yield from _parts(name, {str(i): part for i, part in enumerate(value)}, value, around)
    elif isinstance(value, partial):
        yield name, _name_of(value.func)
        yield from _parts(name, {"args": value.args, **value.keywords}, value, around)
    elif isinstance(value, nn.Module):
        yield name, str(value)
        yield f"{name}.content", digest(list(value.state_dict().items()))
    elif callable(value) and hasattr(value, "__qualname__"):
        yield name, _name_of(value)
    else:
        yield name, type(value).__qualname__
        yield from _parts(name, dict(getattr(value, "__dict__", {})), value, around)


def _parts(
    name: str, parts: Mapping[str, object], whole: object, around: tuple[int, ...]
) -> Iterator[tuple[str, object]]:
    for part, value in parts.items():
        yield from _described(f"{name}.{part}", value, (*around, id(whole)))


def _plain(value: object) -> object:
    """Return a number or a string of any class as one of Python's own, as a file is to hold it."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    return int(value) if isinstance(value, Integral) else float(value)  # type: ignore[arg-type]


def _name_of(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def network_identity(model: SparseNetwork) -> Identity:
    """Return what tells a network's prior, likelihood and architecture from others.

    The values of its parameters and buffers, and the dtype, are no part of it.

    Args:
        model: The network.
    """
    found: Identity = {}
    for name, module in model.net.named_modules():
        of_module = f"network.{name}" if name else "network"
        found[of_module] = f"{type(module).__qualname__}({module.extra_repr()})"
        functions = {key: part for key, part in vars(module).items() if not key.startswith("_") and callable(part)}
        found |= {f"{of_module}.{key}": value for key, part in functions.items() for value in [_name_of(part)]}
    if model.spike is None:
        found |= described("prior", model.slab)
    else:
        found["prior"] = type(model.spike).__qualname__
        found |= described("prior.slab", model.slab)
        found |= described("prior.inclusion", dict(model.inclusion))
        found["prior.temperature"] = float(model.spike.temperature)
    found |= described("likelihood", model.likelihood)
    found["network.inputs"] = list(model.input_shape) if model.layout.is_plain else str(model.layout)
    found["network.nodes"] = [f"{group.name} {group.size}" for group in model.nodes.groups]
    found["network.bayesian"] = [parameter.name for parameter in model.bayesian]
    return found


def differences(there: Mapping[str, object], here: Mapping[str, object]) -> list[str]:
    """Return the names of what a file has otherwise than is given now.

    Args:
        there: What the file has. What it does not name is not compared: older files name less.
        here: What is given now.
    """
    return [name for name, value in there.items() if not _is_same(value, here.get(name, _NONE))]


def _is_same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, (int, float)):
        return one == other or math.isclose(one, other, rel_tol=_PRECISION) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return one == other


def is_short(value: object) -> bool:
    """Return whether a message can print a value."""
    return len(repr(value)) <= _SHORT


def others(names: Sequence[str]) -> str:
    """Return the end of a message on the first of some differences that names the rest.

    Args:
        names: The names of what differs.
    """
    return f" (different, too: {', '.join(names[1:5])}{', ...' if len(names) > 5 else ''})" if len(names) > 1 else ""
