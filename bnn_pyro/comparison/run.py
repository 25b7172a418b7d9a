"""compare: all methods on the same rows and the same network, and how far they agree."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from bnn_pyro.arguments import check_seed, check_types
from bnn_pyro.comparison.answers import Answer, answer, compared_rows, distances
from bnn_pyro.comparison.methods import METHODS, Comparison, Job
from bnn_pyro.data import Dataset
from bnn_pyro.devices import checked_device
from bnn_pyro.inference.generators import seeded
from bnn_pyro.inference.training.dense import train_dense
from bnn_pyro.network import SparseNetwork
from bnn_pyro.recipes import Recipe

Metrics = dict[str, Any]
"""The numbers of ``comparison.json`` by name: JSON values, of which each name has its own kind."""

_REFERENCES: dict[str, tuple[str, ...]] = {"exact": ("exact", "nuts", "chees"), "relaxed": ("nuts", "chees")}


@dataclass(frozen=True, eq=False)
class Compared:
    """A finished comparison.

    Attributes:
        metrics: All numbers, as they stand in `comparison.json`.
        answers: Those of the methods that did not fail, by title.
        targets: Those of the compared rows, as the network sees them.
        y_mean: What was taken from the targets.
        y_std: What the targets were divided by.
    """

    metrics: Metrics
    answers: dict[str, Answer]
    targets: Tensor
    y_mean: float
    y_std: float


def compare(
    dataset: Dataset,
    plan: Comparison,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> Compared:
    """Run all methods on the same rows and the same network, and measure how far they agree.

    A method that fails is reported as such in its row; the others continue. Neither the global random state nor Pyro's
    parameter store is changed.

    Args:
        dataset: The data, as `bnn_pyro.data.load` gives it.
        plan: What to compare.
        seed: Seed of the whole comparison, and of each method.
        device: Where to train and sample, such as ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        progress: Whether to show progress bars; None shows them on a terminal.
        announce: Called with a line before each method.

    Returns:
        The numbers and the answers.

    Raises:
        ValueError: If there is no such device, or data and recipe do not fit each other.
    """
    start = time.perf_counter()
    check_types({"dataset": (dataset, Dataset), "plan": (plan, Comparison)})
    check_seed(seed, progress)
    place = checked_device(device)
    train, test = (plan.recipe.tensors(part, place) for part in (dataset.train, dataset.test))
    names = plan.chosen()
    with seeded(seed, place):
        announce("dense network")
        model = _network(dataset, plan.recipe, train, seed, progress)
        job = Job(plan, model, train, seed, progress, start + 60 * plan.minutes, list(names))
        failures: dict[str, str] = {}
        answers: dict[str, Answer] = {}
        for number, name in enumerate(names, start=1):
            announce(f"{number} of {len(names)}: {METHODS[name].title}")
            try:
                answers[name] = _ask(name, job, test, dataset.y_std)
            except Exception as error:  # whatever it is, the other methods are worth having
                failures[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
            job.names.pop(0)
    metrics = {**_metrics(dataset, plan, seed, names, answers, failures), "device": str(place)}
    metrics["seconds"] = time.perf_counter() - start
    named = {METHODS[name].title: found for name, found in answers.items()}
    chosen = compared_rows(len(test[1])).to(place)
    return Compared(metrics, named, test[1][chosen], dataset.y_mean, dataset.y_std)


def _ask(name: str, job: Job, test: tuple[Tensor, Tensor], y_std: float) -> Answer:
    method, start = METHODS[name], time.perf_counter()
    with seeded(job.seed, job.train[0].device):
        posterior, details = method.find(job)
        seconds = time.perf_counter() - start
        gates = method.gates if job.plan.recipe.has_gates else "none"
        return answer(posterior, test, y_std=y_std, gates=gates, seconds=seconds, details=details)


def _network(
    dataset: Dataset, recipe: Recipe, train: tuple[Tensor, Tensor], seed: int, progress: bool | None
) -> SparseNetwork:
    """Return the network that all methods are given; a trained dense one is in it, where guides start."""
    likelihood = recipe.likelihood(dataset.task)
    untrained = recipe.make_net(dataset.input_shape, recipe.outputs(dataset.num_classes), inputs=dataset.train.x)
    dense = train_dense(
        untrained,
        train,
        likelihood=likelihood,
        **dataclasses.asdict(recipe.dense),
        augmentation=recipe.augmentation,
        seed=seed,
        progress=progress,
    )
    model = recipe.make_model(dense, train[0][:2], likelihood, len(train[1]))
    model.net.eval()
    return model


# ---- its numbers -----------------------------------------------------------------------------------------------------


def _metrics(
    dataset: Dataset,
    plan: Comparison,
    seed: int,
    names: Sequence[str],
    answers: Mapping[str, Answer],
    failures: Mapping[str, str],
) -> Metrics:
    recipe = plan.recipe
    return {
        **{"data": dataset.name, "task": dataset.task, "net": recipe.net, "hidden": list(recipe.hidden)},
        **{"prior": recipe.prior, "select_inputs": recipe.select_inputs, "kl_weight": 1.0, "seed": seed},
        **{"train_rows": len(dataset.train), "test_rows": len(dataset.test), "threads": torch.get_num_threads()},
        "compared_rows": len(compared_rows(len(dataset.test))),
        "groups": {name: len(gamma) for found in answers.values() for name, gamma in found.inclusion.items()},
        "methods": {METHODS[name].title: _row(name, answers, failures, dataset.y_std) for name in names},
        "distances": _all_distances(answers, dataset.y_std),
        "plan": {k: v for k, v in dataclasses.asdict(plan).items() if k != "recipe"},
        "recipe": dataclasses.asdict(recipe),
        "torch": str(torch.__version__),
    }


def _row(name: str, answers: Mapping[str, Answer], failures: Mapping[str, str], y_std: float) -> dict[str, object]:
    if name not in answers:
        return {"failed": failures[name]}
    found = answers[name]
    return {
        "gates": found.gates,
        "scores": dict(found.scores),
        "seconds": found.seconds,
        "nodes_open": found.nodes_open(),
        "inclusion": {group: gamma.tolist() for group, gamma in found.inclusion.items()},
        "at_least": {group: tail.tolist() for group, tail in found.at_least.items()},
        "chains": found.convergence(),
        "agreement": _agreement(name, answers, y_std),
        "details": dict(found.details),
    }


def _agreement(name: str, answers: Mapping[str, Answer], y_std: float) -> dict[str, object]:
    """Return the distances from the reference of the same model; those between a reference's own halves."""
    gates = answers[name].gates
    known = [other for other in _REFERENCES["relaxed" if gates == "none" else gates] if other in answers]
    if not known:
        return {}
    if known[0] == name:
        return {"with": "its own halves", **distances(*answers[name].sample.halves(), y_std=y_std)}
    return {"with": METHODS[known[0]].title, **_between(answers[name], answers[known[0]], y_std)}


def _between(a: Answer, b: Answer, y_std: float) -> dict[str, float]:
    nodes = {
        group: float((tail - b.at_least[group]).abs().sum()) for group, tail in a.at_least.items()
    }  # the 1-Wasserstein distance of their distributions over numbers of nodes
    return {**distances(a.sample, b.sample, y_std=y_std), **{f"nodes {group}": gap for group, gap in nodes.items()}}


def _all_distances(answers: Mapping[str, Answer], y_std: float) -> dict[str, dict[str, dict[str, float]]]:
    """Return title -> title -> distances, that of a method from itself being that of its halves."""
    titles = {name: METHODS[name].title for name in answers}
    table: dict[str, dict[str, dict[str, float]]] = {title: {} for title in titles.values()}
    for name, found in answers.items():
        table[titles[name]][titles[name]] = distances(*found.sample.halves(), y_std=y_std)
    for a, b in combinations(answers, 2):
        between = distances(answers[a].sample, answers[b].sample, y_std=y_std)
        table[titles[a]][titles[b]] = table[titles[b]][titles[a]] = between
    return table
