"""Posteriors as files: saved, and loaded into a network of the same make."""

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.draws import Draws
from bnn_pyro.posterior.ensemble import Ensemble, Snapshot
from bnn_pyro.posterior.guide import Posterior, copies
from bnn_pyro.posterior.sampled import SampledPosterior
from bnn_pyro.pruning.cutting import kept_positions
from bnn_pyro.pruning.shrink import smaller_model
from bnn_pyro.storage import load_into, read_whole, write_whole
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


# ---- draws -----------------------------------------------------------------------------------------------------------
def save_draws(draws: Draws, path: str | os.PathLike[str]) -> None:
    """Writes draws to a file, whole or not at all; tensors and plain values, to be read with ``weights_only=True``.

    Args:
        draws: The draws.
        path: The file; an existing one is replaced once the new one is complete.

    Raises:
        ValueError: If the folder of the file does not exist.
    """
    write_whole({"draws_format": FORMAT, "draws": _content(draws)}, path)


def load_draws(path: str | os.PathLike[str]) -> Draws:
    """Reads draws from a file.

    Args:
        path: The file.

    Returns:
        The draws, on the CPU.

    Raises:
        ValueError: If there is no such file, it is damaged or another one.
    """
    return _draws(read_whole(path, writer="save_draws", mark="draws_format", form=FORMAT, keys={"draws"}), path)


def save_sampled(sampled: SampledPosterior, path: str | os.PathLike[str]) -> None:
    """Writes a network's draws to a file, whole or not at all, with the values of what is not Bayesian in it.

    Args:
        sampled: The posterior.
        path: The file; an existing one is replaced once the new one is complete.

    Raises:
        ValueError: If the folder of the file does not exist.
    """
    content = {"sampled_format": FORMAT, "draws": _content(sampled.draws), "model": sampled.model.state_dict()}
    write_whole(content, path)


def load_sampled(path: str | os.PathLike[str], model: SparseNetwork) -> SampledPosterior:
    """Reads a network's draws.

    Args:
        path: The file.
        model: A network with the same net, prior and options; it is not changed.

    Returns:
        The posterior, on the model's device.

    Raises:
        ValueError: If there is no such file, it is damaged, or it was saved from another network.
    """
    keys = {"draws", "model"}
    content = read_whole(path, writer="save_sampled", mark="sampled_format", form=FORMAT, keys=keys)
    device = next(model.parameters()).device
    draws = _draws(tree_map_only(Tensor, lambda tensor: tensor.to(device), content), path)
    sampled = SampledPosterior(model, draws)
    load_into("model", sampled.model, content["model"], path)
    return sampled


def _content(draws: Draws) -> dict[str, Any]:
    content = {each.name: getattr(draws, each.name) for each in fields(draws)}
    return {**content, "values": dict(draws.values)}


def _draws(content: Mapping[str, Any], path: object) -> Draws:
    try:
        return Draws(**content["draws"])
    except TypeError as error:
        raise ValueError(f"path must be a file of draws, got {path}: {error}") from error


ENSEMBLE_KEYS = {"snapshots", "history", "temperature"}


def save_ensemble(ensemble: Ensemble, path: str | os.PathLike[str]) -> None:
    """Writes an ensemble to a file, whole or not at all.

    Tensors and plain values only, so that it can be read with ``weights_only=True``; each snapshot as small as it is.

    Args:
        ensemble: The ensemble.
        path: The file; an existing one is replaced once the new one is complete.

    Raises:
        ValueError: If the folder of the file does not exist.
    """
    content = {
        "ensemble_format": FORMAT,
        "snapshots": [
            {"net": dict(s.model.net.state_dict()), "keep": dict(s.keep), "latent": s.latent}
            for s in ensemble.snapshots
        ],
        "history": ensemble.history,
        "temperature": ensemble.temperature,
    }
    write_whole(content, path)


def load_ensemble(path: str | os.PathLike[str], model: SparseNetwork) -> Ensemble:
    """Reads an ensemble of a network made as it was when the ensemble was saved.

    Args:
        path: The file.
        model: A network with the same net, prior and options; it is not changed.

    Returns:
        The ensemble.

    Raises:
        ValueError: If there is no such file, it is damaged, or it was saved from another network.
    """
    content = read_whole(path, writer="save_ensemble", mark="ensemble_format", form=FORMAT, keys=ENSEMBLE_KEYS)
    try:
        snapshots = [_snapshot(model, saved) for saved in content["snapshots"]]
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"model must be made as when {path} was saved: {error}") from error
    return Ensemble(model, snapshots, history=content["history"], temperature=content["temperature"])


def _snapshot(model: SparseNetwork, saved: dict[str, Any]) -> Snapshot:
    keep = saved["keep"]
    small = smaller_model(model, keep, kept_positions(model.net, model.nodes.groups, keep))
    small.net.load_state_dict(saved["net"])
    small.net.eval()
    return Snapshot(small, keep, saved["latent"])
