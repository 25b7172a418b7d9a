"""Runs that stop after any transition and go on as if they had not."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bnn_pyro.inference.generators import seeded
from bnn_pyro.inference.mcmc.chees import ChEESWarmUp
from bnn_pyro.inference.mcmc.kernel import BatchMove
from bnn_pyro.inference.mcmc.plan import KERNELS, Kernel, SamplingPlan
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.runs import BatchRun, Run, begin
from tests.inference.mcmc.test_sample import regression
from tests.models import data

PLAN = SamplingPlan(kernel="nuts", chains=2, warmup=24, draws=4, thinning=2, max_tree_depth=3)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def potential() -> Potential:
    torch.manual_seed(0)
    return Potential(noncentered(regression), *data())


def gone(run: Run, transitions: int) -> Run:
    """The run after so many more transitions."""
    for _ in range(transitions):
        run.advance()
    return run


def whole(plan: SamplingPlan, potential: Potential) -> dict[str, Tensor]:
    with seeded(3, CPU):
        run = begin(plan, potential, None)
        return gone(run, run.total).result()


STOPS = {"in the warm-up": 7, "at the end of a window": 21, "between two draws": 27, "after": 32, "in the next": 50}


def plan_of(kernel: Kernel, **options: Any) -> SamplingPlan:
    """A plan of short trajectories."""
    length = 0.2 if kernel == "hmc" else None
    return replace(PLAN, kernel=kernel, trajectory_length=length, **options)


@pytest.mark.parametrize(
    "options",
    [*({"kernel": k} for k in KERNELS), *({"kernel": k, "dense_mass": True} for k in ("nuts", "mclmc"))],
    ids=str,
)
def test_goes_on_as_if_it_had_not_stopped(options: dict[str, Any], potential: Potential) -> None:
    plan = plan_of(**options)
    expected = whole(plan, potential)
    with seeded(3, CPU):
        first = begin(plan, potential, None)
        states = []
        for transitions in range(1, first.total + 1):
            first.advance()
            if transitions in STOPS.values():
                states.append(first.state_dict())
    for state in states:
        with seeded(99, CPU):
            again = begin(plan, potential, None)
            again.load_state_dict(state)
            found = gone(again, again.total - again.done).result()
        assert found.keys() == expected.keys()
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_a_state_does_not_change_with_its_run(potential: Potential) -> None:
    """What is adapted in place is copied."""
    for kernel in KERNELS:
        with seeded(3, CPU):
            run = gone(begin(plan_of(kernel), potential, None), 12)
            state = run.state_dict()
            before = repr(state)
            gone(run, 8)
        assert repr(state) == before


def test_an_extended_run_keeps_draws_of_its_last_half(potential: Potential) -> None:
    """Its transitions are those of one that was as long from the start."""
    plan = plan_of("mclmc")
    longer = whole(replace(plan, draws=16), potential)
    with seeded(3, CPU):
        run = begin(plan, potential, None)
        assert isinstance(run, BatchRun)
        for rounds, kept in ((1, [0, 1, 2, 3]), (2, [4, 5, 6, 7]), (3, [8, 10, 13, 15])):
            gone(run, run.total - run.done)
            assert run.rounds == rounds and run.draws == 4 * 2 ** (rounds - 1)
            assert torch.equal(run.result()["vectors"], longer["vectors"][:, kept])
            run.extend()


def test_a_run_stopped_in_a_later_round_has_all_its_draws(potential: Potential) -> None:
    with seeded(3, CPU):
        run = begin(plan_of("mclmc"), potential, None)
        assert isinstance(run, BatchRun)
        gone(run, run.total)
        run.extend()
        gone(run, 2)
        assert run.draws == 5 and run.result()["vectors"].shape == (2, 4, 3)
        again = begin(plan_of("mclmc"), potential, None)
        again.load_state_dict(run.state_dict())
        assert again.total == run.total


def test_a_shortened_run_ends_sooner(potential: Potential) -> None:
    plan = replace(plan_of("mclmc"), warmup=40, thinning=6)
    with seeded(3, CPU):
        run = begin(plan, potential, None)
        assert isinstance(run, BatchRun)
        gone(run, 4).shorten(0.5)  # type: ignore[attr-defined]
        assert (run.warmup_transitions, run.total, run.track.thinning) == (20, 32, 3)
        run.shorten(1e-3)
        assert (run.warmup_transitions, run.total, run.track.thinning) == (5, 9, 1)
        assert gone(run, 5).result()["vectors"].shape == (2, 4, 3)


@pytest.mark.parametrize("kernel", ["chees", "mams"])
def test_a_warm_up_that_has_not_adapted_goes_on(
    kernel: Kernel, potential: Potential, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long again, twice at most; each stretch has windows of its own, and a stopped run is resumed in any."""
    shortfalls = iter(["moving", "still moving", "and still"])
    monkeypatch.setattr(ChEESWarmUp, "shortfall", property(lambda self: next(shortfalls)))
    plan, seen = plan_of(kernel), list[tuple[int, int]]()
    with seeded(3, CPU):
        run = begin(plan, potential, None)
        assert isinstance(run, BatchRun)
        adapt = run.warmup.adapt

        def noted(number: int, transitions: int) -> BatchMove:
            seen.append((number, transitions))
            return adapt(number, transitions)

        monkeypatch.setattr(run.warmup, "adapt", noted)
        gone(run, 30)
        assert (run.warmup_transitions, run.total) == (48, 56)
        again = begin(plan, potential, None)
        assert isinstance(again, BatchRun)
        again.load_state_dict(run.state_dict())
        found = gone(run, 104 - 30).result()
    assert (run.done, run.total, run.warmup_transitions) == (104, 104, 96)
    assert found["vectors"].shape == (2, 4, 3)
    assert seen == [(n, 24) for n in range(1, 25)] + [(n, 24) for n in range(1, 25)] + [(n, 48) for n in range(1, 49)]
    monkeypatch.setattr(ChEESWarmUp, "shortfall", "moving")
    assert gone(again, again.total - again.done).done == 56 and again.total == 104


