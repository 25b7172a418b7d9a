"""Accuracy against size: every run of the main job is a row of ``benchmarks/results/frontier.json``.

    python benchmarks/frontier.py --data mnist --prior ss-ghs --data-dir data --seeds 0 1 2
    python benchmarks/frontier.py --table

Rows that are there already (same data, net, prior, seed and settings) are skipped, so an interrupted run is taken up
by the same command, and two commands may run side by side. Figures are those of the last epoch; gates at an
inclusion probability above 1/2; counts two-sided.
"""

import argparse
import dataclasses
import json
import os
import platform
from pathlib import Path
from statistics import mean
from typing import Any

import pyro
import torch
from results_file import locked, write_whole

from bnn_pyro.data import Dataset, Split, load
from bnn_pyro.networks.named import NETS
from bnn_pyro.recipes import METHODS, PRIORS, Recipe, default_prior, recipe, run
from bnn_pyro.recipes.config_file import settings_of
from bnn_pyro.reports.markdown import markdown_table

RESULTS = Path(__file__).parent / "results" / "frontier.json"
SCORES = ("test_accuracy", "test_nll", "test_ece", "nodes_kept", "params_kept", "flops_kept", "seconds")
MORE = ("latency_ratio", "pruned_max_abs_diff", "test_rmse")
KEPT = ("parameters kept", "FLOPs kept", "latency, pruned / dense")
PREFIXES = ("dense_test_", "posterior_test_")


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["digits"], help="data sets by name")
    parser.add_argument("--prior", nargs="+", default=["ss-ghs"], choices=PRIORS)
    parser.add_argument("--net", default="mlp", choices=NETS)
    parser.add_argument("--method", default="svi", choices=METHODS, help="sghmc has the prior ss-ig, whatever --prior")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--data-dir", help="folder of the data sets, as for bnn-pyro fit")
    parser.add_argument("--kl-weight", type=float, help="another KL weight, for all phases, than the recipe's")
    parser.add_argument("--rows", type=int, help="train on the first so many rows alone; the result says so")
    parser.add_argument("--test-rows", type=int, help="test on the first so many rows alone; the result says so")
    parser.add_argument("--hidden", nargs="+", type=int, help="other widths than the recipe's, as for bnn-pyro fit")
    parser.add_argument("--epochs", type=int, help="another number of epochs than the recipe's")
    parser.add_argument("--batch-size", type=int, help="another number of rows a step of inference")
    parser.add_argument("--pretrain-epochs", type=int, help="another number of epochs of dense training")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print the table of all rows and stop")
    options = parser.parse_args()
    if not options.table:
        torch.set_num_threads(options.threads)
        torch.set_flush_denormal(True)
        priors = options.prior if options.method == "svi" else [default_prior(options.method)]
        for seed in options.seeds:  # seed 0 of every row first
            for data in options.data:
                for prior in priors:
                    add_row(data, prior, seed, options)
    rows = read()["rows"]
    print(table(rows))
    for data in sorted({row["data"] for row in rows if row["prior"] == "ig"}):
        print(f"\n{comparison(data, [row for row in rows if row['data'] == data])}")


def add_row(data: str, prior: str, seed: int, options: argparse.Namespace) -> None:
    """Makes one run and appends its row, unless it is there."""
    net, method = options.net, options.method
    dataset, subset = part(load(data, data_dir=options.data_dir), options.rows, options.test_rows)
    settings = recipe(data, prior, dataset.task, net=net, rows=len(dataset.train), method=method)
    if options.kl_weight is not None:
        schedule = dataclasses.replace(settings.schedule, frozen_kl_weight=None)
        settings = dataclasses.replace(settings, kl_weight=options.kl_weight, schedule=schedule)
    if options.hidden is not None:
        settings = dataclasses.replace(settings, hidden=tuple(options.hidden))
    if options.epochs is not None:
        settings = settings.with_epochs(options.epochs)
    if options.batch_size is not None:
        settings = dataclasses.replace(settings, batch_size=options.batch_size)
    if options.pretrain_epochs is not None:
        dense = dataclasses.replace(settings.dense, epochs=options.pretrain_epochs)
        settings = dataclasses.replace(settings, dense=dense)
    key = {"data": data, "net": net, "prior": prior, "seed": seed, **subset}
    if method != "svi":
        key["method"] = method
    whole = dict.fromkeys(("rows", "test_rows"))
    alike = [row for row in read()["rows"] if all(row.get(k) == v for k, v in {**whole, **key}.items())]
    if any(recipe_of(row) == settings for row in alike):
        print(f"{data} {prior} seed {seed}: there already", flush=True)
        return
    metrics = run(dataset, settings, seed=seed)
    scores = {k: metrics[k] for k in (*SCORES, *MORE) if k in metrics}
    scores |= {k: v for k, v in metrics.items() if k.startswith(PREFIXES)}
    row = {**key, "epochs": settings.epochs, **scores, "settings": described(settings)}
    with locked(RESULTS):
        content = read()
        content["rows"].append(row)
        write(content)
    print(f"{data} {prior} seed {seed}: {scores}", flush=True)


