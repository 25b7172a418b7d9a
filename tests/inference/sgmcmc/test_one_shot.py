"""The plan of sampling with one-shot pruning: back from JSON, stretched, followed, checked."""

import dataclasses
import json
from typing import Any

import pytest
import torch

from bnn_pyro.inference.sgmcmc.fit import fit_sghmc
from bnn_pyro.inference.sgmcmc.group_em import GroupEM
from bnn_pyro.inference.sgmcmc.one_shot import OneShot
from bnn_pyro.inference.sgmcmc.sampler import Sampler
from bnn_pyro.priors import Gaussian
from tests.inference.sgmcmc.test_fit import network, table


def test_comes_back_from_json() -> None:
    settings = OneShot(sampler=Sampler(lr=0.3, temperature=0.5), em=GroupEM(soft=0.02, side="writers"), cycles=2)
    for each in (settings, dataclasses.replace(settings, em=None)):
        assert OneShot.of(json.loads(json.dumps(dataclasses.asdict(each)))) == each


@pytest.mark.parametrize(
    ("options", "temperature"),
    [
        ({"sampler": Sampler(temperature=1.0)}, "adapted"),
        ({"sampler": Sampler(temperature=1.0, eta=0.0)}, "adapted"),
        ({"sampler": Sampler(temperature=1.0), "em": None}, "adapted"),
        ({"sampler": Sampler(temperature=1.0, eta=0.0), "em": None}, 1.0),
        ({"sampler": Sampler(temperature=0.5)}, 0.5),
        ({}, "cooled"),
    ],
)
def test_draws_at_temperature_one_say_whether_anything_adapts_to_them(
    options: dict[str, Any], temperature: float | str
) -> None:
    assert OneShot(**options).temperature == temperature


def test_an_em_without_groups_adapts_nothing() -> None:
    plan = OneShot(sampler=Sampler(lr=1e-3, temperature=1.0, eta=0.0), cycles=1)
    for prior, tempered in ((Gaussian(), False), (None, True)):
        posterior = fit_sghmc(network(prior=prior), table(), plan, epochs=1, seed=0)
        assert posterior.tempered == tempered and (posterior.temperature == "adapted") == tempered


def test_stretched() -> None:
    settings = OneShot(em=GroupEM(warmup=10), cycles=4, burn_in=2)
    long, short = settings.stretched(2.0, 200), settings.stretched(0.02, 2)
    assert long.em is not None and short.em is not None
    assert (long.em.warmup, long.cycles, long.burn_in) == (20, 4, 2)
    assert (short.em.warmup, short.cycles, short.burn_in) == (0, 2, 1)
    assert settings.stretched(0.01, 1).burn_in == 0
    assert dataclasses.replace(settings, em=None).stretched(2.0, 200).em is None


def test_fit_follows_all_of_them() -> None:
    plan = OneShot(sampler=Sampler(lr=0.05, temperature=0.5), cycles=2, samples_per_cycle=2, burn_in=1, tail=0.0)
    torch.manual_seed(0)
    posterior = fit_sghmc(network(), table(), plan, epochs=6, batch_size=100, seed=0)
    assert posterior.temperature == 0.5 and len(posterior.snapshots) == 2
    assert posterior.history[0]["lr"] == 0.05


def test_snapshots_are_spread_over_the_tails_of_the_cycles() -> None:
    assert OneShot(cycles=2, samples_per_cycle=2, tail=0.5).epochs_of_snapshots(16) == {5, 7, 13, 15}
    assert OneShot(cycles=2, samples_per_cycle=2, burn_in=1, tail=0.0).epochs_of_snapshots(16) == {14, 15}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples_per_cycle": 0}, "samples_per_cycle must be at least 1, got 0"),
        ({"cycles": 0}, "cycles must be at least 1, got 0"),
        ({"burn_in": 4}, "burn_in must leave a cycle of the 4 to take snapshots from, got 4"),
        ({"burn_in": -1}, "burn_in must be at least 0, got -1"),
        ({"tail": 1.5}, r"tail must be a fraction of a cycle, in \[0, 1\], got 1.5"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OneShot(**options)
