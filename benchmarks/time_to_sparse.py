"""Seconds to a sparse net: training that leaves closed nodes out as it goes, training that does not, dense training.

    python benchmarks/time_to_sparse.py --data-dir data --seeds 0 1 2
    python benchmarks/time_to_sparse.py --data digits --quick

All three have the same net, batches and number of epochs, those of the recipe but for `STEADY`: smaller batches, and so
more steps an epoch, gates that are free sooner, and nodes left out sooner. The first two train a dense net for the
recipe's `dense.epochs` and a posterior for its `epochs`, the third a dense net for the sum of both, in the
posterior's batches. Their seconds are those of training, from nothing to the net that is scored: the pruned one, or the
dense one. Runs are long, so the three take turns seed by seed, each seed beginning with another one; ratios are those
of medians.
"""

import dataclasses
from argparse import Namespace
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import timing
import torch
from torch import nn

from bnn_pyro import SparseNetwork, data, fit, prune
from bnn_pyro.evaluation.cost import compare_cost, nodes_kept
from bnn_pyro.inference.svi.schedule import Schedule
from bnn_pyro.inference.training.dense import train_dense
from bnn_pyro.likelihoods import Categorical
from bnn_pyro.recipes import PRIORS, Recipe, recipe

STEADY: dict[str, Any] = {
    "batch_size": 128,
    "kl_weight": 0.08,
    "schedule": Schedule(hold=1, freeze=12, kl_warmup=0.5, frozen_kl_weight=0.04, shrink_below=0.1),
}
"""Settings for images in which to save time matters: chosen on a validation split, as the recipe's."""
WAYS = ("shrinking", "without-shrinking", "dense-deterministic")
IMAGES = ("mnist", "fashion-mnist", "digits")


def main() -> None:
    """Train every seed in every way; print the table, write the JSON."""
    options = _options()
    timing.prepare(options.threads)
    dataset = data.load(options.data, data_dir=options.data_dir, flatten=True)
    settings = chosen_recipe(dataset, options)
    runs: list[dict[str, Any]] = []
    for i, seed in enumerate(options.seeds):
        for turn in range(len(WAYS)):
            runs.append(run(dataset, settings, WAYS[(i + turn) % len(WAYS)], seed, torch.device(options.device)))
            print(_line(runs[-1]), flush=True)
    rows = rows_of(options.data, runs)
    print(timing.table(rows, ours="shrinking"))
    more = {"settings": dataclasses.asdict(settings), "runs": runs, "device": options.device}
    timing.write(options.out, rows, timing.ratios_of(rows, ours="shrinking"), **more)


def _options() -> Namespace:
    parser = timing.parser(__doc__, "time_to_sparse")
    parser.add_argument("--data", default="mnist", choices=IMAGES)
    parser.add_argument("--data-dir", help="folder of the data sets, as for bnn-pyro fit")
    parser.add_argument("--prior", default="ss-ghs", choices=[name for name in PRIORS if name.startswith("ss-")])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="another number than the recipe's; its phases shrink in proportion")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.epochs = options.seeds[:1], 10
    return options


def chosen_recipe(dataset: data.Dataset, options: Namespace) -> Recipe:
    """Return the recipe of the data set and the prior, for the number of epochs that is asked for.

    Args:
        dataset: The data.
        options: The command line's.

    Raises:
        ValueError: If the recipe does not shrink.
    """
    chosen = recipe(options.data, options.prior, dataset.task, rows=len(dataset.train))
    if chosen.schedule.shrink_below is None:
        raise ValueError(f"the recipe of {options.data!r} must have a shrink_below to compare with, got None")
    if options.data != "digits":
        chosen = dataclasses.replace(chosen, **STEADY)
    return chosen if options.epochs is None else chosen.with_epochs(options.epochs)


