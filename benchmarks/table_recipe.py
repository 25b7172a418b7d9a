"""Tables: which settings of the default recipe predict held-out rows best; the log of how it was chosen.

    python benchmarks/table_recipe.py --data-dir data --settings before wide
    python benchmarks/table_recipe.py --table

Each row is a run of a recipe (dense net, variational inference, pruning; of those named `default`, which is the recipe
of now, sampling too) on 80 % of the training rows of split 0, scored on the other 20 %; test rows are not looked at.
Besides the open tables there are three functions whose inputs that matter are known: `sin3x` (40 rows, one input),
`friedman` (10 inputs, 5 of them noise, 200 rows) and `product` (32 inputs, of which sin(2 x0 + x1) x2 reads three,
7,000 rows). Rows that are there already are skipped.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import timing
import torch
from results_file import locked, write_whole
from sklearn.datasets import make_friedman1

from bnn_pyro.data import Dataset, Split, load
from bnn_pyro.inference.mcmc.stopping import StoppingRule
from bnn_pyro.inference.svi.schedule import LearningRates, Schedule
from bnn_pyro.priors import Gaussian
from bnn_pyro.recipes import Recipe, recipe
from bnn_pyro.recipes.dense_training import DenseTraining
from bnn_pyro.recipes.runs import run
from bnn_pyro.refinement import Refinement
from bnn_pyro.reports.markdown import markdown_table

RESULTS = timing.RESULTS / "table_recipe.json"
REGRESSION = ("yacht", "boston-housing", "energy", "concrete", "wine-red")
CLASSES = ("australian", "glass", "heart", "ionosphere", "sonar")
LARGE = ("power-plant", "kin8nm", "naval", "protein", "bikesharing")
FUNCTIONS = ("sin3x", "friedman", "product")
Row = dict[str, Any]


# ---- data ------------------------------------------------------------------------------------------------------------
def held_out(table: str, data_dir: Path, seed: int) -> Dataset:
    """Return a table whose test rows are a fifth of the training rows of split 0, or a function's own rows."""
    if table in FUNCTIONS:
        return _function(table, seed)
    own = data_dir / "tables" / f"{table}.npz"
    data = load(str(own) if own.exists() else table, data_dir=data_dir, validation=0.2, seed=seed)
    assert data.validation is not None
    return replace(data, name="my.csv", validation=None, test=data.validation)


def _function(name: str, seed: int) -> Dataset:
    random = np.random.default_rng(seed)
    if name == "sin3x":  # 200 points of the function itself, without noise, to score
        x = np.concatenate([random.uniform(-2, 2, (40, 1)), np.linspace(-2, 2, 200)[:, None]])
        y = np.sin(3 * x[:, 0]) + 0.3 * random.standard_normal(240) * (np.arange(240) < 40)
        rows = 40
    elif name == "friedman":
        x, y = make_friedman1(1200, noise=1.0, random_state=seed)
        rows = 200
    else:
        x = random.standard_normal((8750, 32))
        y = np.sin(2 * x[:, 0] + x[:, 1]) * x[:, 2] + 0.2 * random.standard_normal(8750)
        rows = 7000
    x, y_mean, y_std = (x - x[:rows].mean(0)) / x[:rows].std(0), y[:rows].mean(), y[:rows].std()
    tensors = (torch.tensor(x, dtype=torch.float32), torch.tensor((y - y_mean) / y_std, dtype=torch.float32))
    train, test = (Split(*(part[rows_of] for part in tensors)) for rows_of in (slice(rows), slice(rows, None)))
    return Dataset("my.csv", "regression", train, None, test, None, float(y_mean), float(y_std))


# ---- settings --------------------------------------------------------------------------------------------------------
FAST = LearningRates(slab_locs=3e-3, slab_scales=1e-2, scales=1e-2, gates=2e-2)


