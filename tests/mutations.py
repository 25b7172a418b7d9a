"""Files of every kind that is loaded, and mutations of them, from a seed."""

import io
import json
import random
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from bnn_pyro import (
    Gaussian,
    GaussianNoise,
    OneShot,
    Refinement,
    SamplingPlan,
    Schedule,
    SparseNetwork,
    SpikeSlab,
    fit,
    fit_sghmc,
    load_posterior,
    prune,
    sample,
    save_posterior,
    train_dense,
)
from bnn_pyro.data import load
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.draws import Draws
from bnn_pyro.posterior.ensemble import Ensemble, Snapshot
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.recipes import Recipe, load_pruned, load_run, load_table
from bnn_pyro.recipes.config_file import config_of
from bnn_pyro.recipes.loading import load_dense
from bnn_pyro.recipes.prediction import predict_rows
from bnn_pyro.recipes.refined_runs import load_refined
from bnn_pyro.reports.claim import PROGRESS, Claim
from bnn_pyro.reports.folder import write_networks
from bnn_pyro.reports.measures import Run
from bnn_pyro.reports.path_files import read_path, write_path
from guides import AutoSpikeSlab
from tests.data.files import write_mnist
from tests.data.test_images import write_jpeg
from tests.reports.finished import refined, sampled

Load = Callable[[Path], object]

# values that take the place of others in JSON and in archives of torch
STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 2**40, 10**400, 0.5, -0.0, 1e300, float("nan"), float("inf")),
    *("", "x", "nan", "a/../b", [], [[]], [None], {}, {"a": 1}, {"": None}, [10**9, 10**9], "0" * 1000),
)


@dataclass(frozen=True)
class Subject:
    """A file, its folder with what belongs to it, and what loads it.

    Attributes:
        name: What kind of file it is.
        folder: The folder.
        file: The file's name.
        load: Loads what is in the folder, and returns what tells whether it is right, such as a prediction.
        is_sealed: Whether the file has a digest, so that what loads is as it was written.
    """

    name: str
    folder: Path
    file: str
    load: Load
    is_sealed: bool = False


class Mutation(NamedTuple):
    """Other bytes of a file.

    Attributes:
        content: The bytes.
        is_new: Whether a file was written of other values, instead of damaging one.
    """

    content: bytes
    is_new: bool


def mutated(content: bytes, chance: random.Random) -> Mutation:
    """Return other bytes: some of them changed, cut out, repeated, or values of JSON or of an archive replaced."""
    kinds: list[Callable[[bytes, random.Random], bytes]] = [_flipped, _zeroed, _cut, _repeated, _inserted]
    structured = _structured(content)
    if structured is not None and chance.random() < 0.6:
        return Mutation(structured(chance), is_new=True)
    return Mutation(chance.choice(kinds)(content, chance), is_new=False)


def _flipped(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 4, 64))):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _zeroed(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) + 1)
    return content[:start] + bytes(min(1500, len(content) - start)) + content[start + 1500 :]


def _cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.choice((0, 1, 10, chance.randrange(len(content) + 1), max(0, len(content) - 1)))]


def _repeated(content: bytes, chance: random.Random) -> bytes:
    start, end = sorted(chance.randrange(len(content) + 1) for _ in range(2))
    return content[:end] + content[start:]


def _inserted(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) + 1)
    return content[:start] + chance.choice((b"\xff\xfe", b"[" * 5000, b"\0" * 99, b'"', b"1e999,")) + content[start:]