def run(dataset: data.Dataset, settings: Recipe, way: str, seed: int, device: torch.device) -> dict[str, Any]:
    """Train in one way.

    Args:
        dataset: The data.
        settings: The recipe.
        way: One of `WAYS`.
        seed: Seed of the run.
        device: Where to train.

    Returns:
        Seconds, accuracy on the test rows, and what is kept.
    """
    epochs = settings.dense.epochs + settings.epochs
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        untrained = settings.make_net(dataset.train.x.shape[1:], dataset.num_classes or 1).to(device)
    timing.wait(device)
    start = perf_counter()
    if way == "dense-deterministic":
        found = _dense(untrained, dataset, settings, epochs, settings.batch_size, seed)
        timing.wait(device)
        seconds = perf_counter() - start
        sparsity: dict[str, Any] = {"params_kept": 1.0}
    else:
        if way == "without-shrinking":
            schedule = dataclasses.replace(settings.schedule, shrink_below=None)
            settings = dataclasses.replace(settings, schedule=schedule)
        found, sparsity = _sparse(untrained, dataset, settings, seed)
        timing.wait(device)
        seconds = perf_counter() - start
        example = dataset.test.x[:2].to(device)
        sparsity["params_kept"] = compare_cost(untrained, found, example).params_kept
    return {
        "way": way,
        "seed": seed,
        "epochs": epochs,
        "seconds": seconds,
        **_scored(found, dataset, device),
        **sparsity,
    }


def _dense(net: nn.Module, dataset: data.Dataset, settings: Recipe, epochs: int, batch_size: int, seed: int) -> Any:
    """Return a trained copy of a dense net."""
    return train_dense(
        net,
        _train(dataset, net),
        likelihood=Categorical(),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=settings.dense.learning_rate,
        weight_decay=settings.dense.weight_decay,
        seed=seed,
        progress=False,
    )


def _sparse(net: nn.Module, dataset: data.Dataset, settings: Recipe, seed: int) -> tuple[nn.Module, dict[str, Any]]:
    """Return the pruned net of a posterior, and the nodes that it keeps."""
    train = _train(dataset, net)
    dense = _dense(net, dataset, settings, settings.dense.epochs, settings.dense.batch_size, seed)
    model = SparseNetwork(
        dense,
        train[0][:2],
        prior=settings.make_prior(),
        likelihood=Categorical(),
        num_data=len(dataset.train),
        select_inputs=settings.select_inputs,
    )
    posterior = fit(
        model,
        train,
        **settings.fit_options(),
        guide=settings.make_guide(model),
        seed=seed,
        progress=False,
    )
    return prune(posterior), {"nodes_kept": nodes_kept(posterior.keep())}


def _train(dataset: data.Dataset, net: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    device = next(net.parameters()).device
    return dataset.train.x.to(device), dataset.train.y.to(device)


@torch.no_grad()
def _scored(net: nn.Module, dataset: data.Dataset, device: torch.device) -> dict[str, float]:
    found = net.eval()(dataset.test.x.to(device)).argmax(-1).cpu()
    return {"test_accuracy": float((found == dataset.test.y).float().mean())}


# ---- what is reported ------------------------------------------------------------------------------------------------


def rows_of(name: str, runs: Sequence[dict[str, Any]]) -> list[timing.Row]:
    """Return a row for each way: its seconds over the seeds, and its mean accuracy and size.

    Args:
        name: Name of the data set.
        runs: All runs.
    """
    rows = []
    for way in WAYS:
        some = [one for one in runs if one["way"] == way]
        means = {key: sum(one[key] for one in some) / len(some) for key in ("test_accuracy", "params_kept")}
        rows.append({**timing.timed_rows(name, {way: [one["seconds"] for one in some]}, unit="s")[0], **means})
    return rows


def _line(one: dict[str, Any]) -> str:
    nodes = "-".join(str(kept) for kept, _ in one.get("nodes_kept", {}).values()) or "all"
    return (
        f"seed {one['seed']}  {one['way']:<20} {one['seconds']:7.1f} s  accuracy {one['test_accuracy']:.4f}  "
        f"parameters kept {one['params_kept']:.4f}  nodes {nodes}"
    )


if __name__ == "__main__":
    main()
