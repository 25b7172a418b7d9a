"""Centred against non-centred: the two guides on the same SS-GL network, data, start and seeds.

`AutoSpikeSlab` answers a slab in units of its node's scale (non-centred), `AutoCentered` in the weights themselves.
Both start from the same dense net, at the same weights and the same relative standard deviations, and see the same
batches in the same order. The script prints the bound, the accuracy and the nodes of every run, and writes all curves:

    python benchmarks/centered.py [--epochs 90] [--seeds 0 1 2] [--out benchmarks/results/centered.json]

The KL weight is below 1, so that the bound is the tempered one. The two families are not the same set of posteriors,
so that their bounds differ at the optimum as well as on the way to it.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import pyro
import torch
from matplotlib.figure import Figure
from torch import nn

from bnn_pyro import GroupLasso, SparseNetwork, SpikeSlab, data, fit, networks
from bnn_pyro.inference.svi.schedule import LearningRates, Schedule
from bnn_pyro.inference.training.dense import train_dense
from bnn_pyro.likelihoods import Categorical
from bnn_pyro.reports.figures import COLORS, SHADES, new_figure, set_title, style_axes
from bnn_pyro.reports.markdown import markdown_table
from guides import AutoCentered, AutoSpikeSlab

GUIDES = {"non-centred": AutoSpikeSlab, "centred": AutoCentered}
GUIDE_COLORS = dict(zip(GUIDES, COLORS, strict=False))
RATES = LearningRates(slab_locs=3e-3, slab_scales=1e-2, scales=1e-2, gates=2e-2)
TAIL = 5  # epochs that the final bound is averaged over
SETTINGS = {
    "data": "digits",
    "net": "mlp",
    "hidden": [50, 50],
    "prior": "ss-gl",
    "inclusion": 1e-3,
    "pretrain_epochs": 30,
    "batch_size": 64,
    "hold": 20,
    "kl_weight": 0.2,
    "learning_rates": vars(RATES),
}


def main() -> None:
    """Run every pair of seed and guide; print the table, write the JSON and the picture."""
    options = _options()
    torch.set_num_threads(1)
    dataset = data.load("digits", flatten=True)
    start = time.process_time()
    rows = []
    for seed in options.seeds:
        dense = _dense(dataset, seed)
        for guide in GUIDES:
            rows.append(run(dataset, dense, guide, seed, options.epochs))
            print(_line(rows[-1]), flush=True)
    print(table(rows))
    content = {
        "benchmark": "centered",
        "machine": _machine(),
        "versions": _versions(),
        "cpu_seconds": time.process_time() - start,
        "rows": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    plot_rows(rows).savefig(options.out.with_suffix(".png"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=90)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    default = Path(__file__).parent / "results" / "centered.json"
    parser.add_argument("--out", type=Path, default=default, help="the JSON file; the picture stands beside it")
    options = parser.parse_args()
    if options.epochs <= SETTINGS["hold"]:
        parser.error(f"--epochs must be above {SETTINGS['hold']}, when the gates are set free; got {options.epochs}")
    return options


def _dense(dataset: data.Dataset, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = networks.mlp(64, (50, 50), 10)
    train = (dataset.train.x, dataset.train.y)
    return train_dense(net, train, likelihood=Categorical(), epochs=30, batch_size=64, seed=seed, progress=False)


def run(dataset: data.Dataset, dense: nn.Module, guide: str, seed: int, epochs: int) -> dict[str, Any]:
    """Fit one guide.

    Args:
        dataset: The data.
        dense: The dense net that the posterior starts from.
        guide: One of `GUIDES`.
        seed: Seed of batches and draws.
        epochs: Epochs of variational inference.

    Returns:
        The row of the results.
    """
    prior = SpikeSlab(GroupLasso(), inclusion=1e-3)
    train, test = dataset.train, dataset.test
    model = SparseNetwork(dense, train.x[:2], prior=prior, likelihood=Categorical(), num_data=len(train))
    start = time.process_time()
    posterior = fit(
        model,
        (train.x, train.y),
        epochs=epochs,
        batch_size=64,
        schedule=Schedule(hold=20),
        kl_weight=0.2,
        rates=RATES,
        guide=GUIDES[guide](model.prior),
        seed=seed,
        progress=False,
    )
    seconds = time.process_time() - start
    bound = [-record["loss"] for record in posterior.history]
    return {
        "guide": guide,
        "seed": seed,
        "epochs": epochs,
        "final_bound": mean(bound[-TAIL:]),
        "test_accuracy": posterior.evaluate_median(test.x, test.y)["accuracy"],
        "nodes_kept": {name: [int(keep.sum()), len(keep)] for name, keep in posterior.keep().items()},
        "cpu_seconds": seconds,
        "bound": [round(value, 4) for value in bound],
        "settings": SETTINGS,
    }


def _line(row: dict[str, Any]) -> str:
    nodes = "-".join(str(kept) for kept, _ in row["nodes_kept"].values())
    return (
        f"seed {row['seed']}  {row['guide']:<12} bound {row['final_bound']:8.4f}  "
        f"accuracy {row['test_accuracy']:.4f}  nodes {nodes:>6}  {row['cpu_seconds']:5.1f} s of one core"
    )


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the means over seeds as a Markdown table, and in how many seeds which bound is the higher one.

    Args:
        rows: The benchmark's rows.

    Returns:
        The table and a sentence.
    """
    lines = []
    for guide in GUIDES:
        some = [row for row in rows if row["guide"] == guide]
        nodes = (f"{mean(row['nodes_kept'][name][0] for row in some):.1f}" for name in some[0]["nodes_kept"])
        bounds = (f"{_mean_bound(some, part):.3f}" for part in (0.25, 0.5, 1.0))
        accuracy = mean(row["test_accuracy"] for row in some)
        lines.append((guide, ", ".join(bounds), f"{accuracy:.2%}", ", ".join(nodes)))
    by = {(row["guide"], row["seed"]): row["final_bound"] for row in rows}
    seeds = sorted({seed for _, seed in by})
    higher = sum(by["non-centred", seed] > by["centred", seed] for seed in seeds)
    shown = markdown_table(("guide", "bound after 1/4, 1/2, all epochs", "accuracy", "nodes kept"), lines)
    return f"\n{shown}\n\nAt the end the non-centred bound is the higher one in {higher} of {len(seeds)} seeds."


