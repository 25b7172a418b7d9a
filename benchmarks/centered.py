"""Centred against non-centred: the two guides on the same SS-GL network, data, start and seeds.

`AutoSpikeSlab` answers a slab in units of its node's scale (non-centred), `AutoCentered` in the weights themselves.
Both start from the same dense net, at the same weights and the same relative standard deviations, and see the same
batches. For each KL weight the script prints the bound, the accuracy and the nodes at the end of every run, and writes
all curves:

    python benchmarks/centered.py [--epochs 60] [--seeds 0 1 2] [--out benchmarks/results/centered.json]

With a KL weight of 1 the bound is the ELBO; below 1 it is the tempered one, and the two must not be compared.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from bnn_pyro import GroupLasso, SparseNetwork, SpikeSlab, data, fit, networks
from bnn_pyro.inference.dense import train_dense
from bnn_pyro.likelihoods import Categorical
from guides import AutoCentered, AutoSpikeSlab

GUIDES = {"non-centred": AutoSpikeSlab, "centred": AutoCentered}
COLORS = {"non-centred": "#0072B2", "centred": "#D55E00"}
KL_WEIGHTS = (1.0, 0.2)
TAIL = 5  # epochs that the final bound is averaged over
SETTINGS = {
    "data": "digits",
    "net": "mlp",
    "hidden": [50, 50],
    "prior": "ss-gl",
    "inclusion": 1e-3,
    "pretrain_epochs": 30,
    "batch_size": 64,
}


def main() -> None:
    """Run every pair of KL weight, seed and guide; print the table, write the JSON and the picture."""
    options = _options()
    torch.set_num_threads(1)
    dataset = data.load("digits", flatten=True)
    rows = []
    for seed in options.seeds:
        dense = _dense(dataset, seed)
        for kl_weight, guide in product(KL_WEIGHTS, GUIDES):
            rows.append(_row(dataset, dense, guide, kl_weight, seed, options.epochs))
            print(_line(rows[-1]), flush=True)
    print(_summary(rows))
    content = {"benchmark": "centered", "machine": _machine(), "versions": _versions(), "rows": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    plot_rows(rows).savefig(options.out.with_suffix(".png"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    default = Path(__file__).parent / "results" / "centered.json"
    parser.add_argument("--out", type=Path, default=default, help="the JSON file; the picture stands beside it")
    options = parser.parse_args()
    if options.epochs < 10:
        parser.error(f"--epochs must be at least 10, got {options.epochs}")
    return options


def _dense(dataset: data.Dataset, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = networks.mlp(64, (50, 50), 10)
    train = (dataset.train.x, dataset.train.y)
    return train_dense(net, train, likelihood=Categorical(), epochs=30, batch_size=64, seed=seed, progress=False)


def _row(
    dataset: data.Dataset, dense: nn.Module, guide: str, kl_weight: float, seed: int, epochs: int
) -> dict[str, Any]:
    """Fit one guide and return what came out."""
    train, test = dataset.train, dataset.test
    prior = SpikeSlab(GroupLasso(), inclusion=1e-3)
    model = SparseNetwork(dense, train.x[:2], prior=prior, likelihood=Categorical(), num_data=len(train))
    hold = epochs // 6
    start = time.perf_counter()
    posterior = fit(
        model,
        (train.x, train.y),
        epochs=epochs,
        batch_size=64,
        hold=hold,
        kl_weight=kl_weight,
        guide=GUIDES[guide](model.prior),
        seed=seed,
        progress=False,
    )
    seconds = time.perf_counter() - start
    bound = [-record["loss"] for record in posterior.history]
    return {
        "guide": guide,
        "kl_weight": kl_weight,
        "seed": seed,
        "bound": [round(value, 5) for value in bound],
        "final_bound": mean(bound[-TAIL:]),
        "test_accuracy": posterior.evaluate(test.x, test.y)["accuracy"],
        "nodes_kept": {name: [int(keep.sum()), len(keep)] for name, keep in posterior.keep().items()},
        "seconds": seconds,
        "settings": {**SETTINGS, "kl_weight": kl_weight, "epochs": epochs, "hold": hold, "guide": guide},
    }


def _line(row: dict[str, Any]) -> str:
    nodes = "-".join(str(kept) for kept, _ in row["nodes_kept"].values())
    return (
        f"KL weight {row['kl_weight']:<4g} seed {row['seed']}  {row['guide']:<12} bound {row['final_bound']:8.4f}  "
        f"accuracy {row['test_accuracy']:.4f}  nodes {nodes:>6}  {row['seconds']:5.1f} s"
    )


def _summary(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of means over seeds, and in how many pairs the non-centred bound is the higher one."""
    lines = [
        "",
        "| KL weight | guide | bound, nats a datum | accuracy | nodes kept |",
        "| --- | --- | --- | --- | --- |",
    ]
    for kl_weight, guide in product(KL_WEIGHTS, GUIDES):
        some = [row for row in rows if (row["kl_weight"], row["guide"]) == (kl_weight, guide)]
        nodes = [mean(row["nodes_kept"][name][0] for row in some) for name in some[0]["nodes_kept"]]
        lines.append(
            f"| {kl_weight:g} | {guide} | {mean(row['final_bound'] for row in some):.3f} "
            f"| {mean(row['test_accuracy'] for row in some):.2%} | {' - '.join(f'{n:.1f}' for n in nodes)} |"
        )
    for kl_weight in KL_WEIGHTS:
        by = {(row["guide"], row["seed"]): row["final_bound"] for row in rows if row["kl_weight"] == kl_weight}
        seeds = sorted({seed for _, seed in by})
        wins = sum(by["non-centred", seed] > by["centred", seed] for seed in seeds)
        lines.append(
            f"\nKL weight {kl_weight:g}: the non-centred bound is the higher one in {wins} of {len(seeds)} seeds."
        )
    return "\n".join(lines)


