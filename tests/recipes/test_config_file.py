"""The settings of a run come back from its config.json, and from the flat one of older runs."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bnn_pyro.data import load
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.stopping import StoppingRule
from bnn_pyro.inference.sgmcmc.group_em import GroupEM
from bnn_pyro.inference.sgmcmc.one_shot import OneShot
from bnn_pyro.inference.sgmcmc.sampler import Sampler
from bnn_pyro.inference.svi.schedule import LearningRates, Schedule
from bnn_pyro.likelihoods import MeanDependentNoise
from bnn_pyro.priors import GroupHorseshoe
from bnn_pyro.recipes import PathPlan, Recipe, recipe
from bnn_pyro.recipes.config_file import config_of, read_config, settings_of
from bnn_pyro.recipes.dense_training import DenseTraining
from bnn_pyro.refinement import Refinement

FLAT: dict[str, Any] = {  # as runs were written at first
    **{"data": "digits", "method": "svi", "net": "mlp", "prior": "ss-ghs", "hidden": [50, 50], "select_inputs": False},
    **{"sigma": 1.0, "inclusion": 0.001, "pretrain_epochs": 60, "pretrain_batch_size": 32},
    **{"pretrain_learning_rate": 0.003, "pretrain_weight_decay": 0.1, "epochs": 120, "batch_size": 64, "hold": 20},
    **{"freeze": 15, "kl_weight": 0.15, "kl_warmup": 10.0, "frozen_kl_weight": 0.1, "decay": 0.3, "clip_norm": None},
    "learning_rates": {"slab_locs": 0.003, "slab_scales": 0.01, "scales": 0.01, "gates": 0.02, "points": 0.001},
    **{"init_inclusion": 0.9, "init_scale": 0.1, "shrink_below": 0.03, "one_shot": None, "seed": 0, "device": "cpu"},
    **{"task": "classification", "num_data": 1438, "input_shape": [1, 8, 8], "outputs": 10, "y_mean": 0.0},
}


@pytest.mark.parametrize(
    "settings",
    [
        recipe("digits"),
        recipe("mnist", net="lenet"),
        recipe("mnist", net="lenet", method="sghmc"),
        Recipe(schedule=Schedule(temperature=(1.0, 0.1), patience=3)),
        Recipe(schedule=Schedule(temperature=0.3), prior="ss-ig", one_shot=OneShot(em=None)),
        Recipe(refinement=Refinement(until=None, start="draws"), refine_if_worth=True),
        Recipe(noise="mean", refinement=Refinement(likelihood=MeanDependentNoise(0.5))),
        Recipe(path=PathPlan(kl_weights=(0.5, 1.0), validation=0.1, refine=True), kl_weight=0.5),
        Recipe(
            refinement=Refinement(
                plan=SamplingPlan(kernel="mams", chains=5),
                until=StoppingRule(rounds=2),
                weights="stacking",
                slab=GroupHorseshoe(sigma=0.3, slab_width=None),
                least_chains=2,
            )
        ),
    ],
)
def test_there_and_back(settings: Recipe, tmp_path: Path) -> None:
    written = config_of(load("digits"), settings, seed=3, device=torch.device("cpu"))
    (tmp_path / "config.json").write_text(json.dumps(written))
    config, again = read_config(tmp_path)
    assert again == settings
    assert config.items() >= {"data": "digits", "method": settings.method, "seed": 3, "outputs": 10}.items()
    assert config["target"] is None


def test_chains_of_runs_from_before_they_had_weights_weigh_the_same() -> None:
    settings = Recipe(refinement=Refinement(start="draws"))
    config = json.loads(json.dumps(config_of(load("digits"), settings, seed=3, device=torch.device("cpu"))))
    assert config["refinement"].pop("weights") == "equal"
    assert settings_of(config) == settings


def test_a_flat_config_is_read() -> None:
    assert settings_of(FLAT) == Recipe(
        hidden=(50, 50),
        inclusion=0.001,
        dense=DenseTraining(epochs=60, batch_size=32, learning_rate=0.003, weight_decay=0.1),
        epochs=120,
        kl_weight=0.15,
        schedule=Schedule(hold=20, freeze=15, kl_warmup=10.0, frozen_kl_weight=0.1, decay=0.3, shrink_below=0.03),
        rates=LearningRates(slab_locs=0.003, slab_scales=0.01, scales=0.01, gates=0.02),
        init_inclusion=0.9,
    )


def test_a_flat_config_without_frozen_gates_is_read() -> None:
    """It could have a weight for frozen gates all the same, which had no effect."""
    settings = settings_of({**FLAT, "hold": 0, "freeze": 0, "kl_warmup": 0.25})
    assert settings.schedule == Schedule(kl_warmup=0.25, decay=0.3, shrink_below=0.03)


def test_a_flat_config_of_sampling_is_read() -> None:
    plan = OneShot(sampler=Sampler(lr=0.2), em=GroupEM(spike=0.05, warmup=9), cycles=1)
    one_shot = json.loads(json.dumps(dataclasses.asdict(plan)))
    flat = {**FLAT, "prior": "ss-ig", "method": "sghmc", "one_shot": one_shot, "hold": 0, "freeze": 0}
    assert settings_of(flat).one_shot == plan


@pytest.mark.parametrize("name", ["epochs", "hold", "learning_rates", "pretrain_epochs"])
def test_a_setting_that_is_missing(name: str, tmp_path: Path) -> None:
    config = {key: value for key, value in FLAT.items() if key != name}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"folder must hold the config.json of a run, got .*{name}"):
        read_config(tmp_path)


def test_a_noise_that_was_called_varying_once_is_still_predicted() -> None:
    written = config_of(load("digits"), Recipe(noise="input"), seed=0, device=torch.device("cpu"))
    assert settings_of(written).noise == "input"
    old = {name: value for name, value in written.items() if name != "noise"}
    assert settings_of({**old, "varying_noise": True}).noise == "input"
    assert settings_of({**old, "varying_noise": False}).noise == settings_of(old).noise == "constant"
