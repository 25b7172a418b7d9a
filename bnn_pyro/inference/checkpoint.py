"""Saving a posterior, and loading it into a model of the same make."""

import os
from collections.abc import Set
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import nn

from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior import Posterior, copies
from guides import AutoProgram, AutoSpikeSlab

FORMAT = 1
KEYS = {"guide_class", "guide", "gate_mode", "model", "kl_weight", "history"}


def save_posterior(posterior: Posterior, path: str | os.PathLike[str]) -> None:
    """Writes a posterior to a file, whole or not at all.

    Tensors and plain values only, so that it can be read with ``weights_only=True``.

    Args:
        posterior: The posterior.
        path: The file; an existing one is replaced once the new one is complete.

    Raises:
        ValueError: If the folder of the file does not exist.
    """
    content = {
        "format": FORMAT,
        "guide_class": type(posterior.guide).__name__,
        "guide": posterior.guide.state_dict(),
        "gate_mode": getattr(posterior.guide, "gate_mode", "free"),
        "model": posterior.model.state_dict(),
        "kl_weight": posterior.kl_weight,
        "history": posterior.history,
    }
    write_whole(content, path)


def load_posterior(path: str | os.PathLike[str], model: SparseNetwork, *, guide: Any = None) -> Posterior:
    """Reads a posterior into copies of a model and guide made as they were when it was saved.

    Args:
        path: The file.
        model: A network with the same net, prior and options.
        guide: A guide for the model of the saved class; default :class:`~guides.AutoSpikeSlab`.

    Returns:
        The posterior.

    Raises:
        ValueError: If there is no such file, it is damaged, or it was saved from another model or guide.
    """
    content = read_whole(path, writer="save_posterior", mark="format", form=FORMAT, keys=KEYS)
    like = next(model.parameters())
    with torch.random.fork_rng([like.device] if like.is_cuda else []), pyro.get_param_store().scope():
        model, guide = copies(model, AutoSpikeSlab(model.prior) if guide is None else guide)
        if not list(guide.parameters()):
            guide()  # Pyro's own guides make their parameters at the first call
    if type(guide).__name__ != content["guide_class"]:
        raise ValueError(f"guide must be a {content['guide_class']}, as in {path}, got {type(guide).__name__}")
    load_into("model", model, content["model"], path)
    load_into("guide", guide, content["guide"], path)
    if isinstance(guide, AutoProgram):
        guide.gate_mode = content["gate_mode"]
    model.net.eval()
    return Posterior(model, guide, history=content["history"], kl_weight=content["kl_weight"])


def write_whole(content: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Writes tensors and plain values to a file, whole or not at all.

    Args:
        content: What to write.
        path: The file; an existing one is replaced once the new one is complete.

    Raises:
        ValueError: If the folder of the file does not exist.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise ValueError(f"path must be in a folder that exists, got {target}")
    partial = target.with_name(f"{target.name}.partial")
    try:
        torch.save(content, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def read_whole(path: str | os.PathLike[str], *, writer: str, mark: str, form: int, keys: Set[str]) -> dict[str, Any]:
    """Reads what :func:`write_whole` wrote.

    Args:
        path: The file.
        writer: Name of the function that writes such files, for the message.
        mark: Key of the format's number.
        form: The format's number.
        keys: What the file must have besides.

    Raises:
        ValueError: If there is no such file, it is damaged, or it is of another kind or format.
    """
    if not Path(path).is_file():
        raise ValueError(f"path must be a file written by {writer}, got {path}: no such file")
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # whatever a damaged file makes torch raise
        raise ValueError(f"path must be a file written by {writer}, got {path}: damaged ({error})") from error
    if not isinstance(content, dict) or content.get(mark) != form or not content.keys() >= keys:
        raise ValueError(f"path must be a file written by {writer} in format {form}, got {path}")
    return content


def load_into(name: str, module: nn.Module, state: dict[str, Any], path: object) -> None:
    """Loads a saved state into a module made alike.

    Args:
        name: The argument's name, for the message.
        module: The module, which is changed.
        state: The state.
        path: The file that it was read from, for the message.

    Raises:
        ValueError: If the state does not fit.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{name} must be made as when {path} was saved: {error}") from error