def _structured(content: bytes) -> Callable[[random.Random], bytes] | None:
    """Return what changes the values in a file, if it has some; without the digest, which would tell."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        pass
    else:
        return lambda chance: json.dumps(_replaced(values, chance)).encode()
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return None
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if not any(name.endswith("data.pkl") for name in archive.namelist()):
            return None
    saved = torch.load(io.BytesIO(content), weights_only=True)

    def torn(chance: random.Random) -> bytes:
        buffer = io.BytesIO()
        torch.save(_replaced(saved, chance), buffer)
        return buffer.getvalue()

    return torn


def _replaced(values: Any, chance: random.Random) -> Any:
    """Return a nest with one part replaced, left out, or added, anywhere in it."""
    if isinstance(values, dict) and values and chance.random() < 0.85:
        name = chance.choice(list(values))
        if chance.random() < 0.1:
            return {key: value for key, value in values.items() if key != name}
        return {**values, name: _replaced(values[name], chance)}
    if isinstance(values, list) and values and chance.random() < 0.7:
        place = chance.randrange(len(values))
        return [*values[:place], _replaced(values[place], chance), *values[place + 1 :]]
    if isinstance(values, torch.Tensor) and chance.random() < 0.5:
        return chance.choice((values[None], values.double(), values.long(), values.reshape(-1)[:0], torch.zeros(2, 3)))
    return chance.choice(STRANGE)


# ---- the files -------------------------------------------------------------------------------------------------------


TABLE = "left,colour,price\n" + "\n".join(
    f"{n % 7 / 3:.3f},{('red', 'blue', 'green')[n % 3]},{n % 11 / 5 + 0.01:.4f}" for n in range(90)
)
RECORD = {
    **{"kl_weight": 0.1, "weights": 31, "nodes": {"hidden1": 3}, "refined": False, "nll": 1.5, "nll_error": None},
    **{"loss": 0.0, "loss_error": 0.1, "chosen": True},
}


def network() -> SparseNetwork:
    torch.manual_seed(0)
    prior = SpikeSlab(Gaussian(), inclusion=0.3)
    return SparseNetwork(mlp(4, (6,), 1), torch.zeros(2, 4), prior=prior, likelihood=GaussianNoise(), num_data=60)


def run_folder(folder: Path) -> None:
    """Write the folder of a run on a table as `bnn_pyro.recipes.run` does, of a network that was not trained."""
    folder.mkdir()
    (folder / "table.csv").write_text(TABLE)
    dataset = load(str(folder / "table.csv"))
    settings = Recipe(hidden=(5,), epochs=4, schedule=Schedule(), prior="ss-ig", refinement=Refinement())
    net = settings.make_net(dataset.input_shape, 1)
    model = settings.make_model(net, dataset.train.x[:2], GaussianNoise(), len(dataset.train))
    posterior = GuidePosterior(model, settings.make_guide(model))
    config = config_of(dataset, settings, seed=0, device=torch.device("cpu"))
    run = Run(posterior, prune(posterior), net, (dataset.test.x, dataset.test.y), encoding=dataset.encoding)
    write_networks(folder, refined(run, draws=4), config=config, save_checkpoint=partial(save_posterior, posterior))


ROWS = torch.linspace(-1, 1, 8).reshape(2, 4)


def use_run(folder: Path) -> object:
    return predicted(load_run(folder))


def use_net(load_net: Callable[[Path], nn.Module], folder: Path) -> object:
    return load_net(folder)(ROWS)


def use_images(name: str, folder: Path) -> object:
    return load(name, data_dir=folder).train.x


def predicted(posterior: Posterior) -> object:
    torch.manual_seed(0)
    return posterior.predict(ROWS, num_samples=2)


def use_claim(folder: Path) -> None:
    """Resume a run whose folder says what it was begun with."""
    Claim(folder).begin({"seed": 0, "hidden": (3,), "rows": torch.ones(3)})


def stopped_claim(folder: Path) -> None:
    """Write what a run leaves that was stopped."""
    (folder / PROGRESS).mkdir(parents=True)
    (folder / PROGRESS / "dense.pt").touch()
    Claim(folder).begin({"seed": 0, "hidden": (3,), "rows": torch.ones(3)})


def subjects(place: Path) -> list[Subject]:
    """Write a file of each kind that is loaded, and return what they are.

    Args:
        place: Where to; each has a folder of its own.
    """
    torch.manual_seed(0)
    model = network()
    posteriors: dict[str, Posterior | Draws] = {
        "guide": GuidePosterior(model, AutoSpikeSlab(model.prior), history=[{"epoch": 1, "loss": 2.0}]),
        "sampled": sampled(model, draws=4),
        "draws": sampled(model, draws=4).draws,
        "ensemble": Ensemble(model, [Snapshot(model, {"hidden1": torch.ones(6, dtype=torch.bool)}, torch.tensor(0.3))]),
    }
    found = []
    for name, posterior in posteriors.items():
        (place / name).mkdir()
        save_posterior(posterior, place / name / "it.pt")
        found.append(Subject(name, place / name, "it.pt", partial(use_posterior, name != "draws"), is_sealed=True))
    rows = torch.randn(60, 4), torch.randn(60)
    how: dict[str, Any] = {"epochs": 2, "seed": 0, "progress": False}
    plan = SamplingPlan(kernel="chees", chains=2, warmup=2, draws=2, max_tree_depth=2)
    single = SamplingPlan(kernel="nuts", chains=1, warmup=2, draws=2, max_tree_depth=2)
    runs: dict[str, Callable[[Path], object]] = {
        "svi": lambda path: fit(model, rows, checkpoint=path, **how),
        "sghmc": lambda path: fit_sghmc(model, rows, OneShot(cycles=1), checkpoint=path, **how),
        "dense": lambda path: train_dense(mlp(4, (6,), 1), rows, likelihood=GaussianNoise(), checkpoint=path, **how),
        "chains": lambda path: sample(model, rows, plan, engine="eager", seed=0, progress=False, checkpoint=path),
        "one-chain": lambda path: sample(model, rows, single, engine="eager", seed=0, progress=False, checkpoint=path),
    }
    for name, run in runs.items():
        (place / name).mkdir()
        torch.manual_seed(0)
        run(place / name / "it.pt")
        found.append(Subject(name, place / name, "it.pt", partial(resumed, run), is_sealed=name != "one-chain"))
    in_run: dict[str, tuple[Load, tuple[str, ...]]] = {
        "run": (use_run, ("config.json", "checkpoint.pt")),
        "pruned": (partial(use_net, load_pruned), ("config.json", "weights.safetensors", "architecture.json")),
        "dense": (partial(use_net, load_dense), ("dense/weights.safetensors", "dense/architecture.json")),
        "refined": (lambda folder: predicted(load_refined(folder)), ("config.json", "refined.pt")),
        "table": (load_table, ("table.json",)),
        "rows": (lambda folder: predict_rows(folder, folder / "table.csv").frame, ("table.csv", "table.json")),
    }
    for name, (loads, files) in in_run.items():
        for file in files:
            where = f"{name}-{Path(file).name}"
            run_folder(place / where)
            found.append(Subject(where, place / where, file, loads, is_sealed=file.endswith((".pt", ".safetensors"))))
    stopped_claim(place / "claim")
    found.append(Subject("claim", place / "claim", f"{PROGRESS}/call.json", use_claim))
    write_mnist(place / "mnist", compress=True)
    for kind in ("images-idx3", "labels-idx1"):
        use = partial(use_images, "mnist")
        found.append(Subject(f"mnist-{kind}", place / "mnist", f"MNIST/raw/train-{kind}-ubyte.gz", use))
    (place / "jpeg").mkdir()
    write_jpeg(place / "jpeg" / "cifar10_jpeg.npz")
    found.append(Subject("jpeg", place / "jpeg", "cifar10_jpeg.npz", partial(use_images, "cifar10-jpeg")))
    (place / "path").mkdir()
    write_path([RECORD, {**RECORD, "chosen": False}], place / "path")
    found.append(Subject("path", place / "path", "path.json", read_path))
    (place / "npz").mkdir()
    np.savez_compressed(place / "npz" / "it.npz", X=np.ones((20, 3)) * np.arange(20)[:, None], y=np.arange(20.0))
    found.append(Subject("npz", place / "npz", "it.npz", lambda folder: load(str(folder / "it.npz"))))
    (place / "csv").mkdir()
    (place / "csv" / "it.csv").write_text(TABLE)
    found.append(Subject("csv", place / "csv", "it.csv", lambda folder: load(str(folder / "it.csv"))))
    return found


def use_posterior(takes_network: bool, folder: Path) -> object:
    """Load a posterior, and draw from it."""
    if takes_network:
        return predicted(load_posterior(folder / "it.pt", network()))
    return load_posterior(folder / "it.pt").vectors  # draws of any model


def resumed(run: Callable[[Path], object], folder: Path) -> object:
    """Resume a run that has ended, and predict with what it gives."""
    torch.manual_seed(0)
    found: Any = run(folder / "it.pt")
    return predicted(found) if isinstance(found, Posterior) else found(ROWS)
