"""An ensemble that was saved and loaded is the same."""

from pathlib import Path

import pytest
import torch

from bnn_pyro import prune
from bnn_pyro.ensemble import Ensemble
from bnn_pyro.inference.ensemble_file import load_ensemble, save_ensemble
from bnn_pyro.likelihoods import GaussianNoise
from tests.test_ensemble import ensemble, network, rows, snapshots


def test_round_trip(tmp_path: Path) -> None:
    first = ensemble(history=[{"epoch": 1, "loss": 0.5, "nodes_kept": {"inputs": 6}}], temperature=0.5)
    save_ensemble(first, tmp_path / "ensemble.pt")
    again, x = load_ensemble(tmp_path / "ensemble.pt", network()), rows()
    assert torch.equal(again.predict(x), first.predict(x))  # type: ignore[arg-type]
    assert torch.equal(prune(again)(x), prune(first)(x))
    assert again.history == first.history and again.temperature == 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["ensemble.pt"]


def test_latents_are_kept(tmp_path: Path) -> None:
    model = network(1, GaussianNoise())
    save_ensemble(Ensemble(model, snapshots(model, torch.tensor(0.7))), tmp_path / "ensemble.pt")
    again = load_ensemble(tmp_path / "ensemble.pt", network(1, GaussianNoise()))
    assert [snapshot.latent.item() for snapshot in again.snapshots if snapshot.latent is not None] == pytest.approx(
        [0.7] * 3
    )


def test_another_network_is_refused(tmp_path: Path) -> None:
    save_ensemble(ensemble(), tmp_path / "ensemble.pt")
    with pytest.raises(ValueError, match="model must be made as when .* was saved"):
        load_ensemble(tmp_path / "ensemble.pt", network(outputs=5))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        load_ensemble(tmp_path / "none.pt", network())
    (tmp_path / "damaged.pt").write_bytes(b"not a file of torch")
    with pytest.raises(ValueError, match="damaged"):
        load_ensemble(tmp_path / "damaged.pt", network())
    torch.save({"format": 1}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="written by save_ensemble in format 1"):
        load_ensemble(tmp_path / "other.pt", network())
    with pytest.raises(ValueError, match="path must be in a folder that exists"):
        save_ensemble(ensemble(), tmp_path / "nowhere" / "ensemble.pt")
