"""The driver of method B: what it finds, what leaves, and what it leaves alone."""

import copy
import logging
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro import Gaussian, GroupLasso, SparseNetwork, SpikeSlab, prune
from bnn_pyro.inference.interrupts import Interrupted
from bnn_pyro.inference.sgmcmc.fit import fit_sghmc
from bnn_pyro.inference.sgmcmc.group_em import GroupEM
from bnn_pyro.inference.sgmcmc.one_shot import OneShot
from bnn_pyro.inference.sgmcmc.sampler import Sampler
from bnn_pyro.likelihoods import Categorical, GaussianNoise, Likelihood
from bnn_pyro.networks import mlp
from bnn_pyro.pruning.batch_norm import recompute_batch_norm
from bnn_pyro.tracing.engine import EngineName

ROWS = 600
EM = GroupEM(spike=0.1, hard=3e-3, warmup=20)
FAST = Sampler(lr=0.2)


def table(rows: int = ROWS, inputs: int = 12) -> tuple[Tensor, Tensor]:
    """Two inputs of twelve matter."""
    x = torch.randn(rows, inputs)
    return x, (2 * x[:, 3]).tanh() + x[:, 7] + 0.3 * torch.randn(rows)


def network(
    num_data: int = ROWS, *, likelihood: Likelihood | None = None, outputs: int = 1, prior: Any = None, inputs: int = 12
) -> SparseNetwork:
    return SparseNetwork(
        mlp(inputs, (8,), outputs, activation=nn.Tanh),
        torch.randn(2, inputs),
        prior=SpikeSlab(Gaussian(), inclusion=0.5) if prior is None else prior,
        likelihood=likelihood or GaussianNoise(0.5**0.5),
        num_data=num_data,
        select_inputs=prior is None,
    )


@pytest.fixture(scope="module")
def finished() -> Any:
    """A run that has found the inputs, with the data it was given."""
    torch.manual_seed(0)
    data, model = table(), network()
    posterior = fit_sghmc(
        model,
        data,
        OneShot(cycles=3, burn_in=1, samples_per_cycle=2, sampler=FAST, em=EM),
        epochs=90,
        batch_size=60,
        seed=0,
    )
    return posterior, data


def test_finds_the_inputs_that_matter(finished: Any) -> None:
    posterior, (x, y) = finished
    assert posterior.keep()["inputs"].nonzero().flatten().tolist() == [3, 7]
    assert posterior.evaluate_median(x, y)["rmse"] < 0.36
    assert posterior.evaluate(x, y)["rmse"] < 0.36


def test_removed_nodes_are_gone(finished: Any) -> None:
    posterior, (x, _) = finished
    last = posterior.snapshots[-1].model
    assert last.net.get_parameter("hidden1.weight").shape[1] == 2
    assert last.selection.tolist() == [3, 7]
    torch.testing.assert_close(prune(posterior)(x), last.call_net({}, x))


def test_nothing_grows_again(finished: Any) -> None:
    posterior, _ = finished
    for group in posterior.model.groups:
        kept = [record["nodes_kept"][group] for record in posterior.history]
        assert kept == sorted(kept, reverse=True)
        masks = [snapshot.keep[group] for snapshot in posterior.snapshots]
        assert all((later & ~earlier).sum() == 0 for earlier, later in zip(masks, masks[1:], strict=False))
    assert posterior.history[19]["nodes_kept"] == {"inputs": 12, "hidden1": 8}, "nothing goes before the warm-up ends"


def test_history(finished: Any) -> None:
    posterior, _ = finished
    assert [record["epoch"] for record in posterior.history] == list(range(1, 91))
    rates = [record["lr"] for record in posterior.history]
    assert rates[0] == rates[30] == rates[60] == 0.2 and rates[29] < 0.001
    assert posterior.history[-1]["loss"] < posterior.history[0]["loss"]
    assert len(posterior.snapshots) == 4


