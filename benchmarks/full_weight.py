"""KL weight 1 on tables: mean field, correlated weights, and the selected network sampled, side by side.

    python benchmarks/full_weight.py --data-dir data
    python benchmarks/full_weight.py --table

`tempered` is the guide of the default recipe, at its own KL weight; no other is tempered. `mean field` is the default
recipe at KL weight 1, `refined` the posterior of the network that it selected, sampled. `mean field, ig` has the
Gaussian slab, which correlated weights need: `multivariate` starts from its fit at a tenth of the weight, without the
nodes that were closed there, and goes on at KL weight 1 for as many epochs, with gates free. `dense` is the dense
network that a run begins with, of as many epochs. Predictions of guides are by 100 draws.

Settings are those of the default recipe of tables; where `multivariate` starts was chosen on sin(3x). A row of which a
group of nodes is empty says so. Rows that are there already are skipped. One thread.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import mean
from typing import cast

import timing
import torch
from table_scores import Row, add, load_split, nodes_of, parser, recipe_of, scores, weights_of
from torch import Tensor

from bnn_pyro import Schedule, fit
from bnn_pyro.data import Dataset
from bnn_pyro.likelihoods import Classes, Normals
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.empty_groups import empty_groups
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.posterior.prune import prune
from bnn_pyro.pruning.shrink import shrink
from bnn_pyro.recipes import Recipe, train_run
from bnn_pyro.reports.markdown import markdown_table
from bnn_pyro.reports.predictions import predict_draws, predict_net
from bnn_pyro.reports.refined_measures import SCORED_DRAWS
from guides import AutoSpikeSlab, AutoSpikeSlabMultivariate

RESULTS = timing.RESULTS / "full_weight.json"
TABLES = ("yacht", "energy", "boston-housing", "concrete")
DRAWS = 100
START = 0.1  # the KL weight of the fit that correlated weights start from
Answers = dict[str, tuple[Classes | Normals, Row]]
"""Predictions of the test rows by contestant, and what else a row says."""


def main() -> None:
    """Run what the command line asks for, and print the table."""
    options = parser(__doc__, TABLES).parse_args()
    timing.prepare(1)
    torch.set_flush_denormal(True)
    if not options.table:
        for split in options.splits:
            for table in options.tables:
                data = replace(load_split(table, options.data_dir, split), validation=None)
                for contestant, answers in CONTESTANTS.items():
                    _add_rows({"table": table, "split": split}, contestant, answers, data)
    print(table_of(timing.read(RESULTS)))


def _add_rows(key: Row, contestant: str, answers: Callable[[Dataset, Tensor], Answers], data: Dataset) -> None:
    if any((key | {"contestant": contestant}).items() <= row.items() for row in timing.read(RESULTS)):
        return
    started = time.perf_counter()
    found = answers(data, data.test.x.flatten(1))
    took = {"seconds": time.perf_counter() - started}
    for name, (prediction, more) in reversed(found.items()):  # that which marks all as there comes last
        row = {**key, "contestant": name, **scores(prediction, data.test, data.y_std), **more}
        add(RESULTS, row | (took if name == contestant else {}), threads=1, recipe=repr(RECIPES[name](data)))


# ---- contestants -----------------------------------------------------------------------------------------------------
def _tempered(data: Dataset, x: Tensor) -> Answers:
    run = train_run(data, RECIPES["tempered"](data), progress=False)
    dense = predict_net(run.dense, run.posterior.model.likelihood, x, run.dense_noise)
    return {"tempered": _of_guide(run.posterior, x), "dense": (dense, {"weights": weights_of(run.dense)})}


def _mean_field(data: Dataset, x: Tensor) -> Answers:
    run = train_run(data, RECIPES["mean field"](data), progress=False)
    prediction, more = _of_guide(run.posterior, x)
    found: Answers = {"mean field": (prediction, more | {"not_refined": run.not_refined})}
    if run.refined is not None:
        sampled = run.refined.predict(x, num_samples=SCORED_DRAWS, return_draws=True)
        found["refined"] = (cast(Normals, sampled), more)
    return found


def _mean_field_gaussian(data: Dataset, x: Tensor) -> Answers:
    return {"mean field, ig": _of_guide(train_run(data, RECIPES["mean field, ig"](data), progress=False).posterior, x)}


def _multivariate(data: Dataset, x: Tensor) -> Answers:
    settings = RECIPES["multivariate"](data)
    start = cast(GuidePosterior, train_run(data, settings, progress=False).posterior)
    smaller = shrink(start.model, cast(AutoSpikeSlab, start.guide), start.keep())
    guide = AutoSpikeSlabMultivariate(smaller.model.prior)
    guide.start_from(smaller.guide)
    found = fit(
        smaller.model,
        settings.tensors(data.train),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        kl_weight=1.0,
        schedule=Schedule(freeze=settings.schedule.freeze, kl_warmup=settings.schedule.kl_warmup),
        rates=settings.rates,
        guide=guide,
        seed=0,
        progress=False,
    )
    prediction, more = _of_guide(found, x)
    return {"multivariate": (prediction, more | {"start": START, "start_nodes": nodes_of(start)})}


CONTESTANTS: dict[str, Callable[[Dataset, Tensor], Answers]] = {
    "tempered": _tempered,
    "mean field": _mean_field,
    "mean field, ig": _mean_field_gaussian,
    "multivariate": _multivariate,
}


RECIPES: dict[str, Callable[[Dataset], Recipe]] = {
    "tempered": lambda data: _unsampled(recipe_of(data)),
    "dense": lambda data: _unsampled(recipe_of(data)),
    "mean field": lambda data: recipe_of(data).with_kl_weight(1.0),
    "refined": lambda data: recipe_of(data).with_kl_weight(1.0),
    "mean field, ig": lambda data: _unsampled(recipe_of(data, "ss-ig")).with_kl_weight(1.0),
    "multivariate": lambda data: _unsampled(recipe_of(data, "ss-ig")).with_kl_weight(START),  # what it starts from
}


def _unsampled(settings: Recipe) -> Recipe:
    return replace(settings, refinement=None, refine_if_worth=False)


def _of_guide(posterior: Posterior, x: Tensor) -> tuple[Classes | Normals, Row]:
    """Return what a fitted guide predicts, and what it has selected."""
    more = {
        "weights": weights_of(prune(posterior)),
        "nodes": nodes_of(posterior),
        "empty": empty_groups(posterior.keep()),
    }
    return cast(Normals, predict_draws(posterior, x, DRAWS)), more | {"kl_weight": posterior.kl_weight}


# ---- what the rows say -----------------------------------------------------------------------------------------------
def table_of(rows: Sequence[Row]) -> str:
    """Return means over splits, a line per table and contestant."""
    lines = []
    for table, contestant in dict.fromkeys((row["table"], row["contestant"]) for row in rows):
        each = [row for row in rows if (row["table"], row["contestant"]) == (table, contestant)]
        numbers = [f"{mean(row[name] for row in each):.3g}" for name in ("rmse", "nll", "coverage90", "weights")]
        empty = sum(bool(row.get("empty")) for row in each)
        lines.append((table, contestant, str(len(each)), *numbers, str(empty)))
    return markdown_table(("table", "contestant", "splits", "rmse", "nll", "coverage90", "weights", "empty"), lines)


if __name__ == "__main__":
    main()
