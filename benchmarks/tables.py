"""Any table, one command: what `bnn-pyro fit TABLE` gives by default, beside what others give by theirs.

    python benchmarks/tables.py --data-dir data --tables yacht heart --splits 1 2 3 4 5
    python benchmarks/tables.py --data-dir data --tables concrete --splits 1 --contestants bde
    python benchmarks/tables.py --table

No option depends on the table. Contestants: `default` is what a run predicts by default, which is by draws of the
pruned network's posterior where that was sampled, else by draws of the guide; `quick` the same by ``--quick``, without
sampling. Of the same run there are rows of `point net` (the pruned network alone) and of `dense` (the dense network
that it began with). Beside them: `early stop` (the dense network trained until the loss of a tenth of the rows has not
fallen for 30 epochs, 20,000 steps at most), `ensemble` (five dense networks), `mean field` (a Gaussian prior and guide
of the dense network, no gates), scikit-learn's `forest`, `trees` (HistGradientBoosting), `mlp`, `linear` and `constant`
with their defaults, and `bde` (sklearn-contrib-bde: 8 members, 16-16-16-16, 20,000 steps of warm-up; it has to be
installed).

Settings of the recipe were chosen on rows held out of split 0 (`table_recipe.py`); report other splits. Rows that are
there already are skipped, so that an interrupted run is taken up by the same command. One thread; `seconds` are of the
wall, `processor_seconds` of the process and its compilers.
"""

import argparse
import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import mean, median
from typing import Any

import numpy as np
import timing
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from table_scores import (
    BDE,
    LARGE,
    SMALL,
    Row,
    add,
    bde,
    ensemble,
    load_split,
    nodes_of,
    parser,
    processor_seconds,
    recipe_of,
    scores,
    sklearn_prediction,
    weights_of,
)
from torch import Tensor

from bnn_pyro.data import Dataset
from bnn_pyro.data.tables import hold_out
from bnn_pyro.likelihoods import NOISE_SITE, Classes, Normals
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.diagnostics import r_hat_summary
from bnn_pyro.recipes import Recipe, train_run
from bnn_pyro.recipes.dense_training import training_noise
from bnn_pyro.reports.figures import COLORS, new_panels, set_title, style_axes
from bnn_pyro.reports.markdown import markdown_table
from bnn_pyro.reports.measures import Run
from bnn_pyro.reports.predictions import predict_draws, predict_net
from bnn_pyro.reports.refined_measures import SCORED_DRAWS

RESULTS = timing.RESULTS / "tables.json"
HIDDEN = (50, 50)  # of all dense networks, as of the default
PATIENCE, MOST_STEPS = 30, 20_000
Answers = dict[str, tuple[Classes | Normals | Tensor, Row]]
"""Predictions of the test rows, or means without a density, by contestant, and what else a row says."""


# ---- ours ------------------------------------------------------------------------------------------------------------
def _default(data: Dataset, x: Tensor) -> Answers:
    run = train_run(data, _recipe(data), progress=False)
    own = {"weights": weights_of(run.pruned), "nodes": nodes_of(run.posterior), "kl_weight": run.posterior.kl_weight}
    own |= {"inputs": _inputs(run), "not_refined": run.not_refined, "noise_trial": run.noise_trial}
    likelihood, noise = run.posterior.model.likelihood, run.posterior.median_values().get(NOISE_SITE)
    guide = predict_draws(run.posterior, x, run.num_samples)
    if run.refined is None:
        default = guide
    else:
        default = run.refined.predict(x, num_samples=SCORED_DRAWS, return_draws=True)
        own["r_hat"] = list(r_hat_summary(run.refined.prediction_r_hat(x)))
        own |= {"chains": run.refined.chains, "sampling_seconds": run.refined.draws.seconds}
    return {
        "default": (default, own),
        "svi": (guide, own),
        "point net": (predict_net(run.pruned, likelihood, x, noise), own),
        "dense": (predict_net(run.dense, likelihood, x, run.dense_noise), {"weights": weights_of(run.dense)}),
    }