def test_is_reproducible_and_leaves_the_world_alone() -> None:
    model, data = network(), table()
    before, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    runs = [fit_sghmc(model, data, OneShot(cycles=1, sampler=FAST), epochs=3, seed=3) for _ in range(2)]
    for one, two in zip(*(run.model.net.parameters() for run in runs), strict=True):
        assert torch.equal(one, two)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_shrinking_changes_nothing_but_the_work() -> None:
    """A node whose removal is put off by an epoch is computed with until then, and no other node is touched."""
    data, model = table(), network()
    seen: list[int] = []
    whole = fit_sghmc(model, data, OneShot(cycles=1, sampler=Sampler(lr=0.0, eta=0.0), em=None), epochs=2, seed=0)
    threshold = float(whole.model.net.get_parameter("hidden1.weight").square().mean(0).median())
    em = GroupEM(spike=0.01, hard=threshold, warmup=1)
    still = Sampler(lr=0.0, eta=0.0)  # weights stay but for the momentum of the start
    small = fit_sghmc(
        model, data, OneShot(cycles=1, sampler=still, em=em), epochs=2, seed=0, callback=lambda r: seen.append(1)
    )
    kept = small.keep()["inputs"]
    assert len(seen) == 2 and 0 < int(kept.sum()) < 12
    found = small.snapshots[-1].model.net.get_parameter("hidden1.weight")
    expected = whole.model.net.get_parameter("hidden1.weight")[:, kept][small.keep()["hidden1"]]
    torch.testing.assert_close(found, expected)


def test_plain_sampler_without_groups() -> None:
    """With a bare slab it is the sampler alone; at temperature 1 the linear model's posterior is known."""
    torch.manual_seed(0)
    x = torch.randn(200, 1)
    y = 0.7 * x[:, 0] + torch.randn(200)
    model = SparseNetwork(
        nn.Linear(1, 1, bias=False), x[:2], prior=Gaussian(0.5), likelihood=GaussianNoise(1.0), num_data=200
    )
    sampler = Sampler(lr=0.3, temperature=1.0, eta=0.0)
    plan = OneShot(cycles=1, samples_per_cycle=2000, tail=1.0, sampler=sampler)
    posterior = fit_sghmc(model, (x, y), plan, epochs=3000, batch_size=200, seed=0)
    # the step size falls, so that only the first half of the draws mixes fast enough to count
    draws = torch.cat([s.model.net.get_parameter("weight").flatten() for s in posterior.snapshots[:1000]])
    precision = float(x.square().sum()) + 4
    mean = float((x[:, 0] * y).sum()) / precision
    assert draws.mean().item() == pytest.approx(mean, abs=5 * (precision * 200) ** -0.5)
    assert draws.var().item() * precision == pytest.approx(1.0, abs=0.3)
    assert not posterior.tempered and posterior.keep() == {}


def test_em_can_be_left_out() -> None:
    posterior = fit_sghmc(network(), table(), OneShot(cycles=1, sampler=FAST, em=None), epochs=2)
    assert all(mask.all() for mask in posterior.keep().values())


def test_learned_noise() -> None:
    torch.manual_seed(0)
    data = table(1000)
    model = network(1000, likelihood=GaussianNoise())
    posterior = fit_sghmc(model, data, OneShot(cycles=1, sampler=FAST, em=EM), epochs=60, batch_size=100, seed=0)
    noise = posterior.snapshots[-1].latent
    assert noise is not None and noise.item() == pytest.approx(0.3, abs=0.05)
    assert posterior.evaluate_median(*data)["nll"] < 0.4


def test_classes_and_validation() -> None:
    torch.manual_seed(0)
    x, signal = table()
    model = network(450, likelihood=Categorical(), outputs=2)
    posterior = fit_sghmc(
        model,
        (x, (signal > 0).long()),
        OneShot(cycles=1, sampler=FAST),
        epochs=30,
        batch_size=50,
        validation=0.25,
        seed=0,
    )
    assert posterior.history[-1]["validation_accuracy"] > 0.85


def test_callback_stops() -> None:
    posterior = fit_sghmc(
        network(), table(), OneShot(cycles=1), epochs=50, callback=lambda record: record["epoch"] == 3
    )
    assert len(posterior.history) == 3 and len(posterior.snapshots) == 1


@pytest.mark.parametrize("cycles", [1, 3])
def test_snapshots_are_at_the_end_of_cycles(cycles: int) -> None:
    posterior = fit_sghmc(
        network(), table(), OneShot(cycles=cycles, samples_per_cycle=2, tail=0.0, sampler=Sampler(lr=1e-3)), epochs=12
    )
    assert len(posterior.snapshots) == 2 * cycles