def of_steps(data: Dataset, steps: int = 8000, **changes: Any) -> Recipe:
    """Return a recipe of so many steps of 64 rows; ``shares`` are those of its phases."""
    per_epoch = -(-len(data.train) // 64)
    epochs = max(20, round(steps / per_epoch))
    shares = {"hold": 0.2, "freeze": 1 / 7, "kl_warmup": 0.1} | changes.pop("shares", {})
    phases = {name: int(epochs * shares[name]) for name in ("hold", "freeze")}
    schedule = Schedule(**phases, kl_warmup=epochs * shares["kl_warmup"], shrink_below=0.03)
    settings: dict[str, Any] = {
        "hidden": (50, 50),
        "inclusion": 0.1,
        "dense": DenseTraining(epochs=min(epochs, max(300, round(2000 / per_epoch)))),
        "epochs": epochs,
        "batch_size": 64,
        "kl_weight": 0.3,
        "schedule": replace(schedule, **changes.pop("schedule", {})),
        "rates": FAST,
        "refinement": None,
    }
    return Recipe(**{**settings, **changes})


def before(data: Dataset) -> Recipe:
    """Return the default recipe of tables before this choice."""
    epochs = min(1000, max(20, round(5000 * 64 / len(data.train))))
    return Recipe(
        hidden=(50,),
        dense=DenseTraining(epochs=epochs),
        epochs=epochs,
        batch_size=64,
        kl_weight=0.2 if data.num_classes else 1.0,
        schedule=Schedule(hold=epochs // 10, freeze=epochs // 10, kl_warmup=epochs / 20),
    )


def _usual(data: Dataset) -> Recipe:
    """Return what is the default recipe of tables now, sampling included."""
    return recipe("my.csv", None, data.task, rows=len(data.train), inputs=data.train.x[0].numel())


def _shorter(data: Dataset, share: float = 0.75, seconds: float = 60.0) -> Recipe:
    """Return the default with a share of its steps, and fewer seconds of sampling."""
    usual = _usual(data)
    refinement = replace(usual.refinement or Refinement(), until=StoppingRule(seconds=seconds))
    return replace(usual.with_epochs(round(share * usual.epochs)), refinement=refinement)


def _with_slab(data: Dataset, sigma: float) -> Recipe:
    """Return the default with another standard deviation of the sampled network's weights."""
    usual = _usual(data)
    return replace(usual, refinement=replace(usual.refinement or Refinement(), slab=Gaussian(sigma)))


def _batches(data: Dataset, batch_size: int, hidden: tuple[int, ...] = (50, 50), steps: int = 8_000) -> Recipe:
    """Return the default with batches of another size, and as many steps of them if no number is given."""
    usual = _usual(data)
    epochs = max(20, round(steps * batch_size / len(data.train)))
    larger = replace(usual.with_epochs(epochs), batch_size=batch_size, hidden=hidden)
    return replace(larger, dense=replace(usual.dense, epochs=epochs, batch_size=batch_size))


def _from_draws(data: Dataset) -> Recipe:
    """Return the default with chains that start at draws of the guide."""
    usual = _usual(data)
    return replace(usual, refinement=replace(usual.refinement or Refinement(), start="draws"))


DEEP = (16, 16, 16, 16)
LONG = {"hold": 0.4, "kl_warmup": 0.4}
SETTINGS: dict[str, Callable[[Dataset], Recipe]] = {
    "default": _usual,
    "default, three quarters": _shorter,  # with trials of half of its epochs
    "default, 60 seconds": _usual,  # and trials of two fifths of its epochs, which is the default of now
    "default, slab of 1": lambda data: _with_slab(data, 1.0),  # which is the default of four inputs or more
    "default, batches of 256": lambda data: _batches(data, 256),
    "default, batches of 256, 100-100": lambda data: _batches(data, 256, (100, 100)),
    "default, 16,000 batches of 256": lambda data: _batches(data, 256, steps=16_000),
    "default, 16,000 batches of 256, 100-100": lambda data: _batches(data, 256, (100, 100), 16_000),
    "default, chains from draws": _from_draws,
    "default, no gates on inputs": lambda data: replace(_usual(data), select_inputs=False),
    "default, gates on inputs": lambda data: replace(_usual(data), select_inputs=True),
    "default, constant noise": lambda data: replace(_usual(data), noise="constant"),
    "default, mean noise": lambda data: replace(_usual(data), noise="mean"),
    "default, mean noise sampled": lambda data: replace(_usual(data), noise="auto"),
    "default, predicted noise": lambda data: replace(_usual(data), noise="input"),
    "default, deep, predicted noise": lambda data: replace(_usual(data), hidden=DEEP, noise="input"),
    "before": lambda data: replace(before(data), refinement=None),
    "wide": of_steps,
    "wide, long": lambda data: of_steps(data, shares=LONG),
    "wide, long, cold": lambda data: of_steps(data, shares=LONG, schedule={"temperature": (0.5, 0.1)}),
    "wide, long, .1": lambda data: of_steps(data, shares=LONG, kl_weight=0.1),
    "wide, long, 4000": lambda data: of_steps(data, 4000, shares=LONG),
    "deep, long, varying": lambda data: of_steps(data, shares=LONG, hidden=DEEP, noise="input"),
}
SHOWN = ("rmse", "accuracy", "nll")


# ---- rows ------------------------------------------------------------------------------------------------------------
def main() -> None:
    """Run what the command line asks for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tables", nargs="+", default=(*REGRESSION, *CLASSES), choices=REGRESSION + CLASSES + LARGE + FUNCTIONS
    )
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--reference", action="store_true", help="sample the whole network too")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--table", action="store_true", help="print the table of all rows and stop")
    options = parser.parse_args()
    timing.prepare(1)
    torch.set_flush_denormal(True)
    if not options.table:
        for name in options.settings:
            for table in options.tables:
                for seed in options.seeds:
                    _add(table, name, seed, options)
    print(table_of(timing.read(RESULTS)))


def _add(table: str, name: str, seed: int, options: argparse.Namespace) -> None:
    key = {"table": table, "settings": name, "seed": seed}
    if any(key.items() <= row.items() for row in timing.read(RESULTS)):
        return
    data = held_out(table, options.data_dir, seed)
    settings = replace(SETTINGS[name](data), reference=options.reference)
    row = {**key, **_measured(run(data, settings, seed=seed, progress=False))}
    row["origin"] = timing.origin(recipe=repr(settings), threads=1)
    with locked(RESULTS):
        write_whole(RESULTS, {"rows": [*timing.read(RESULTS), row]})
    print({k: v for k, v in row.items() if k != "origin"}, flush=True)


def _measured(metrics: Mapping[str, Any]) -> Row:
    parts = ("dense", "posterior", "pruned", "refined", "reference")
    found = {k: v for k, v in metrics.items() if k.startswith(tuple(f"{p}_test" for p in parts))}
    own = (
        "nodes_kept",
        "params",
        "kl_weight",
        "input_trial",
        "seconds",
        "not_refined",
        "refined_r_hat",
        "refined_seconds",
    )
    return {**found, **{name: metrics[name] for name in own if name in metrics}}


def table_of(rows: list[Row]) -> str:
    """Return a line per table and settings, means over seeds."""
    columns = [f"{part}_test_{score}" for score in SHOWN for part in ("dense", "posterior", "refined", "reference")]
    keys = dict.fromkeys((row["table"], row["settings"]) for row in rows)
    lines = []
    for key in sorted(keys):
        found = [row for row in rows if (row["table"], row["settings"]) == key]
        values = [[row[name] for row in found if name in row] for name in columns]
        weights = f"{mean(row['params'][0] for row in found):.0f}"
        cells = (f"{mean(each):.3g}" if each else "" for each in values)
        lines.append((*key, str(len(found)), weights, *cells, f"{mean(row['seconds'] for row in found):.0f}"))
    return markdown_table(("table", "settings", "seeds", "weights", *columns, "seconds"), lines)


if __name__ == "__main__":
    main()
