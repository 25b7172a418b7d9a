"""What data costs that come from a loader or a file: time per step, and resident memory.

    python benchmarks/streaming.py loader --data-dir data
    python benchmarks/streaming.py mapped --folder /tmp
    python benchmarks/streaming.py predict
    python benchmarks/streaming.py loader mapped predict --quick

``loader``: one epoch of ``fit`` on MNIST (784-400-400-10, SS-GHS, batches of 256 rows, the traced step) from tensors,
and from a ``DataLoader`` with two workers over a ``Dataset`` of images. Contestants take turns in one process, with the
same order of rows, so that the losses have to be equal. A step's time is that of the whole call over its steps, reading
and checks of the data counted, tracing not: the epoch that is timed is the second, whose call is the same but for that.

``mapped``: one epoch of ``fit`` on a memory-mapped array of ``--gigabytes``, in a process of its own, which looks at
its memory every 20 ms: ``resident`` is VmRSS of ``/proc/self/status``, of which ``anonymous`` is RssAnon, what the
process cannot give back; the rest are pages of files, which the system may drop. Numbers are those of the highest
moment; what the process held before is there too, which is mostly torch. The file is removed.

``predict``: the same for ``predict`` with its default options, 32 draws, of the ResNet-18 for 3 x 32 x 32 pixels and
``--images`` of them.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import timing
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bnn_pyro import Categorical, Compute, GaussianNoise, GroupHorseshoe, SparseNetwork, SpikeSlab, fit, networks
from bnn_pyro.data import load
from bnn_pyro.likelihoods import Likelihood
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.reports.markdown import markdown_table
from guides import AutoSpikeSlab

BATCH, MAPPED_BATCH, FEATURES = 256, 1024, 1000
EVERY = 0.02  # seconds between two looks at the memory


def main() -> None:
    """Measure what the command line asks for, print the rows and write them; those of other measures stay."""
    parsed = timing.parser(__doc__, "streaming")
    parsed.add_argument("measures", nargs="+", choices=tuple(MEASURES))
    parsed.add_argument("--data-dir", default="data")
    parsed.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the large file is put")
    parsed.add_argument("--gigabytes", type=float, default=5.0)
    parsed.add_argument("--images", type=int, default=1024)
    parsed.add_argument("--rounds", type=int, default=5)
    parsed.add_argument("--child", default="", help="the file to read, in the process that is measured")
    options = parsed.parse_args()
    if options.quick:
        options.gigabytes, options.images, options.rounds = min(options.gigabytes, 0.05), 2, 1
    timing.prepare(options.threads)
    if options.child:
        print(json.dumps(CHILDREN[options.measures[0]](options)))
        return
    old = timing.read(options.out)
    rows = [row for row in old if row["measure"] not in options.measures]
    for measure in options.measures:
        found = {"measure": measure, **MEASURES[measure](options), **timing.origin(threads=options.threads)}
        print(markdown_table(("", measure), [(name, f"{value}") for name, value in found.items()]))
        rows.append(found)
    timing.write(options.out, rows, {row["measure"]: row["ratio"] for row in rows if "ratio" in row})


# ---- a loader --------------------------------------------------------------------------------------------------------


class Images(Dataset[tuple[Tensor, int]]):
    """Images as bytes, of which each is converted when it is asked for, as data sets of torchvision do."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = (x * 255).round().to(torch.uint8), y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.x[row].float() / 255, int(self.y[row])