def test_a_warm_up_that_has_adapted_or_must_be_short_ends(
    potential: Potential, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shortfall, factor in (("", None), ("moving", 0.5)):
        monkeypatch.setattr(ChEESWarmUp, "shortfall", shortfall)
        with seeded(3, CPU):
            run = begin(plan_of("chees"), potential, None)
            assert isinstance(run, BatchRun)
            if factor is not None:
                run.shorten(factor)
            assert gone(run, run.total).done == run.total and run.shortfall == shortfall
            assert run.warmup_transitions == (24 if factor is None else 12)


MICROCANONICAL = ("mclmc", "mams")  # of whose energy a part is not known


def test_shapes(potential: Potential) -> None:
    shapes = {"vectors": (2, 4, 3), "step_size": (2,), "inverse_mass": (2, 3)}
    for kernel in KERNELS:
        found = whole(plan_of(kernel), potential)
        assert {name: tuple(value.shape) for name, value in found.items()} == {
            **dict.fromkeys(("energy", "total_energy", "acceptance", "diverged", "leapfrogs"), (2, 4)),
            **shapes,
        }
        assert (found["total_energy"] > found["energy"].min()).all() or kernel in MICROCANONICAL
        assert found["total_energy"].isnan().all() == (kernel in MICROCANONICAL)
        torch.testing.assert_close(potential(found["vectors"].flatten(0, 1)), found["energy"].flatten())


def test_notes_for_the_progress_bar(potential: Potential) -> None:
    with seeded(3, CPU):
        run = gone(begin(PLAN, potential, None), 33)
        assert run.note()["chain"] == "2/2" and {"step size", "accept"} < run.note().keys()
        run = gone(begin(plan_of("chees"), potential, None), 3)
    assert run.note().keys() == {"step size", "accept"}
