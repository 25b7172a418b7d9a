"""Parts of a net that training leaves alone: frozen parameters in evaluation mode, such as a pretrained body."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn


def frozen_modules(net: nn.Module, trained: Collection[str]) -> tuple[str, ...]:
    """Find the modules that are to stay in evaluation mode, with their statistics.

    Args:
        net: A net as its owner gives it.
        trained: Names of parameters that are trained whatever their ``requires_grad`` says.

    Returns:
        Names of the modules in evaluation mode of which no parameter is trained, and of those within them; a module
        without parameters is one only within another.
    """
    is_trained = {name: p.requires_grad or name in trained for name, p in net.named_parameters(remove_duplicate=False)}
    frozen: set[str] = set()
    for name, module in net.named_modules(remove_duplicate=False):
        prefix = f"{name}." if name else ""
        own = [is_trained[parameter] for parameter in is_trained if parameter.startswith(prefix)]
        is_within = any(outer in frozen for outer in _outer(name))
        if not module.training and (is_within or own) and not any(own):
            frozen.add(name)
    return tuple(sorted(frozen))


def train_others(net: nn.Module, frozen: Collection[str]) -> None:
    """Put a net in training mode, in place, and its frozen modules in evaluation mode.

    Args:
        net: The net.
        frozen: Names of its frozen modules; those that it does not have are left out.
    """
    net.train()
    for name, module in net.named_modules(remove_duplicate=False):
        if name in frozen:
            module.training = False


def _outer(name: str) -> list[str]:
    """Names of the modules around a module, the net itself first."""
    parts = name.split(".")
    return ["", *(".".join(parts[:length]) for length in range(1, len(parts)))] if name else []