def _mean_bound(rows: Sequence[dict[str, Any]], part: float) -> float:
    """Return the bound after a part of the epochs, over the seeds and the last few epochs before."""
    end = round(part * len(rows[0]["bound"]))
    return mean(mean(row["bound"][max(0, end - TAIL) : end]) for row in rows)


def plot_rows(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw the bound over the epochs, one line a run; on the right the epochs with free gates alone.

    Args:
        rows: The benchmark's rows.

    Returns:
        The figure.
    """
    figure = new_figure(9.6, 3.7)
    hold = rows[0]["settings"]["hold"]
    for axes, start in zip(figure.subplots(1, 2), (0, hold), strict=True):
        for row in rows:
            bound = row["bound"][start:]
            label = row["guide"] if row["seed"] == rows[0]["seed"] else None
            epochs = range(start + 1, len(row["bound"]) + 1)
            axes.plot(epochs, bound, color=GUIDE_COLORS[row["guide"]], alpha=0.85, label=label)
        style_axes(axes)
        axes.set_xlabel("epoch")
        axes.set_xlim(start, len(rows[0]["bound"]))
    left, right = figure.axes
    left.axvspan(0, hold, color=SHADES[0], linewidth=0, zorder=0, label="gates held open")
    left.set_ylabel("tempered bound, nats per datum")
    left.legend(loc="lower right", frameon=False, fontsize="small")
    right.set_title("once the gates are free", loc="left", fontsize="medium")
    left.set_title("all epochs", loc="left", fontsize="medium")
    set_title(figure, "SS-GL on digits: centred against non-centred")
    return figure


def _machine() -> dict[str, Any]:
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": torch.__version__, "pyro": pyro.__version__}


if __name__ == "__main__":
    main()
