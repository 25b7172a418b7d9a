"""The choice of a run's KL weight: on rows that nothing of the path has seen, and never on test rows."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from bnn_pyro.data import Split
from bnn_pyro.inference.svi.schedule import Schedule
from bnn_pyro.inference.training.dense import train_dense
from bnn_pyro.recipes import PathPlan
from bnn_pyro.recipes import kl_weight_choice as module
from bnn_pyro.recipes.kl_weight_choice import choose_kl_weight
from bnn_pyro.refinement import Refinement
from bnn_pyro.sparsity_path import sparsity_path
from tests.recipes.test_runs import QUICK, table

PLAN = PathPlan(kl_weights=(0.1, 1.0))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What dense training and the path are called with."""
    found: dict[str, Any] = {}

    def watched(name: str, call: Any) -> Any:
        def watching(*args: Any, **options: Any) -> Any:
            found[name] = (args, options)
            return call(*args, **options)

        return watching

    monkeypatch.setattr(module, "train_dense", watched("dense", train_dense))
    monkeypatch.setattr(module, "sparsity_path", watched("path", sparsity_path))
    return found


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_fraction_of_the_training_rows_is_scored(seen: dict[str, Any], task: str) -> None:
    dataset, state = table(task), torch.get_rng_state()
    settings = replace(QUICK, path=PLAN, schedule=Schedule(freeze=1, frozen_kl_weight=0.2))
    path = choose_kl_weight(dataset, settings, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    (_, dense_rows), _ = seen["dense"]
    (model, rows), options = seen["path"]
    assert model.num_data == len(rows[0]) == len(dense_rows[0]) == 64
    scored = options["validation"]
    everything = torch.cat([rows[0], scored[0]])
    assert sorted(everything[:, 0].tolist()) == sorted(dataset.train.x[:, 0].tolist())
    assert options["schedule"].frozen_kl_weight is None and options["refinement"] is None
    assert [point.kl_weight for point in path.points] == [0.1, 1.0]
    again = choose_kl_weight(dataset, settings, seed=1)
    assert all(torch.equal(one.scores, two.scores) for one, two in zip(path.points, again.points, strict=True))


def test_validation_rows_of_the_data_are_scored(seen: dict[str, Any]) -> None:
    dataset = table("regression")
    dataset = replace(dataset, validation=Split(dataset.test.x[:9], dataset.test.y[:9]))
    plan = replace(PLAN, kl_weights=(1.0,), refine=True)
    settings = replace(QUICK, path=plan, refinement=Refinement(start="draws"))

    class Enough(Exception):
        pass

    def stop(*args: Any, **options: Any) -> None:
        assert options["refinement"] is settings.refinement and len(options["validation"][0]) == 9
        raise Enough

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Enough):
        patch.setattr(module, "sparsity_path", stop)
        choose_kl_weight(dataset, settings)
    (_, rows), _ = seen["dense"]
    assert len(rows[0]) == len(dataset.train)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="settings must have a path, got None"):
        choose_kl_weight(table("regression"), QUICK)
    few = replace(table("regression"), train=Split(torch.randn(1, 3), torch.randn(1)))
    with pytest.raises(ValueError, match="data must have 2 training rows at least, one of them to score, got 1"):
        choose_kl_weight(few, replace(QUICK, path=PLAN))
