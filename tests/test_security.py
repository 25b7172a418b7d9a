"""Reading a file runs no code from it."""

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnn_pyro.data import load
from bnn_pyro.export import load_net, save_net
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.files import load_posterior
from bnn_pyro.storage import read_file


class Attack:
    """What makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


@pytest.fixture
def sign(tmp_path: Path) -> Path:
    """The file that is there once code has run."""
    return tmp_path / "code has run"


def test_the_attack_works(sign: Path) -> None:
    pickle.loads(pickle.dumps(Attack(sign))).close()
    assert sign.exists()


def test_archives_of_torch_run_no_code(tmp_path: Path, sign: Path) -> None:
    torch.save({"format": 1, "guide": Attack(sign)}, tmp_path / "it.pt")
    for read in (load_posterior, lambda path: read_file(path, writer="the test")):
        with pytest.raises(ValueError, match="path must be a file written by .*: damaged"):
            read(tmp_path / "it.pt")
    with zipfile.ZipFile(tmp_path / "it.pt", "w") as archive:
        archive.writestr("it/data.pkl", pickle.dumps(Attack(sign)))
        archive.writestr("it/version", "3")
    with pytest.raises(ValueError, match="path must be a file written by .*: damaged"):
        load_posterior(tmp_path / "it.pt")
    (tmp_path / "it.pt").write_bytes(pickle.dumps(Attack(sign)))
    with pytest.raises(ValueError, match="path must be a file written by .*: damaged"):
        load_posterior(tmp_path / "it.pt")
    assert not sign.exists()


def test_arrays_run_no_code(tmp_path: Path, sign: Path) -> None:
    np.savez(tmp_path / "it.npz", X=np.array([[Attack(sign)]], dtype=object), y=np.ones(1))
    with pytest.raises(ValueError, match="must be an archive of plain arrays"):
        load(str(tmp_path / "it.npz"))
    assert not sign.exists()


def test_nets_run_no_code(tmp_path: Path, sign: Path) -> None:
    net = mlp(3, (2,), 1)
    save_net(net, tmp_path)
    for file in ("architecture.json", "weights.safetensors"):
        sound = (tmp_path / file).read_bytes()
        (tmp_path / file).write_bytes(pickle.dumps(Attack(sign)))
        with pytest.raises(ValueError, match="folder must hold a net that save_net wrote"):
            load_net(tmp_path, net)
        (tmp_path / file).write_bytes(sound)
    described = json.loads((tmp_path / "architecture.json").read_text())
    assert described["inputs"] is None and not sign.exists()
