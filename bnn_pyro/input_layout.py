"""Inputs of any form as one tensor, and outputs that hold one: what stands between data and a net's own signature.

A net may take several inputs, by position or by name, and whole numbers such as token ids. Everything between the data
and the net handles one floating-point tensor per batch, one row per observation; the layout says how the net's inputs
lie in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Inputs = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
"""One tensor; several as positional arguments; or several as keyword arguments. Each has one row per observation."""

_OUTPUTS = ("logits", "out")  # names under which a net may return its output


@dataclass(frozen=True)
class InputPart:
    """One argument of a net.

    Args:
        shape: Its shape without the rows.
        dtype: Its dtype where it holds whole numbers or truth values; None for real numbers, in that of the batch.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype | None

    @property
    def size(self) -> int:
        """How many numbers it has per row."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class InputLayout:
    """How the inputs of a net lie in one tensor.

    One input keeps its shape; several lie flat beside each other, shape ``(rows, numbers)``. Whole numbers are held as
    real ones, which is exact up to :math:`2^{24}` in float32 and :math:`2^{53}` in float64, and the net gets them in
    their own dtype.

    Args:
        parts: The net's arguments, in their order.
        names: Their names, where they are given by name; empty where they are given by position.
        dtype: Dtype of the tensor where no input has real numbers.
    """

    parts: tuple[InputPart, ...]
    names: tuple[str, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, name: str, example: Inputs, net: nn.Module | None = None) -> InputLayout:
        """Return the layout of inputs.

        Args:
            name: The argument's name, for the message.
            example: The inputs, a batch.
            net: The net, whose dtype is taken where no input has real numbers; None for torch's default.

        Raises:
            TypeError: If they are no tensors.
            ValueError: If there is no input, an input has no rows or complex numbers, or rows differ in their number.
        """
        tensors = _tensors(name, example)
        names = tuple(example) if isinstance(example, Mapping) else ()
        rows = {tensor.shape[:1] for tensor in tensors}
        if len(rows) != 1 or not next(iter(rows)):
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors) or "no tensor"
            raise ValueError(f"{name} must have one row per observation in every input, got {shapes}")
        if any(tensor.is_complex() for tensor in tensors):
            raise ValueError(f"{name} must hold real numbers, got complex ones")
        kinds = [None if tensor.is_floating_point() else tensor.dtype for tensor in tensors]
        parts = tuple(InputPart(tuple(t.shape[1:]), kind) for t, kind in zip(tensors, kinds, strict=True))
        real = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
        real += [p.dtype for p in (net.parameters() if net is not None else ()) if p.is_floating_point()]
        return cls(parts, names, (real or [torch.get_default_dtype()])[0])

    @property
    def is_plain(self) -> bool:
        """Whether the net takes one tensor of real numbers, as it is."""
        return self._is_single and self.parts[0].dtype is None and not self.names

    @property
    def are_features(self) -> bool:
        """Whether the net takes one vector of real numbers per row."""
        return self.is_plain and len(self.shape) == 1

    @property
    def _is_single(self) -> bool:
        return len(self.parts) == 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor without the rows."""
        return self.parts[0].shape if self._is_single else (sum(part.size for part in self.parts),)

    def to(self, dtype: torch.dtype) -> InputLayout:
        """Return the layout for a net of another dtype."""
        return replace(self, dtype=dtype)

    # ---- from data ---------------------------------------------------------------------------------------------------

    def pack(self, name: str, inputs: Any, *, check: bool = True) -> Tensor:
        """Return inputs as one tensor; such a tensor, of another shape or not, as it is.

        Args:
            name: The argument's name, for the message.
            inputs: The inputs, in the form that the layout is of, or a tensor that was packed before.
            check: Whether values are looked at.

        Raises:
            TypeError: If they are no tensors.
            ValueError: If they have another form or shape, or whole numbers that are not, or are too large to be held.
        """
        if self.is_plain and isinstance(inputs, Tensor):
            return inputs
        if isinstance(inputs, Tensor) and inputs.is_floating_point() and tuple(inputs.shape[1:]) == self.shape:
            packed = inputs
        else:
            packed = self._packed(name, inputs)
        if check:
            self._check_whole(name, packed)
        return packed

    def _packed(self, name: str, inputs: Any) -> Tensor:
        if isinstance(inputs, Mapping) != bool(self.names) or (self.names and set(inputs) != set(self.names)):
            raise ValueError(f"{name} must be {self._wanted()}, got {_described(inputs)}")
        tensors = [inputs[key] for key in self.names] if self.names else inputs
        tensors = _tensors(name, tensors)
        rows = len(tensors[0]) if tensors and tensors[0].dim() else 0
        shapes = [(rows, *part.shape) for part in self.parts]
        if not rows or [tuple(tensor.shape) for tensor in tensors] != shapes:
            raise ValueError(f"{name} must be {self._wanted()}, got {_described(inputs)}")
        real = [t.dtype for t, part in zip(tensors, self.parts, strict=True) if part.dtype is None]
        dtype = next((found for found in real if found.is_floating_point), self.dtype)
        if any(_largest(tensor) > 2 / torch.finfo(dtype).eps for tensor in tensors):
            raise ValueError(f"{name} must have whole numbers that {dtype} holds, got larger ones: use float64 inputs")
        if self._is_single:
            return tensors[0].to(dtype)
        return torch.cat([tensor.to(dtype).reshape(rows, -1) for tensor in tensors], 1)

    def _check_whole(self, name: str, x: Tensor) -> None:
        for number, (part, values) in enumerate(zip(self.parts, self._split(x), strict=True)):
            if part.dtype is not None and not (values == values.round()).all():
                which = repr(self.names[number]) if self.names else f"number {number}"
                raise ValueError(f"{name} must have whole numbers in the input {which} ({part.dtype}), got fractions")

    def _wanted(self) -> str:
        each = [f"(rows{''.join(f', {length}' for length in part.shape)})" for part in self.parts]
        kinds = ["real" if part.dtype is None else str(part.dtype).removeprefix("torch.") for part in self.parts]
        described = [f"{kind} {shape}" for kind, shape in zip(kinds, each, strict=True)]
        if self.names:
            named = (f"{key!r}: {part}" for key, part in zip(self.names, described, strict=True))
            return f"a dictionary of {', '.join(named)}"
        return f"a tensor, {described[0]}" if self._is_single else f"a tuple of {', '.join(described)}"

    # ---- to the net --------------------------------------------------------------------------------------------------

    def _split(self, x: Tensor) -> list[Tensor]:
        """Return each input's part of a packed tensor, in its shape."""
        if self._is_single:
            return [x]
        columns = x.split([part.size for part in self.parts], 1)
        return [some.reshape(len(x), *part.shape) for some, part in zip(columns, self.parts, strict=True)]

    def arguments(self, x: Tensor) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Return the positional and the keyword arguments of a net, of a packed tensor."""
        if self.is_plain:
            return (x,), {}
        tensors = [
            tensor if part.dtype is None else tensor.to(part.dtype)
            for part, tensor in zip(self.parts, self._split(x), strict=True)
        ]
        return ((), dict(zip(self.names, tensors, strict=True))) if self.names else (tuple(tensors), {})

    def native(self, x: Tensor) -> Inputs:
        """Return a packed tensor in the form that the net's user gives it in."""
        positional, named = self.arguments(x)
        return named or (positional[0] if self._is_single else positional)

    def call(self, net: Callable[..., Any], x: Tensor) -> Tensor:
        """Call a net with a packed tensor and return its output as one tensor."""
        positional, named = self.arguments(x)
        return output_of(net(*positional, **named))

    def adapt(self, net: nn.Module) -> None:
        """Let a net take a packed tensor and return one tensor, in place: for what knows no other nets."""
        if not isinstance(net.forward, partial):
            net.forward = partial(_adapted, self, net.forward)

    def changing(self, change: Callable[[Any], Any] | None) -> Callable[[Tensor], Tensor] | None:
        """Return a function of inputs as one of packed tensors; None, and one for a plain layout, as they are."""
        return change if change is None or self.is_plain else partial(_changed, self, change)

    def real_numbers(self, x: Tensor) -> Tensor:
        """Return the real numbers in a packed tensor, shape ``(rows, *shape)``, or ``(rows, numbers)`` of several."""
        if self.is_plain:
            return x
        real = [
            values.flatten(1) for part, values in zip(self.parts, self._split(x), strict=True) if part.dtype is None
        ]
        return torch.cat([x.new_empty(len(x), 0), *real], 1)

    def perturbed(self, x: Tensor, noise: Tensor) -> Tensor:
        """Return a packed tensor with noise added to its real numbers."""
        if self._is_single:
            return x + noise if self.parts[0].dtype is None else x
        is_real = torch.cat([torch.full((part.size,), part.dtype is None) for part in self.parts])
        return torch.where(is_real.to(x.device), x + noise, x)

    def __str__(self) -> str:
        return self._wanted()


