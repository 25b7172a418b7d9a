"""What is compared, and how the samplers share the time."""

import time
from dataclasses import replace

import pytest
import torch

from bnn_pyro.comparison import methods
from bnn_pyro.comparison.methods import METHODS, Comparison, Job, _transitions
from bnn_pyro.inference.mcmc.plan import Kernel
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.svi.schedule import Schedule
from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.recipes import Recipe, recipe
from bnn_pyro.recipes.dense_training import DenseTraining

RECIPE = Recipe(
    hidden=(3,), select_inputs=True, epochs=2, schedule=Schedule(hold=0, freeze=0), dense=DenseTraining(epochs=2)
)


@pytest.fixture(autouse=True)
def short_descents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "_DESCENT_STEPS", 50)


def job(**changes: object) -> Job:
    x = torch.randn(20, 2)
    net = RECIPE.make_net((2,), 1)
    model = SparseNetwork(
        net, x[:2], prior=RECIPE.make_prior(), likelihood=GaussianNoise(), num_data=20, select_inputs=True
    )
    plan = replace(Comparison(RECIPE, batch_chains=4, max_tree_depth=4), **changes)  # type: ignore[arg-type]
    return Job(plan, model, (x, x[:, 0]), 0, False, time.perf_counter() + 100, ["nuts", "exact"])


def test_methods_come_in_their_order_and_fit_the_prior() -> None:
    assert Comparison(RECIPE).chosen() == tuple(METHODS)
    assert Comparison(RECIPE, ("nuts", "svi")).chosen() == ("svi", "nuts")
    bare = replace(RECIPE, prior="ghs", select_inputs=False)
    assert set(METHODS) - set(Comparison(bare).chosen()) == {"relaxed", "exact"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"methods": ("vi",)}, "methods must be of svi, .*, got 'vi'"),
        ({"minutes": 0.0}, "minutes must be positive and finite, got 0"),
        ({"minutes": float("nan")}, "minutes must be positive and finite, got nan"),
        ({"chains": 1}, "chains must be at least 2, got 1"),
        ({"draws": 3}, "draws must be at least 4, got 3"),
        ({"warmup": 0}, "warmup must be at least 1, got 0"),
        ({"recipe": recipe("yacht", task="regression", method="sghmc")}, "must be one of method svi"),
    ],
)
def test_what_cannot_be_compared_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(Comparison(RECIPE), **changes)  # type: ignore[arg-type]


def test_methods_share_the_time_that_is_left() -> None:
    """Of 100 seconds, 15 of them for the pictures."""
    work = job()
    assert work.share == pytest.approx(85 / 2, abs=5)
    work.names = ["exact"]
    assert work.share == pytest.approx(85, abs=5)
    work.names = ["svi", "normal", "nuts"]
    assert work.share == pytest.approx(0.5 * 85 / 2, abs=3)
    work.names = ["svi", "normal"]
    assert work.share == pytest.approx(85 / 2, abs=5)


def test_a_guide_that_is_too_slow_is_stopped() -> None:
    work = job(recipe=replace(RECIPE, epochs=1000))
    work.ends, work.names = time.perf_counter(), ["svi"]
    posterior, details = METHODS["svi"].find(work)
    assert details["epochs"] == len(posterior.history) < 1000
    assert details["problems"] == [f"stopped after {details['epochs']} of 1000 epochs, as time was up"]


def test_the_number_of_transitions_fits_into_the_time() -> None:
    """Warm-up and draws, with trajectories of 16 leapfrogs in each of 4 chains, or of 8 in a batch, and its gates."""
    work = job()
    work.pace.update(nuts=1e-3, chees=1e-3, gates=4e-3)
    kernels: dict[str, Kernel] = {"nuts": "nuts", "chees": "chees", "exact": "chees"}
    counts = {
        name: _transitions(kernel, name == "exact", "traced", work, time.perf_counter() + 20)
        for name, kernel in kernels.items()
    }
    assert counts == {
        "nuts": pytest.approx(17 / (2 * 4 * 16 * 1e-3), abs=2),
        "chees": pytest.approx(min(17 / (2 * 8 * 1e-3), 1000), abs=2),
        "exact": pytest.approx(17 / (2 * 12 * 1e-3), abs=2),
    }
    assert _transitions("nuts", False, "traced", work, time.perf_counter()) == 10  # no time is no reason not to try


@pytest.mark.slow
def test_the_pace_is_found_by_a_trial() -> None:
    work = job()
    found = _transitions("nuts", False, "traced", work, time.perf_counter() + 20)
    assert 1e-5 < work.pace["nuts"] < 1 and found >= 10
    found = _transitions("chees", True, "traced", work, time.perf_counter() + 20)
    assert 1e-5 < work.pace["chees"] < work.pace["gates"] < 1 and found >= 10


def test_chains_start_low() -> None:
    work = job()
    potential = Potential(noncentered(work.model), *work.train)
    energy = potential(work.starts)
    assert energy.shape == (4,) and (energy.diff() >= 0).all()
    assert energy.max() < potential(potential.starts(50)).min()
    torch.testing.assert_close(work.starts_of(2), work.starts[[0, 3]])