def plot_rows(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw the bound over the epochs, one panel a KL weight, one line a run.

    Args:
        rows: The benchmark's rows.

    Returns:
        The figure.
    """
    weights = sorted({row["kl_weight"] for row in rows}, reverse=True)
    figure = Figure(figsize=(4.6 * len(weights) + 0.6, 3.6), dpi=110, layout="constrained")
    for axes, kl_weight in zip(figure.subplots(1, len(weights), squeeze=False)[0], weights, strict=True):
        _draw(axes, [row for row in rows if row["kl_weight"] == kl_weight], kl_weight)
    figure.suptitle("SS-GL on digits: centred against non-centred", x=0.01, ha="left", fontweight="bold")
    return figure


def _draw(axes: Axes, rows: Sequence[dict[str, Any]], kl_weight: float) -> None:
    for row in rows:
        epochs = range(1, len(row["bound"]) + 1)
        label = row["guide"] if row["seed"] == rows[0]["seed"] else None
        axes.plot(epochs, row["bound"], color=COLORS[row["guide"]], linewidth=1.6, alpha=0.85, label=label)
    hold = rows[0]["settings"]["hold"]
    axes.axvspan(0, hold, color="#DCEBF7", linewidth=0, zorder=0, label="gates held open")
    axes.set_xlim(0, len(rows[0]["bound"]))
    name = "ELBO" if kl_weight == 1 else "tempered bound"
    axes.set_title(f"KL weight {kl_weight:g}: {name}", loc="left", fontsize="medium")
    axes.set(xlabel="epoch", ylabel="nats per datum")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E4E4E4", linewidth=0.7)
    axes.legend(loc="lower right", frameon=False, fontsize="small")


def _machine() -> dict[str, Any]:
    return {
        "platform": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("torch", "pyro-ppl", "bnn_pyro"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a checkout that is not installed
            found[name] = "not installed"
    return found


if __name__ == "__main__":
    main()
