"""Saving a posterior, and loading it into a model of the same make."""

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior import Posterior
from guides import AutoProgram, AutoSpikeSlab

FORMAT = 1


def save_posterior(posterior: Posterior, path: str | os.PathLike[str]) -> None:
    """Writes a posterior to a file, whole or not at all.

    Tensors and plain values only, so that it can be read with ``weights_only=True``.

    Args:
        posterior: The posterior.
        path: The file; an existing one is replaced once the new one is complete.
    """
    content = {
        "format": FORMAT,
        "guide_class": type(posterior.guide).__name__,
        "guide": posterior.guide.state_dict(),
        "net": posterior.model.net.state_dict(),
        "kl_weight": posterior.kl_weight,
        "history": posterior.history,
    }
    target = Path(path)
    partial = target.with_name(f"{target.name}.partial")
    torch.save(content, partial)
    partial.replace(target)


def load_posterior(path: str | os.PathLike[str], model: SparseNetwork, *, guide: Any = None) -> Posterior:
    """Reads a posterior into copies of a model and guide made as they were when it was saved.

    Args:
        path: The file.
        model: A network with the same net, prior and options.
        guide: A guide of the saved class; default :class:`~guides.AutoSpikeSlab`.

    Returns:
        The posterior.

    Raises:
        ValueError: If there is no such file, it is damaged, or it was saved from another model or guide.
    """
    content = _read(Path(path))
    model = copy.deepcopy(model)
    guide = AutoSpikeSlab(model.prior) if guide is None else copy.deepcopy(guide)
    if isinstance(guide, AutoProgram):
        guide.model = model.prior
    if type(guide).__name__ != content["guide_class"]:
        raise ValueError(f"guide must be a {content['guide_class']}, as in {path}, got {type(guide).__name__}")
    _load("guide", guide, content["guide"], path)
    _load("model", model.net, content["net"], path)
    model.net.eval()
    return Posterior(model, guide, history=content["history"], kl_weight=content["kl_weight"])


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"path must be a file written by save_posterior, got {path}: no such file")
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, KeyError, ValueError) as error:
        raise ValueError(f"path must be a file written by save_posterior, got {path}: damaged ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"path must be a file written by save_posterior in format {FORMAT}, got {path}")
    return content


def _load(name: str, module: nn.Module, state: dict[str, Any], path: object) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{name} must be made as when {path} was saved: {error}") from error