def part(dataset: Dataset, rows: int | None, test_rows: int | None) -> tuple[Dataset, dict[str, int]]:
    """Returns a data set with its first rows alone, and what a result says of it.

    Args:
        dataset: The data set.
        rows: Number of training rows; None for all.
        test_rows: Number of test rows; None for all.
    """
    train, test = (
        Split(split.x[:number], split.y[:number])
        for split, number in ((dataset.train, rows), (dataset.test, test_rows))
    )
    wanted = {"rows": rows, "test_rows": test_rows}
    said = {name: number for name, number in wanted.items() if number is not None}
    return dataclasses.replace(dataset, train=train, test=test), said


def described(settings: Recipe) -> dict[str, Any]:
    """Returns the settings as JSON values, without what is named beside them."""
    values = json.loads(json.dumps(dataclasses.asdict(settings)))
    return {k: v for k, v in values.items() if k not in ("net", "prior")}


def recipe_of(row: dict[str, Any]) -> Recipe:
    """Returns the settings of a row; those of older ones are one flat list."""
    return settings_of({**row["settings"], "net": row["net"], "prior": row["prior"]})


def read() -> dict[str, Any]:
    """Returns the results so far."""
    if not RESULTS.exists():
        return {"machine": {}, "versions": {}, "rows": []}
    content: dict[str, Any] = json.loads(RESULTS.read_text())
    return content


def write(content: dict[str, Any]) -> None:
    """Writes the results, whole or not at all."""
    content["machine"] = {"system": platform.system(), "machine": platform.machine(), "cores": os.cpu_count()}
    content["versions"] = {"python": platform.python_version(), "torch": torch.__version__, "pyro": pyro.__version__}
    write_whole(RESULTS, content)


def table(rows: list[dict[str, Any]]) -> str:
    """Returns a Markdown table, one line for the seeds of each setting."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(f"{_name(row)}, {recipe_of(row)}", []).append(row)
    heads = (
        "data",
        "prior",
        "KL weight",
        "seeds",
        "accuracy",
        "NLL",
        "ECE",
        "nodes kept (seed by seed)",
        *KEPT,
        "seconds",
    )
    return markdown_table(heads, [_cells(group) for group in groups.values()])


def _name(row: dict[str, Any]) -> str:
    """Returns what a row was trained on, and which net if it is no perceptron."""
    parts = [row["data"]] + ([] if row["net"] == "mlp" else [row["net"]])
    parts += [f"{row[name]} {name.replace('_', ' ')}" for name in ("rows", "test_rows") if name in row]
    return ", ".join(parts)


def _cells(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    first, settings = rows[0], recipe_of(rows[0])
    frozen = settings.schedule.frozen_kl_weight
    weight = f"{settings.kl_weight:g}" + ("" if frozen is None else f", then {frozen:g}")
    if settings.one_shot is not None:
        weight = str(settings.one_shot.sampler.temperature)
    nodes = "; ".join("-".join(str(kept) for kept, _ in row["nodes_kept"].values()) or "all" for row in rows)
    average = {k: mean(row[k] for row in rows) for k in (*SCORES, "latency_ratio") if k != "nodes_kept"}
    return (
        _name(first),
        first.get("method", first["prior"]),
        weight,
        ", ".join(str(row["seed"]) for row in rows),
        f"{average['test_accuracy']:.2%}",
        f"{average['test_nll']:.4f}",
        f"{average['test_ece']:.4f}",
        nodes,
        f"{average['params_kept']:.2%}",
        f"{average['flops_kept']:.2%}",
        f"{average['latency_ratio']:.2f}",
        f"{average['seconds']:.0f}",
    )


def comparison(data: str, rows: list[dict[str, Any]]) -> str:
    """Returns a Markdown table that sets the pruned net beside the dense one and a mean-field Gaussian one."""
    settings = next(recipe_of(row) for row in rows if row["prior"] == "ss-ghs")
    sparse = [row for row in rows if row["prior"] == "ss-ghs" and recipe_of(row) == settings]
    gaussian = [row for row in rows if row["prior"] == "ig"]
    lines = [
        _scores("dense net, deterministic", sparse, "dense_test", kept=1, latency=1),
        _scores("dense net, mean-field Gaussian, 32 draws", gaussian, "posterior_test", kept=1, latency=None),
        _scores("dense net, mean-field Gaussian, at its means", gaussian, "test", kept=1),
        _scores("SS-GHS, 32 draws", sparse, "posterior_test", kept=None, latency=None),
        _scores("SS-GHS, pruned", sparse, "test", kept=None),
    ]
    return markdown_table((data, "seeds", "accuracy", "NLL", "ECE", "parameters kept", "latency"), lines)


def _scores(
    name: str, rows: list[dict[str, Any]], prefix: str, *, kept: float | None, latency: float | None = -1
) -> tuple[str, ...]:
    accuracy, nll, ece = (mean(row[f"{prefix}_{score}"] for row in rows) for score in ("accuracy", "nll", "ece"))
    share = mean(row["params_kept"] for row in rows) if kept is None else kept
    ratio = mean(row["latency_ratio"] for row in rows) if latency == -1 else latency
    seeds = ", ".join(str(row["seed"]) for row in rows)
    time = "" if ratio is None else f"{ratio:.2f}"
    return name, seeds, f"{accuracy:.2%}", f"{nll:.4f}", f"{ece:.4f}", f"{share:.2%}", time


if __name__ == "__main__":
    main()