def measure_loader(options: Namespace) -> dict[str, Any]:
    """Time an epoch from tensors and from a loader, alternating.

    Args:
        options: The command line's.
    """
    train = load("mnist", data_dir=options.data_dir, flatten=True).train
    rows = 2_000 if options.quick else len(train)
    images = Images(train.x[:rows], train.y[:rows])
    x, y = images.x.float() / 255, images.y
    net = networks.mlp(784, (400, 400), 10)
    model = _model(net, x[:2], Categorical(), rows)
    data: dict[str, object] = {
        "tensors": (x, y),
        "loader": DataLoader(images, batch_size=BATCH, shuffle=True, num_workers=2),
    }
    seconds: dict[str, list[float]] = {name: [] for name in data}
    losses: dict[str, list[float]] = {}
    for turn in range(options.rounds):
        for name in sorted(data, reverse=bool(turn % 2)):
            start = time.perf_counter()
            compute = Compute(engine="traced")
            found = fit(model, data[name], epochs=2, batch_size=BATCH, compute=compute, seed=0, progress=False)
            seconds[name].append(time.perf_counter() - start - found.history[0]["seconds"])
            losses[name] = [record["loss"] for record in found.history]
    steps = -(-rows // BATCH)
    times = {name: timing.summary([s / steps for s in each]) for name, each in seconds.items()}
    return {
        "rows": rows,
        "steps": steps,
        "ms_per_step": times,
        "ratio": times["loader"]["median"] / times["tensors"]["median"],
        "losses": losses,
        "same_losses": losses["loader"] == losses["tensors"],
    }


def _model(net: nn.Module, example: Tensor, likelihood: Likelihood, rows: int) -> SparseNetwork:
    prior = SpikeSlab(GroupHorseshoe(), inclusion=0.1)
    return SparseNetwork(net, example, prior=prior, likelihood=likelihood, num_data=rows)


# ---- memory ----------------------------------------------------------------------------------------------------------


def measure_mapped(options: Namespace) -> dict[str, Any]:
    """Write a large array, and train on it in another process.

    Args:
        options: The command line's.
    """
    rows = round(options.gigabytes * 1e9 / 4 / FEATURES)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "x.npy"
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, FEATURES))
        block = np.random.default_rng(0).standard_normal((10_000, FEATURES), np.float32)  # the same again and again
        for start in range(0, rows, len(block)):
            array[start : start + len(block)] = block[: rows - start]
        array.flush()
        size = path.stat().st_size
        return {"rows": rows, "features": FEATURES, "file_bytes": size, **_child("mapped", path, options)}


def _child(measure: str, path: Path | str, options: Namespace) -> dict[str, Any]:
    """Return what this script prints in a process of its own."""
    own = [sys.executable, __file__, measure, "--child", str(path), "--images", str(options.images)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    threads = ["--threads", str(options.threads)]
    done = subprocess.run([*own, *threads], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def train_on_file(options: Namespace) -> dict[str, Any]:
    """Train for an epoch on the array in a file.

    Args:
        options: The command line's.
    """
    x = np.load(options.child, mmap_mode="r")
    y = torch.randn(len(x), generator=torch.Generator().manual_seed(0))
    net = networks.mlp(FEATURES, (50,), 1)
    model = _model(net, torch.from_numpy(np.array(x[:2])), GaussianNoise(), len(x))
    with measured() as found:
        compute = Compute(engine="traced")
        posterior = fit(model, (x, y), epochs=1, batch_size=MAPPED_BATCH, compute=compute, seed=0, progress=False)
    steps = -(-len(x) // MAPPED_BATCH)
    return {
        **found,
        "steps": steps,
        "ms_per_step": 1e3 * found["seconds"] / steps,
        "loss": posterior.history[0]["loss"],
    }


def measure_predict(options: Namespace) -> dict[str, Any]:
    """Predict images by a ResNet-18 in another process.

    Args:
        options: The command line's.
    """
    return {"images": options.images, **_child("predict", "-", options)}


def predict_images(options: Namespace) -> dict[str, Any]:
    """Predict images with default options.

    Args:
        options: The command line's.
    """
    x = torch.rand(options.images, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = _model(networks.resnet(18), x[:2], Categorical(), 1000)
    posterior = GuidePosterior(model, AutoSpikeSlab(model.prior))
    with measured() as found:
        posterior.predict(x)
    return dict(found)


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """Yield a dictionary that gets the seconds of what happens, and the highest memory meanwhile.

    Of the seconds, those of the processor are what a machine that others use says more about.
    """
    before, found = _memory(), {"resident_bytes": 0.0, "anonymous_bytes": 0.0}
    over = threading.Event()

    def look() -> None:
        while not over.wait(EVERY):
            for name, size in _memory().items():
                found[name] = max(found[name], size)

    watcher = threading.Thread(target=look)
    watcher.start()
    start, used = time.perf_counter(), time.process_time()
    try:
        yield found
    finally:
        over.set()
        watcher.join()
    found |= {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - used}
    found |= {f"{name}_before": size for name, size in before.items()}


def _memory() -> dict[str, float]:
    """Return the bytes that this process holds, of which those that belong to no file."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    names = {"resident_bytes": "VmRSS", "anonymous_bytes": "RssAnon"}
    return {name: 1024.0 * int(fields[field].split()[0]) for name, field in names.items()}


MEASURES: dict[str, Callable[[Namespace], dict[str, Any]]] = {
    "loader": measure_loader,
    "mapped": measure_mapped,
    "predict": measure_predict,
}
CHILDREN = {"mapped": train_on_file, "predict": predict_images}


if __name__ == "__main__":
    main()
