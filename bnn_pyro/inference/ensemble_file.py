"""Saving an ensemble of snapshots, and loading it into a network of the same make."""

import os
from typing import Any

from bnn_pyro.cutting import kept_positions
from bnn_pyro.ensemble import Ensemble, Snapshot
from bnn_pyro.inference.checkpoint import read_whole, write_whole
from bnn_pyro.network import SparseNetwork
from bnn_pyro.pruning import smaller_model

FORMAT = 1
KEYS = {"snapshots", "history", "temperature"}


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
    content = read_whole(path, writer="save_ensemble", mark="ensemble_format", form=FORMAT, keys=KEYS)
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
