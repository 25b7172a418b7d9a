"""The settings of method B in a recipe."""

import dataclasses
import json

import pytest
import torch

from bnn_pyro.inference.sgmcmc.fit import Sampler
from bnn_pyro.inference.sgmcmc.group_em import GroupEM
from bnn_pyro.recipes.one_shot import OneShot
from tests.inference.sgmcmc.test_fit import network, table


def test_comes_back_from_json() -> None:
    settings = OneShot(sampler=Sampler(lr=0.3, temperature=0.5), em=GroupEM(soft=0.02, side="writers"), cycles=2)
    assert OneShot.of(json.loads(json.dumps(dataclasses.asdict(settings)))) == settings


def test_stretched() -> None:
    settings = OneShot(em=GroupEM(warmup=10), cycles=4, burn_in=2)
    long, short = settings.stretched(2.0, 200), settings.stretched(0.02, 2)
    assert (long.em.warmup, long.cycles, long.burn_in) == (20, 4, 2)
    assert (short.em.warmup, short.cycles, short.burn_in) == (0, 2, 1)
    assert settings.stretched(0.01, 1).burn_in == 0


def test_fit_passes_all_settings_on() -> None:
    settings = OneShot(sampler=Sampler(lr=0.05, temperature=1.0), cycles=2, samples_per_cycle=2, burn_in=1, tail=0.0)
    torch.manual_seed(0)
    posterior = settings.fit(network(), table(), epochs=6, batch_size=100, seed=0)
    assert posterior.temperature == 1.0 and len(posterior.snapshots) == 2
    assert posterior.history[0]["lr"] == 0.05


def test_refuses_a_burn_in_without_end() -> None:
    with pytest.raises(ValueError, match=r"burn_in must be below cycles \(2\)"):
        OneShot(cycles=2, burn_in=2)