def test_convolutions() -> None:
    torch.manual_seed(0)
    x = torch.randn(120, 1, 6, 6)
    y = (x.mean((1, 2, 3)) > 0).long()
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 2))
    net.get_parameter("4.weight").data[:, 32:48] *= 1e-3
    model = SparseNetwork(
        net, x[:2], prior=SpikeSlab(Gaussian(), inclusion=0.5), likelihood=Categorical(), num_data=120
    )
    em = GroupEM(hard=1e-5, warmup=1, soft=1e-4)
    posterior = fit_sghmc(
        model, (x, y), OneShot(cycles=1, sampler=Sampler(lr=1e-3), em=em), epochs=4, batch_size=40, seed=0
    )
    assert posterior.keep()["0"].tolist() == [True, True, False, True, True, True]
    small = prune(posterior)
    torch.testing.assert_close(small(x), posterior.median_model()(x))
    torch.testing.assert_close(small(x), posterior.snapshots[-1].model.call_net({}, x))
    for snapshot in posterior.snapshots:  # of these very weights, not of all that came before
        own, expected = snapshot.model.net, recompute_batch_norm(snapshot.model.net, x)
        torch.testing.assert_close(own.get_buffer("1.running_mean"), expected.get_buffer("1.running_mean"))
        torch.testing.assert_close(own.get_buffer("1.running_var"), expected.get_buffer("1.running_var"))


def test_divergence_is_told() -> None:
    with pytest.raises(ValueError, match="the loss must stay finite, got .* lower the sampler's lr"):
        fit_sghmc(network(), table(), OneShot(cycles=1, sampler=Sampler(lr=1e6), em=None), epochs=60, seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"plan": OneShot(cycles=201)}, "cycles must be at most the 200 epochs, got 201"),
        ({"plan": OneShot(em=GroupEM(hard={"conv9": 0.1}))}, "hard must name groups of nodes .* got conv9"),
        ({"engine": "fast"}, "engine must be one of auto, compiled, traced, eager, got 'fast'"),
        ({"model": nn.Linear(2, 1)}, "model must be a SparseNetwork, got Linear"),
        ({"model": network(prior=SpikeSlab(GroupLasso()))}, "prior must have a Gaussian slab"),
        ({"model": network(ROWS - 1)}, "num_data must be the number of training rows .* got 599"),
        ({"data": (torch.zeros(ROWS, 3), torch.zeros(ROWS))}, "data must have inputs of shape"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"model": network(), "data": table(), **changes}
    with pytest.raises(ValueError, match=message):
        fit_sghmc(**arguments)


def test_traced_run_is_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """Up to rounding: with removals on the way, after which the program is made anew."""
    caplog.set_level(logging.INFO, "bnn_pyro.tracing.engine")
    torch.manual_seed(0)
    data = (x := torch.randn(ROWS, 12).double(), (2 * x[:, 3]).tanh() + x[:, 7])
    model = network()
    engines: tuple[EngineName, ...] = ("eager", "traced", "auto")
    runs = [
        fit_sghmc(model, data, OneShot(cycles=1, sampler=FAST, em=EM), epochs=90, batch_size=100, seed=0, engine=engine)
        for engine in engines
    ]
    assert caplog.text.count("traced the step") >= 3
    whole, *others = (run.snapshots[-1].model.net.state_dict() for run in runs)
    for other in others:
        for name, value in whole.items():
            torch.testing.assert_close(other[name], value)


@pytest.mark.parametrize("stopped_after", [3, 14, 27])
def test_a_run_that_was_stopped_is_resumed_with_the_same_result(stopped_after: int, tmp_path: Path) -> None:
    """Stopped before nodes are removed, while they are, and afterwards; and read once it is finished."""
    torch.manual_seed(0)
    (x, y), path = table(200), tmp_path / "run.pt"
    em = GroupEM(spike=0.1, hard=3e-3, warmup=8)
    plan = OneShot(cycles=2, samples_per_cycle=3, sampler=FAST, em=em)
    model = network(160, likelihood=GaussianNoise())

    def stop(record: Any) -> None:
        if record["epoch"] == stopped_after:
            signal.raise_signal(signal.SIGINT)

    def run(**changes: Any) -> Any:
        given: dict[str, Any] = {"epochs": 30, "batch_size": 40, "validation": 0.2, "seed": 0, "progress": False}
        return fit_sghmc(model, (x, y), **{"plan": plan, **given, **changes})

    expected = run()
    assert expected.history[-1]["nodes_kept"]["inputs"] < 12
    with pytest.raises(Interrupted, match=f"stopped after {stopped_after} of 30 epochs; the same call resumes it from"):
        run(checkpoint=path, callback=stop)
    for _ in range(2):
        again = run(checkpoint=path)
        assert torch.equal(again.predict(x, return_draws=True).mean, expected.predict(x, return_draws=True).mean)
        unlike = [{k: v for k, v in r.items() if k != "seconds"} for h in (again, expected) for r in h.history]
        assert unlike[:30] == unlike[30:] and len(again.snapshots) == len(expected.snapshots)
    with pytest.raises(ValueError, match="plan.cycles must be 2, as when the run in .* was begun, got 3"):
        run(checkpoint=path, plan=OneShot(cycles=3, samples_per_cycle=3, sampler=FAST, em=em))