def _adapted(layout: InputLayout, forward: Callable[..., Any], x: Tensor) -> Tensor:
    return layout.call(forward, x)


def _changed(layout: InputLayout, change: Callable[[Any], Any], x: Tensor) -> Tensor:
    return layout.pack("augmentation", change(layout.native(x)), check=False)


def returned_by(net: Callable[..., Any], inputs: Inputs) -> Any:
    """Call a net with its inputs in the form that its user has them in, and return what it returns."""
    if isinstance(inputs, Mapping):
        return net(**inputs)
    return net(inputs) if isinstance(inputs, Tensor) else net(*inputs)


def call_with(net: Callable[..., Any], inputs: Inputs) -> Tensor:
    """Call a net as `returned_by` does, and return its output as one tensor."""
    return output_of(returned_by(net, inputs))


def output_of(output: Any) -> Tensor:
    """Return the tensor among what a net returns: itself, or what it calls ``logits`` or ``out``.

    Args:
        output: A tensor, a dictionary, or an object such as a dataclass.

    Raises:
        TypeError: If there is no such tensor.
    """
    if isinstance(output, Tensor):
        return output
    for name in _OUTPUTS:
        found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(found, Tensor):
            return found
    names = " or ".join(map(repr, _OUTPUTS))
    raise TypeError(f"net must return one tensor, or a dictionary or an object with {names}, got {_described(output)}")


def _tensors(name: str, inputs: Any) -> list[Tensor]:
    """Return the tensors of inputs, or raise unless they are some."""
    if isinstance(inputs, Tensor):
        return [inputs]
    found = list(inputs.values()) if isinstance(inputs, Mapping) else inputs
    if not isinstance(found, Sequence) or isinstance(found, str | bytes):
        raise TypeError(f"{name} must be a tensor, or a tuple or dictionary of tensors, got {type(inputs).__name__}")
    if odd := [type(part).__name__ for part in found if not isinstance(part, Tensor)]:
        raise TypeError(f"{name} must be a tensor, or a tuple or dictionary of tensors, got one of {', '.join(odd)}")
    return list(found)


def _largest(tensor: Tensor) -> float:
    """Return the largest absolute value of whole numbers; 0 of other tensors."""
    is_whole = not tensor.is_floating_point() and tensor.dtype != torch.bool and tensor.numel()
    return float(tensor.abs().max()) if is_whole else 0.0


def _described(value: Any) -> str:
    """Say what a value is, with the shapes of tensors in it."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"{type(value).__name__} of {', '.join(f'{key!r}: {_described(part)}' for key, part in value.items())}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of {', '.join(map(_described, value)) or 'nothing'}"
    return type(value).__name__