def _quick(data: Dataset, x: Tensor) -> Answers:
    run = train_run(data, _recipe(data).quick(), progress=False)
    own = {"weights": weights_of(run.pruned), "nodes": nodes_of(run.posterior), "inputs": _inputs(run)}
    return {"quick": (predict_draws(run.posterior, x, run.num_samples), own)}


def _mean_field(data: Dataset, x: Tensor) -> Answers:
    run = train_run(data, _recipe(data, "ig"), progress=False)
    return {"mean field": (predict_draws(run.posterior, x, run.num_samples), {"weights": weights_of(run.dense)})}


def _recipe(data: Dataset, prior: str | None = None) -> Recipe:
    settings = recipe_of(data, prior)
    assert settings.hidden == HIDDEN
    return settings


def _inputs(run: Run) -> int:
    """Return how many input features the pruned network reads."""
    model = run.posterior.model if run.refined is None else run.refined.model
    if run.refined is None and "inputs" in (keep := run.posterior.keep()):
        return int(keep["inputs"].sum())
    return model.input_shape[-1] if model.selection is None else len(model.selection)


# ---- others ----------------------------------------------------------------------------------------------------------
def _early_stop(data: Dataset, x: Tensor) -> Answers:
    rows, y = data.train.x.flatten(1), data.train.y
    kept, held_out = (torch.from_numpy(part) for part in hold_out(y.numpy(), np.arange(len(y)), 0.1, 0))
    torch.manual_seed(0)
    net, likelihood = mlp(rows.shape[1], HIDDEN, data.outputs), _recipe(data, "ig").likelihood(data.task)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.05, fused=True)

    def loss(batch: Tensor) -> Tensor:
        return -likelihood.distribution(net(rows[batch]), torch.ones(())).log_prob(y[batch]).mean()

    best, found, since = float("inf"), copy.deepcopy(net), 0
    for _ in range(max(1, MOST_STEPS * 64 // len(kept))):
        for batch in kept[torch.randperm(len(kept))].split(64):
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()
        with torch.no_grad():
            now = float(loss(held_out))
        best, found, since = (now, copy.deepcopy(net), 0) if now < best else (best, found, since + 1)
        if since == PATIENCE:
            break
    noise = training_noise(found, (rows[kept], y[kept]), likelihood)
    return {"early stop": (predict_net(found, likelihood, x, noise), {"weights": weights_of(found)})}


def _ensemble(data: Dataset, x: Tensor) -> Answers:
    rows, y = data.train.x.flatten(1), data.train.y
    settings = _recipe(data, "ig")
    net = mlp(rows.shape[1], HIDDEN, data.outputs)
    model = settings.make_model(net, rows[:2], settings.likelihood(data.task), len(y))
    return {"ensemble": (ensemble(model, (rows, y), x), {"weights": 5 * weights_of(net)})}


def _sklearn(name: str) -> Callable[[Dataset, Tensor], Answers]:
    return lambda data, x: {name: (sklearn_prediction(name, data, x), {})}


def _bde(data: Dataset, x: Tensor) -> Answers:
    return {"bde": (bde(data, x), {"bde": BDE})}


CONTESTANTS: dict[str, Callable[[Dataset, Tensor], Answers]] = {
    "default": _default,
    "quick": _quick,
    "early stop": _early_stop,
    "ensemble": _ensemble,
    "mean field": _mean_field,
    **{name: _sklearn(name) for name in ("forest", "trees", "mlp", "linear", "constant")},
    "bde": _bde,
}
OURS = tuple(name for name in CONTESTANTS if name != "bde")
TICKS = (1, 1.2, 1.5, 2, 3, 5, 10, 20)  # of ratios of errors
BESIDE = ("dense", "forest", "trees")  # the best of which the default is compared with


# ---- rows ------------------------------------------------------------------------------------------------------------
def main() -> None:
    """Run what the command line asks for, and print the tables."""
    parsed = parser(__doc__, (*SMALL, *LARGE))
    parsed.add_argument("--contestants", nargs="+", default=OURS, choices=CONTESTANTS)
    options = parsed.parse_args()
    timing.prepare(1)
    torch.set_flush_denormal(True)
    if not options.table:
        for split in options.splits:
            for table in options.tables:
                _add_rows(table, split, options)
    rows = timing.read(RESULTS)
    print(table_of(rows), summary_of(rows), sep="\n\n")
    if rows:
        picture_of(rows).savefig(RESULTS.with_suffix(".png"), dpi=110)


def _add_rows(table: str, split: int, options: argparse.Namespace) -> None:
    data = replace(load_split(table, options.data_dir, split), validation=None)
    for contestant in options.contestants:
        key = {"table": table, "split": split}
        if any((key | {"contestant": contestant}).items() <= row.items() for row in timing.read(RESULTS)):
            continue
        started, processor = time.perf_counter(), processor_seconds()
        answers = CONTESTANTS[contestant](data, data.test.x.flatten(1))
        took = {"seconds": time.perf_counter() - started, "processor_seconds": processor_seconds() - processor}
        for name, (found, more) in answers.items():
            row = {**key, "contestant": name, **scores(found, data.test, data.y_std), **more}
            add(RESULTS, row | (took if name == contestant else {}), threads=1, recipe=repr(_recipe(data)))


# ---- what the rows say -----------------------------------------------------------------------------------------------
def table_of(rows: Sequence[Row]) -> str:
    """Return means over splits, a line per table and contestant."""
    shown = ("rmse", "accuracy", "nll", "crps", "brier", "coverage90", "inputs", "weights", "seconds")
    keys = dict.fromkeys((row["table"], row["contestant"]) for row in sorted(rows, key=lambda row: row["table"]))
    lines = []
    for table, contestant in keys:
        found = [row for row in rows if (row["table"], row["contestant"]) == (table, contestant)]
        lines.append((table, contestant, str(len(found)), *(_mean(found, name) for name in shown)))
    return markdown_table(("table", "contestant", "splits", *shown), lines)


def summary_of(rows: Sequence[Row]) -> str:
    """Return the aims: ratios of errors, ranks, shares of wins, coverage and size, over tables of means over splits."""
    means = means_of(rows)
    regressions = {table: each for table, each in means.items() if "rmse" in each.get("default", {})}
    ratios = {
        name: {
            table: each[name]["rmse"] / min(each[other]["rmse"] for other in BESIDE)
            for table, each in regressions.items()
            if all(other in each for other in (name, *BESIDE))
        }
        for name in ("default", "point net")
    }
    lines = [
        f"- RMSE of the {name} / of the best of {', '.join(BESIDE)}: median {median(each.values()):.3f}, "
        f"largest {max(each.values()):.3f} ({max(each, key=lambda table: each[table])}), over {len(each)} tables"
        for name, each in ratios.items()
        if each
    ]
    against = [each["default"]["nll"] < each["ensemble"]["nll"] for each in means.values() if _has(each, "ensemble")]
    covered = [0.85 <= each["default"]["coverage90"] <= 0.95 for each in regressions.values()]
    lines.append(f"- NLL better than the ensemble's on {sum(against)} of {len(against)} tables")
    lines.append(f"- coverage of 90 % intervals within 85-95 % on {sum(covered)} of {len(covered)} tables")
    sizes = [each["default"]["weights"] for each in means.values() if "default" in each]
    lines.append(f"- weights of the pruned network: median {median(sizes):.0f}" if sizes else "")
    lines.append(f"- {_classes(means)}")
    return "\n".join([*lines, "", _ranks(means)])


def means_of(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """Return table -> contestant -> means over the splits that all contestants of the table have, bde's aside."""
    means: dict[str, dict[str, dict[str, float]]] = {}
    for table in dict.fromkeys(row["table"] for row in rows):
        here = [row for row in rows if row["table"] == table]
        names = list(dict.fromkeys(row["contestant"] for row in here))
        splits = [{row["split"] for row in here if row["contestant"] == name} for name in names if name != "bde"]
        common = set.intersection(*splits)
        found = {name: [row for row in here if row["contestant"] == name and row["split"] in common] for name in names}
        means[table] = {name: _means(each) for name, each in found.items() if each}
    return means


def _means(rows: Sequence[Row]) -> dict[str, float]:
    names = ("rmse", "accuracy", "accuracy_se", "nll", "crps", "brier", "coverage90", "weights", "seconds")
    return {name: mean(row[name] for row in rows) for name in names if all(name in row for row in rows)}


def _has(each: Mapping[str, Mapping[str, float]], other: str) -> bool:
    return all("nll" in each.get(name, {}) for name in ("default", other))


def _classes(means: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Return how often the accuracy is within one standard error, of one split's rows, of the best baseline's."""
    means = {table: each for table, each in means.items() if "accuracy" in each.get("default", {})}
    others = ("dense", "early stop", "ensemble", "mean field", "forest", "trees", "mlp", "linear")
    best = {t: max(each[name]["accuracy"] for name in others if name in each) for t, each in means.items()}
    within = [each["default"]["accuracy"] >= best[t] - each["default"]["accuracy_se"] for t, each in means.items()]
    return f"accuracy within one standard error of the best of the others on {sum(within)} of {len(within)} tables"


def _ranks(means: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Return median ranks over tables: of RMSE or accuracy, and of NLL; 1 is the best."""
    names = [name for name in dict.fromkeys(name for each in means.values() for name in each) if name != "bde"]
    errors = {t: {n: _error(each[n]) for n in names if n in each} for t, each in means.items()}
    scored = {t: {n: each[n]["nll"] for n in names if "nll" in each.get(n, {})} for t, each in means.items()}
    lines = [(name, _median_rank(name, errors), _median_rank(name, scored)) for name in names]
    return markdown_table(("contestant", "median rank of RMSE or accuracy", "of NLL"), lines)


def _error(values: Mapping[str, float]) -> float:
    return values["rmse"] if "rmse" in values else -values["accuracy"]


def _median_rank(name: str, found: Mapping[str, Mapping[str, float]]) -> str:
    ranks = [1 + sum(other < each[name] for other in each.values()) for each in found.values() if name in each]
    return f"{median(ranks):g}" if ranks else ""


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [row[name] for row in rows if row.get(name) is not None]
    return f"{mean(values):.3g}" if values else ""


def picture_of(rows: Sequence[Row]) -> Figure:
    """Return the picture: RMSE, or share of errors, of each contestant over the best one's, a panel per kind."""
    means = means_of(rows)
    kinds = {"RMSE / the best one's": "rmse", "share of wrong classes / the best one's": "accuracy"}
    shown = ("default", "point net", "dense", "ensemble", "mean field", "forest", "trees", "mlp")
    figure, panels = new_panels(len(kinds), 5.0, 3.6, most=2)
    for (label, score), axes in zip(kinds.items(), panels, strict=True):
        style_axes(axes)
        tables = [table for table, each in means.items() if score in each.get("default", {})]
        for i, name in enumerate(shown):
            points = []
            for row, table in enumerate(tables):
                errors = {n: _wrong(v, score) for n, v in means[table].items() if score in v}
                if name in errors:
                    points.append((errors[name] / max(min(errors.values()), 1e-9), row))
            marker = "o" if name == "default" else "|" if name in ("forest", "trees", "mlp") else "."
            if points:
                size = 40 if name == "default" else 60
                axes.scatter(
                    *zip(*points, strict=True), s=size, marker=marker, color=COLORS[i % len(COLORS)], label=name
                )
        axes.set(yticks=range(len(tables)), yticklabels=tables, xscale="log", xlabel=label)
        most = axes.get_xlim()[1]
        ticks = [tick for tick in TICKS if tick <= most]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_formatter(NullFormatter())
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(shown), frameon=False)
    set_title(figure, "Errors on test rows, means over splits")
    return figure


def _wrong(values: Mapping[str, float], score: str) -> float:
    return values["rmse"] if score == "rmse" else 1 - values["accuracy"]


if __name__ == "__main__":
    main()
