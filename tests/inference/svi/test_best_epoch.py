"""With patience, the epoch with the best validation NLL is returned, of those that may be compared."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from pyro.optim import Adam  # type: ignore[attr-defined]
from torch import Tensor

from bnn_pyro import fit
from bnn_pyro.inference.svi.best_epoch import BestEpoch, is_stalled, phase_of
from bnn_pyro.inference.svi.checkpoint import read_progress
from bnn_pyro.inference.svi.schedule import LearningRates, Schedule
from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.priors import GroupHorseshoe, SpikeSlab
from tests.inference.svi.test_fit import X, Y, is_same, state
from tests.inference.training.two_processes import Stop
from tests.posterior.test_guide import posterior_of
from tests.test_network import network


def noisy(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of twenty inputs of which one says little: a network overfits them soon."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 20, generator=generator)
    return x, x[:, 0] + torch.randn(rows, generator=generator)


HELD = noisy(200, 1)
SLOW = LearningRates(slab_locs=5e-3, slab_scales=5e-3, scales=5e-3, gates=0.02, points=5e-3)
# of a run whose nodes all close after its best epoch, and are left out
COLLAPSING: dict[str, Any] = {
    "kl_weight": 1.0,
    "rates": LearningRates(slab_locs=0.01, slab_scales=0.01, scales=0.01, gates=0.1, points=0.01),
    "schedule": Schedule(patience=8, shrink_below=0.45),
}


def overfitted(*, stop: int | None = None, **options: Any) -> GuidePosterior:
    """A run that gets worse on held-out rows in the end; the power may fail before an epoch's end."""

    def callback(record: Any, posterior: GuidePosterior) -> None:
        if record["epoch"] == stop:
            raise Stop

    torch.manual_seed(0)
    train = noisy(40, 0)
    prior = SpikeSlab(GroupHorseshoe(), inclusion=0.1)
    model = SparseNetwork(mlp(20, (32,), 1), train[0][:2], prior=prior, likelihood=GaussianNoise(), num_data=40)
    given = {"epochs": 60, "batch_size": 20, "kl_weight": 0.01, "rates": SLOW, "schedule": Schedule(patience=8)}
    return fit(model, train, validation=HELD, seed=0, callback=callback, **{**given, **options})


def nll(posterior: GuidePosterior) -> list[float]:
    return [record["validation_nll"] for record in posterior.history]


# ---- which epochs are compared ---------------------------------------------------------------------------------------
def record(epoch: int, score: float, gates: str = "free", kl_weight: float = 1.0) -> dict[str, Any]:
    return {"epoch": epoch, "validation_nll": score, "gates": gates, "kl_weight": kl_weight}


def test_epochs_are_compared_within_a_phase() -> None:
    assert phase_of(record(1, 0.0, "open")) is None and phase_of(record(1, 0.0)) == ("free", 1.0)
    warming = [record(1, 0.1, "open", 0.5), record(2, 0.2, "free", 0.8)]
    free = [record(3, 0.5), record(4, 0.6), record(5, 0.7)]
    assert not is_stalled(warming, 1) and not is_stalled([*warming, free[0]], 1)
    assert is_stalled([*warming, *free], 2) and not is_stalled([*warming, *free], 3)
    frozen = [record(6, 0.9, "frozen"), record(7, 0.8, "frozen")]
    assert not is_stalled([*warming, *free, *frozen], 1)


def test_the_best_is_replaced_by_a_better_one_or_a_later_phase() -> None:
    posterior = posterior_of("mlp")
    weight = next(posterior.guide.parameters())
    best = BestEpoch.of(record(3, 0.5), ("free", 1.0), posterior.model, posterior.guide)
    assert not best.is_worse_than(record(4, 0.5), ("free", 1.0)) and best.is_worse_than(record(4, 0.4), ("free", 1.0))
    assert best.is_worse_than(record(4, 0.9, "frozen"), ("frozen", 1.0))
    before = weight.detach().clone()
    with torch.no_grad():
        weight += 1
    best.restore(posterior.model, posterior.guide)
    assert torch.equal(weight, before)


# ---- what is returned ------------------------------------------------------------------------------------------------
def test_the_best_epoch_is_returned() -> None:
    found = overfitted()
    scores = nll(found)
    assert 10 < len(scores) < 60 and scores[-1] > min(scores) + 0.01
    assert len(scores) == scores.index(min(scores)) + 1 + 8
    assert found.evaluate_median(*HELD)["nll"] == pytest.approx(min(scores))
    last = overfitted(schedule=Schedule(), epochs=len(scores))
    assert last.evaluate_median(*HELD)["nll"] == pytest.approx(last.history[-1]["validation_nll"])


def test_once_gates_are_frozen_a_frozen_epoch_is_returned() -> None:
    schedule = Schedule(patience=30, freeze=5, kl_warmup=3.0, frozen_kl_weight=0.02)
    found = overfitted(schedule=schedule, epochs=30)
    scores = nll(found)
    assert len(scores) == 30 and min(scores[:25]) < min(scores[25:]) < scores[-1]
    assert found.evaluate_median(*HELD)["nll"] == pytest.approx(min(scores[25:]))
    assert found.guide.gate_mode == "frozen" and found.kl_weight == 0.01  # that of the gates
    kept = {name: int(mask.sum()) for name, mask in found.keep().items()}
    assert kept == found.history[-1]["nodes_kept"]


def test_nodes_that_were_left_out_afterwards_are_back() -> None:
    found = overfitted(**COLLAPSING)
    scores, kept = nll(found), [record["nodes_kept"]["hidden1"] for record in found.history]
    best = scores.index(min(scores))
    assert kept[-1] < kept[best] == int(found.keep()["hidden1"].sum())
    assert found.evaluate_median(*HELD)["nll"] == pytest.approx(min(scores))


def test_a_run_with_an_optimizer_and_a_guide_of_pyro() -> None:
    model = network()
    options: dict[str, Any] = {"optimizer": Adam({"lr": 0.05}), "schedule": Schedule(patience=3), "epochs": 40}
    found = fit(model, (X, Y), guide=AutoNormal(model.prior), validation=(X.flip(0), Y), seed=0, **options)
    assert found.evaluate_median(X.flip(0), Y)["nll"] == pytest.approx(min(nll(found)))


@pytest.mark.parametrize("options", [{}, COLLAPSING], ids=["whole", "shrunk"])
def test_a_resumed_run_returns_the_same_epoch(tmp_path: Path, options: dict[str, Any]) -> None:
    whole, path = overfitted(**options), tmp_path / "run.pt"
    best = nll(whole).index(min(nll(whole))) + 1
    with pytest.raises(Stop):  # in the last epoch
        overfitted(checkpoint=path, stop=len(whole.history), **options)
    saved = read_progress(path)
    assert saved is not None and saved[1].epoch == len(whole.history) - 1 and bool(saved[1].keep) == bool(options)
    assert saved[1].best is not None and saved[1].best["epoch"] == best
    resumed = overfitted(checkpoint=path, **options)
    assert is_same(state(resumed), state(whole)) and nll(resumed) == nll(whole)
    assert is_same(state(overfitted(checkpoint=path, **options)), state(whole))  # which is over by now


def test_a_file_from_before_there_was_a_best_epoch(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    with pytest.raises(Stop):
        overfitted(checkpoint=path, stop=4)
    content = torch.load(path, weights_only=True)
    del content["best"]
    torch.save(content, path)
    found = overfitted(checkpoint=path)
    assert found.evaluate_median(*HELD)["nll"] == pytest.approx(min(nll(found)[3:]))
