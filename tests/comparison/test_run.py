"""compare: all methods on the same rows, what is measured of them, and what happens when one fails."""

import json
from dataclasses import replace
from typing import Any, NoReturn

import pyro
import pytest
import torch

from bnn_pyro.comparison import methods
from bnn_pyro.comparison.methods import METHODS, Comparison
from bnn_pyro.comparison.run import Compared, compare
from bnn_pyro.data import Dataset, Split
from bnn_pyro.inference.svi.schedule import Schedule
from bnn_pyro.recipes import Recipe
from bnn_pyro.recipes.dense_training import DenseTraining

RECIPE = Recipe(
    hidden=(3,),
    select_inputs=True,
    epochs=3,
    schedule=Schedule(hold=1, freeze=1),
    kl_weight=0.2,
    dense=DenseTraining(epochs=3),
)
PLAN = Comparison(RECIPE, chains=2, batch_chains=4, warmup=4, draws=6, max_tree_depth=3)
TITLES = {name: method.title for name, method in METHODS.items()}


@pytest.fixture(autouse=True)
def short_descents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "_DESCENT_STEPS", 20)


def table(task: str = "regression") -> Dataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 2, generator=generator)
    y = x[:, 0] + 0.1 * torch.randn(50, generator=generator) if task == "regression" else (x[:, 0] > 0).long()
    parts = Split(x[:40], y[:40]), None, Split(x[40:], y[40:])
    if task == "regression":
        return Dataset("made", "regression", *parts, None, y_mean=5.0, y_std=3.0)
    return Dataset("made", "classification", *parts, 2, classes=("no", "yes"))


def compared(plan: Comparison = PLAN, task: str = "regression", **options: object) -> Compared:
    return compare(table(task), plan, progress=False, **options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_all_methods_answer() -> None:
    before, lines = torch.random.get_rng_state(), list[str]()
    found = compared(announce=lines.append)
    assert torch.equal(before, torch.random.get_rng_state()) and not pyro.get_param_store().keys()
    assert lines[0] == "dense network" and lines[-1] == f"{len(METHODS)} of {len(METHODS)}: {TITLES['exact']}"
    rows = found.metrics["methods"]
    assert list(rows) == list(TITLES.values())
    failed = {title: row["failed"] for title, row in rows.items() if "failed" in row}
    assert not failed
    assert json.loads(json.dumps(found.metrics))["methods"].keys() == rows.keys()
    for row in rows.values():
        assert row["scores"].keys() >= {"rmse", "nll", "ece", "crps", "coverage95", "width90"} and row["seconds"] > 0
        assert 0 <= row["nodes_open"]["inputs"] <= 2 and 0 <= row["nodes_open"]["hidden1"] <= 3
        assert row["agreement"]["total_variation"] <= 1
    assert [title for title, row in rows.items() if row["chains"]] == ["ChEES", "NUTS", "exact spikes"]
    assert rows["NUTS"]["details"].items() >= {"chains": 2, "warmup": 4, "draws": 6, "max_tree_depth": 3}.items()
    assert found.metrics["groups"] == {"inputs": 2, "hidden1": 3} and found.metrics["kl_weight"] == 1

    check_agreement(rows)
    check_distances(found.metrics["distances"])


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="device must be one of cpu, cuda, mps, xpu.*got 'meta'"):
        compared(device="meta")


@pytest.mark.gpu
@pytest.mark.slow
def test_all_methods_answer_on_a_gpu() -> None:
    found = compared(device="cuda")
    assert found.metrics["device"] == "cuda"
    assert not [title for title, row in found.metrics["methods"].items() if "failed" in row]


def check_agreement(rows: dict[str, Any]) -> None:
    """A method is compared with the reference of its own model, and that with itself."""
    compared_with = {name: rows[title]["agreement"]["with"] for name, title in TITLES.items()}
    own = "its own halves"
    assert compared_with == {
        **{"svi": "exact spikes", "centered": "exact spikes", "relaxed": "NUTS", "normal": "NUTS"},
        **{"chees": "NUTS", "nuts": own, "exact": own},
    }
    assert rows["ChEES"]["agreement"]["nodes hidden1"] >= 0


def check_distances(found: dict[str, Any]) -> None:
    """They are a symmetric matrix, with small numbers for halves of independent draws."""
    titles = list(TITLES.values())
    assert list(found) == titles
    for a in titles:
        for b in titles:
            assert found[a][b] == found[b][a]
    assert found["AutoSpikeSlab"]["AutoSpikeSlab"]["r_hat"] < 1.1 < found["AutoSpikeSlab"]["NUTS"]["r_hat"]


def test_the_same_seed_gives_the_same_numbers_at_kl_weight_one_whatever_the_recipe_says() -> None:
    """A weight of 0.2 would give another bound on the evidence."""
    plan = replace(PLAN, methods=("svi",))
    whole = replace(plan, recipe=replace(RECIPE, kl_weight=1.0))
    first, second, other = (
        compared(given, seed=seed).metrics["methods"]["AutoSpikeSlab"]
        for given, seed in ((plan, 0), (whole, 0), (plan, 1))
    )
    assert first["scores"] == second["scores"] != other["scores"]
    assert first["details"] == second["details"] != other["details"]


def test_a_method_that_fails_is_told_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(job: object) -> NoReturn:
        raise RuntimeError("the chains\n  burst")

    monkeypatch.setitem(METHODS, "nuts", replace(METHODS["nuts"], find=fail))
    rows = compared(replace(PLAN, methods=("nuts", "svi", "exact"))).metrics["methods"]
    assert rows["NUTS"] == {"failed": "RuntimeError: the chains burst"}
    assert rows["AutoSpikeSlab"]["agreement"]["with"] == "exact spikes" and rows["exact spikes"]["chains"]


def test_a_prior_without_gates_and_classes() -> None:
    bare = replace(RECIPE, prior="ghs", select_inputs=False, schedule=Schedule())
    found = compared(replace(PLAN, recipe=bare, methods=("svi", "relaxed", "exact", "normal")), "classification")
    rows = found.metrics["methods"]
    assert list(rows) == ["AutoSpikeSlab", "AutoNormal"] and found.metrics["groups"] == {}
    for row in rows.values():
        assert row["gates"] == "none" and row["scores"].keys() == {"accuracy", "nll", "ece", "brier"}
    assert rows["AutoSpikeSlab"]["agreement"] == {}  # there is no reference
